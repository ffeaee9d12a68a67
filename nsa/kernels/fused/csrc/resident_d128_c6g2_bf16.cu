#include "resident_launch.cuh"

template cudaError_t nsa::core::launch_resident<128, 6, 2, true>(const Call &, cudaStream_t);
