// Launches of the streaming kernel: one translation unit for each number of thread blocks a row, of
// warps a thread block, and each dtype.
#pragma once
#include "call.h"

namespace nsa::core {

// Parts that the one-launch kernels are built for: the arms of a decode cell but `none` (docs/decode_cell.md#arms).
#define NSA_CORE_ARMS(X) X(1) X(3) X(4) X(8) X(11) X(15)

template <int C, int Warps, bool Bf16> cudaError_t launch_stream(const Call &call, cudaStream_t stream);

// Longer rows, of D = Dv = 128: each warp takes whole chunks of compressed tiles, so that sums take less room.
template <int C, int Warps, bool Bf16> cudaError_t launch_chunks(const Call &call, cudaStream_t stream);

}  // namespace nsa::core
