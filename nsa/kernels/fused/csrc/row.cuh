// What the one-launch kernels share: the paper's geometry, where a row's data lies, 16-token tiles in shared memory.
#pragma once
#include "call.h"
#include "messages.cuh"

namespace nsa::core {

// Tokens a compressed token spans, between two of them, in a selection block: with these a tile of 16 compressed tokens
// is 4 blocks, and a token that is the last of a block counts half for it and half for the next one.
constexpr int kCmpBlock = 32, kCmpStride = 16, kSelBlock = 64;
constexpr int kMostBlocks = 16, kForcedBlocks = 3, kFree = kMostBlocks - kForcedBlocks;

struct Row {
  int batch, group, length, compressed, blocks;  // length: tokens; compressed: tokens; blocks: S_blk

  NSA_DEVICE Row(const Params &p, int batch, int group) : batch(batch), group(group) {
    length = min(max(__ldg(p.seq_lens + batch), 0), p.capacity);
    compressed = length < kCmpBlock ? 0 : (length - kCmpBlock) / kCmpStride + 1;
    blocks = (length + kSelBlock - 1) / kSelBlock;
  }
  NSA_DEVICE const uint4 *at(const Cache &c, int token) const {
    return static_cast<const uint4 *>(c.base) + static_cast<uint64_t>(batch) * c.b +
           static_cast<uint64_t>(group) * c.g + static_cast<int64_t>(token) * c.s;
  }
};

// Where 16-byte unit c of row r lies in a tile whose rows are W elements: eight rows of one column in eight banks.
template <int W> NSA_DEVICE uint32_t place(int r, int c) { return r * (W * 2) + ((c ^ (r & 7)) << 4); }

// A warp copies 16 rows of W elements; those from `valid` on become zeros and are not read.
template <int W> NSA_DEVICE void copy_tile16(uint32_t tile, const uint4 *from, uint32_t stride, int valid, int lane) {
  const int r0 = lane >> 3, c0 = lane & 7;
  const uint32_t to = tile + place<W>(r0, c0);
  from += static_cast<uint64_t>(r0 < valid ? r0 : 0) * stride + c0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const bool there = r0 + 4 * i < valid;
    const uint4 *row = there ? from + static_cast<uint64_t>(4 * i) * stride : from;
#pragma unroll
    for (int j = 0; j < W / 64; ++j) copy16((to ^ ((i & 1) << 6)) + i * (W * 8) + j * 128, row + j * 8, there);
  }
}

// Fragments of q, rows g and g + 8; rows beyond the last head repeat it, and their results are never used.
template <int D> struct Rows {
  uint32_t f[D / 16][4];
  NSA_DEVICE void load(const Params &p, const Row &row, int lane) {
    const int g = lane >> 2, t = lane & 3;
    const uint64_t at = static_cast<uint64_t>(row.batch) * p.q_b + static_cast<uint64_t>(row.group) * p.q_g;
    const uint32_t *lo = reinterpret_cast<const uint32_t *>(static_cast<const uint4 *>(p.q) + at +
                                                            static_cast<uint64_t>(min(g, p.heads - 1)) * p.q_h) +
                         t;
    const uint32_t *hi = reinterpret_cast<const uint32_t *>(static_cast<const uint4 *>(p.q) + at +
                                                            static_cast<uint64_t>(min(g + 8, p.heads - 1)) * p.q_h) +
                         t;
#pragma unroll
    for (int k = 0; k < D / 16; ++k)
      f[k][0] = __ldg(lo + 8 * k), f[k][1] = __ldg(hi + 8 * k), f[k][2] = __ldg(lo + 8 * k + 4),
      f[k][3] = __ldg(hi + 8 * k + 4);
  }
};

template <typename T> NSA_DEVICE float gate_of(const Params &p, const Row &row, int head, int branch) {
  const T *gates = static_cast<const T *>(p.gates) + static_cast<uint64_t>(row.batch) * p.gates_b +
                   static_cast<uint64_t>(row.group) * p.gates_g;
  return head < p.heads ? static_cast<float>(gates[head * p.gates_h + branch]) : 0.f;
}

// Key of a candidate: greater is better, of equal importance the lower block; 0 is none.
NSA_DEVICE uint64_t key_of(uint32_t importance, int block) {
  return importance ? static_cast<uint64_t>(importance) << 32 | (0xffffffffu - static_cast<uint32_t>(block)) : 0;
}
NSA_DEVICE int block_of(uint64_t key) { return static_cast<int>(0xffffffffu - static_cast<uint32_t>(key)); }

}  // namespace nsa::core
