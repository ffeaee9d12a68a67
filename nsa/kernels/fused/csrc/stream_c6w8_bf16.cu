#include "stream_launch.cuh"

template cudaError_t nsa::core::launch_stream<6, 8, true>(const Call &, cudaStream_t);
