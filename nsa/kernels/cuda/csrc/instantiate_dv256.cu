#include "launch.cuh"

template cudaError_t nsa::launch_width<256>(bool, const Params &, int, int, Plan, cudaStream_t);
