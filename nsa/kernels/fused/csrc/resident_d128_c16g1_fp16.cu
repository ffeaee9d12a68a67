#include "resident_launch.cuh"

template cudaError_t nsa::core::launch_resident<128, 16, 1, false>(const Call &, cudaStream_t);
