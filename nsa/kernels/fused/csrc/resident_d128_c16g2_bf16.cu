#include "resident_launch.cuh"

template cudaError_t nsa::core::launch_resident<128, 16, 2, true>(const Call &, cudaStream_t);
