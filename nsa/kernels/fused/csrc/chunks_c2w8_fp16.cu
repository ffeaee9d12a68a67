#include "stream_launch.cuh"

template cudaError_t nsa::core::launch_chunks<2, 8, false>(const Call &, cudaStream_t);
