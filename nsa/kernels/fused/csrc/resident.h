// Launches of the resident kernel: one translation unit for each width of keys, number of thread
// blocks a row and of groups of 64 compressed tokens, and each dtype.
#pragma once
#include "stream.h"

namespace nsa::core {

template <int D, int Ranks, int Groups, bool Bf16> cudaError_t launch_resident(const Call &call, cudaStream_t stream);

}  // namespace nsa::core
