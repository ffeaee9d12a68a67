#include "stream_launch.cuh"

template cudaError_t nsa::core::launch_stream<12, 8, true>(const Call &, cudaStream_t);
