#include "ring_launch.cuh"

template cudaError_t nsa::core::launch_ring<128, 8, 8, false>(const Call &, cudaStream_t);
