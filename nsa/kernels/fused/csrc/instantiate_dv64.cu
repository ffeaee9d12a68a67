#include "launch.cuh"

template cudaError_t nsa::core::launch_width<64>(const Call &, cudaStream_t);
