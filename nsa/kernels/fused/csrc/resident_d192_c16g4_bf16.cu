#include "resident_launch.cuh"

template cudaError_t nsa::core::launch_resident<192, 16, 4, true>(const Call &, cudaStream_t);
