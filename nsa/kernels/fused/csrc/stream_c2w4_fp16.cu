#include "stream_launch.cuh"

template cudaError_t nsa::core::launch_stream<2, 4, false>(const Call &, cudaStream_t);
