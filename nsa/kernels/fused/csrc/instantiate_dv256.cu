#include "launch.cuh"

template cudaError_t nsa::core::launch_width<256>(const Call &, cudaStream_t);
