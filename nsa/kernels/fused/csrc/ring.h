// Launches of the ring kernel: one translation unit for each number of thread blocks a row, of groups of 64 compressed
// tokens, and each dtype.
#pragma once
#include "stream.h"

namespace nsa::core {

template <int Ranks, int Groups, bool Bf16> cudaError_t launch_ring(const Call &call, cudaStream_t stream);

}  // namespace nsa::core
