#include "ring_launch.cuh"

template cudaError_t nsa::core::launch_ring<192, 8, 16, true>(const Call &, cudaStream_t);
