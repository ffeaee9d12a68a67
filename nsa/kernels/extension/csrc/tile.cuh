// A tile of 16 tokens in shared memory: its layout, and the copies that fill it.
#pragma once
#include "ptx.cuh"
#include "sizes.h"

namespace nsa {

// Where 16-byte chunk `c` of row `r` lies, in chunks from the row's start. K is read 2 rows x 4 chunks at a time
// (LDS.128), V 8 rows x 1 chunk (ldmatrix): each layout spreads its own pattern over all 32 banks.
NSA_DEVICE int swizzle_k(int row, int c, int chunks) { return chunks % 8 == 0 ? c ^ ((row & 1) << 2) : c; }
NSA_DEVICE int swizzle_v(int row, int c, int chunks) { return chunks % 8 == 0 ? c ^ (row & 7) : c ^ ((row >> 1) & 3); }

// Start copying 16 rows of `chunks` chunks; rows from `valid` on are filled with zeros and not read. `stride` in
// chunks. Chunks == 0: `chunks` at run time.
template <bool IsV, int Chunks>
NSA_DEVICE void copy_tile(uint32_t dst, const uint4 *src, uint32_t stride, int valid, int chunks, int lane,
                          uint64_t policy) {
  const auto copy = [&](int row, int c, const uint4 *from) {
    const int n = Chunks ? Chunks : chunks, at = IsV ? swizzle_v(row, c, n) : swizzle_k(row, c, n);
    copy_async16(dst + (row * n + at) * 16, from, row < valid ? 16 : 0, policy);
  };
  if constexpr (Chunks == 0) {  // 8 rows x 4 chunks a warp: any multiple of 32 columns, no division
    const uint4 *from = src + static_cast<uint64_t>(lane >> 2) * stride;
    const uint4 *other = from + static_cast<uint64_t>(8) * stride;
#pragma unroll 1
    for (int c = lane & 3; c < chunks; c += 4) {
      copy(lane >> 2, c, from + c);
      copy((lane >> 2) + 8, c, other + c);
    }
  } else if constexpr (32 % Chunks == 0) {  // whole rows: one pointer, stepped
    constexpr int kRows = 32 / Chunks;
    const int row = lane / Chunks, c = lane % Chunks;
    const uint4 *from = src + static_cast<uint64_t>(row) * stride + c;
#pragma unroll
    for (int i = 0; i < kTileTokens / kRows; ++i, from += static_cast<uint64_t>(kRows) * stride)
      copy(i * kRows + row, c, from);
  } else {
#pragma unroll
    for (int i = 0; i < kTileTokens * Chunks / 32; ++i) {
      const int row = (i * 32 + lane) / Chunks, c = (i * 32 + lane) % Chunks;
      copy(row, c, src + static_cast<uint64_t>(row) * stride + c);
    }
  }
}

}  // namespace nsa
