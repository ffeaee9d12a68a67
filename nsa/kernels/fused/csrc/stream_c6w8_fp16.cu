#include "stream_launch.cuh"

template cudaError_t nsa::core::launch_stream<6, 8, false>(const Call &, cudaStream_t);
