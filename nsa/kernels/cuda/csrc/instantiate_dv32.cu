#include "launch.cuh"

template cudaError_t nsa::launch_width<32>(bool, const Params &, int, int, Plan, cudaStream_t);
