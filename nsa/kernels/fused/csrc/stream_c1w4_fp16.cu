#include "stream_launch.cuh"

template cudaError_t nsa::core::launch_stream<1, 4, false>(const Call &, cudaStream_t);
