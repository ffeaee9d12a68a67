#include "ring_launch.cuh"

template cudaError_t nsa::core::launch_ring<6, 22, false>(const Call &, cudaStream_t);
