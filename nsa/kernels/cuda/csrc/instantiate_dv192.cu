#include "launch.cuh"

template cudaError_t nsa::launch_width<192>(bool, const Params &, int, int, Plan, cudaStream_t);
