// Sizes of the tensor-core tile, which every kernel shares.
#pragma once

namespace nsa {

constexpr int kTileTokens = 16;  // one tensor-core step of P·V
constexpr int kMaxHeads = 16;    // rows of the tensor-core tile

constexpr bool has_dim(long d) { return d == 32 || d == 64 || d == 96 || d == 128 || d == 192 || d == 256; }

}  // namespace nsa
