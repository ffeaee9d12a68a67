#include "stream_launch.cuh"

template cudaError_t nsa::core::launch_stream<2, 4, true>(const Call &, cudaStream_t);
