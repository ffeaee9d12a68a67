#include "ring_launch.cuh"

template cudaError_t nsa::core::launch_ring<128, 16, 8, true>(const Call &, cudaStream_t);
