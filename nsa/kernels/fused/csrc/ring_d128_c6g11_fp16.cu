#include "ring_launch.cuh"

template cudaError_t nsa::core::launch_ring<128, 6, 11, false>(const Call &, cudaStream_t);
