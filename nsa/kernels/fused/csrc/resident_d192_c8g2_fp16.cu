#include "resident_launch.cuh"

template cudaError_t nsa::core::launch_resident<192, 8, 2, false>(const Call &, cudaStream_t);
