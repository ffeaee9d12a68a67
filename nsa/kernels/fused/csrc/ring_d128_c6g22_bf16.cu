#include "ring_launch.cuh"

template cudaError_t nsa::core::launch_ring<128, 6, 22, true>(const Call &, cudaStream_t);
