#include "resident_launch.cuh"

template cudaError_t nsa::core::launch_resident<192, 6, 2, false>(const Call &, cudaStream_t);
