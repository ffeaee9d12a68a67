// What the one-launch kernels share: the paper's geometry, where a row's data lies, 16-token tiles in shared memory.
#pragma once
#include "call.h"
#include "messages.cuh"

namespace nsa::core {

// Tokens a compressed token spans, between two of them, in a selection block: with these a tile of 16 compressed tokens
// is 4 blocks, and a token that is the last of a block counts half for it and half for the next one.
constexpr int kCmpBlock = 32, kCmpStride = 16, kSelBlock = 64;
constexpr int kMostBlocks = 16, kForcedBlocks = 3, kFree = kMostBlocks - kForcedBlocks;

// The number of tokens, asked for before anything else: what is asked for by capacity need not wait for it. `settle`
// keeps the compiler from using it earlier than there.
NSA_DEVICE int load_length(const Params &p, int batch) {
  int length;
  asm volatile("ld.global.nc.b32 %0, [%1];" : "=r"(length) : "l"(p.seq_lens + batch) : "memory");
  return length;
}
NSA_DEVICE void settle(int &x) { asm volatile("" : "+r"(x)::"memory"); }

struct Row {
  int batch, group, length, compressed, blocks;  // length: tokens; compressed: tokens; blocks: S_blk

  NSA_DEVICE Row(int batch, int group) : batch(batch), group(group) {}
  NSA_DEVICE void measure(const Params &p, int asked) {
    settle(asked);
    length = min(max(asked, 0), p.capacity);
    compressed = length < kCmpBlock ? 0 : (length - kCmpBlock) / kCmpStride + 1;
    blocks = (length + kSelBlock - 1) / kSelBlock;
  }
  NSA_DEVICE const uint4 *at(const Cache &c, int token) const {
    return static_cast<const uint4 *>(c.base) + static_cast<uint64_t>(batch) * c.b +
           static_cast<uint64_t>(group) * c.g + static_cast<int64_t>(token) * c.s;
  }
};

// Where 16-byte unit c of row r lies in a tile whose rows are W elements: eight rows of one column in eight banks. Two
// rows of 32 elements share the banks.
template <int W> NSA_DEVICE int swizzle(int r) { return W < 64 ? r >> 1 & 3 : r & 7; }
template <int W> NSA_DEVICE uint32_t place(int r, int c) { return r * (W * 2) + ((c ^ swizzle<W>(r)) << 4); }

// A warp copies 16 rows of W elements; those from `valid` on become zeros and are not read.
template <int W> NSA_DEVICE void copy_tile16(uint32_t tile, const uint4 *from, uint32_t stride, int valid, int lane) {
  constexpr int kColumns = W < 64 ? W / 8 : 8, kTurn = 32 / kColumns;  // units and rows of one turn
  const int r0 = lane / kColumns, c0 = lane % kColumns;
  const uint32_t to = tile + place<W>(r0, c0);
  const uint64_t step = static_cast<uint64_t>(kTurn) * stride;
  from += static_cast<uint64_t>(r0) * stride + c0;
#pragma unroll
  for (int i = 0; i < 16 / kTurn; ++i, from += step) {
    const bool there = r0 + kTurn * i < valid;
    const uint32_t row = (to ^ ((W < 64 ? 0 : i & 1) << 6)) + i * (kTurn * W * 2);
#pragma unroll
    for (int j = 0; j < W / 8 / kColumns; ++j) copy16(row + j * 128, from + j * 8, there);
  }
}

// Rows from `valid` on become zeros: values that no token has, whatever lies there.
template <int W> NSA_DEVICE void clear_rows(uint32_t tile, int valid, int lane) {
  for (int i = max(valid, 0) * (W / 8) + lane; i < 16 * W / 8; i += 32)
    asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(tile + i * 16), "r"(0) : "memory");
  __syncwarp();
}

// q in shared memory: rows beyond the last head repeat it, and their results are never used.
template <int D, int Threads> NSA_DEVICE void copy_q(const Params &p, const Row &row, uint32_t to, int thread) {
  const uint4 *q = static_cast<const uint4 *>(p.q) + static_cast<uint64_t>(row.batch) * p.q_b +
                   static_cast<uint64_t>(row.group) * p.q_g;
#pragma unroll
  for (int i = 0; i < 16 * D / 8; i += Threads) {
    const int unit = i + thread, r = unit / (D / 8), c = unit % (D / 8);
    if (r < 16) copy16(to + place<D>(r, c), q + static_cast<uint64_t>(min(r, p.heads - 1)) * p.q_h + c, true);
  }
}

// Fragments of q, rows g and g + 8. Wide ones would not leave registers enough: they stay in shared memory.
template <int D> struct Rows {
  static constexpr bool kHeld = D <= 128;
  uint32_t f[kHeld ? D / 16 : 1][4], at, unit;

  NSA_DEVICE void load(uint32_t from, int lane) {
    at = from + (lane & 15) * D * 2, unit = (lane >> 4) ^ swizzle<D>(lane & 15);
    if constexpr (kHeld)
#pragma unroll
      for (int k = 0; k < D / 16; ++k) load_matrix(f[k], at + ((unit ^ (2 * k)) << 4));
  }
  NSA_DEVICE void fragment(uint32_t (&a)[4], int k) const {
    if constexpr (kHeld) a[0] = f[k][0], a[1] = f[k][1], a[2] = f[k][2], a[3] = f[k][3];
    else load_matrix(a, at + ((unit ^ (2 * k)) << 4));
  }
};

// A gate's bits: asked for early, and not waited for before gate_of. Heads beyond the last repeat it.
NSA_DEVICE uint16_t load_gate(const Params &p, const Row &row, int head, int branch) {
  const uint16_t *gates = static_cast<const uint16_t *>(p.gates) + static_cast<uint64_t>(row.batch) * p.gates_b +
                          static_cast<uint64_t>(row.group) * p.gates_g;
  uint16_t bits;
  asm volatile("ld.global.nc.b16 %0, [%1];" : "=h"(bits) : "l"(gates + min(head, p.heads - 1) * p.gates_h + branch));
  return bits;
}
template <typename T> NSA_DEVICE float gate_of(uint16_t bits) {
  asm volatile("" : "+h"(bits));
  T gate;
  memcpy(&gate, &bits, sizeof gate);
  return static_cast<float>(gate);
}

// Key of a candidate: greater is better, of equal importance the lower block; 0 is none.
NSA_DEVICE uint64_t key_of(uint32_t importance, int block) {
  return importance ? static_cast<uint64_t>(importance) << 32 | (0xffffffffu - static_cast<uint32_t>(block)) : 0;
}
NSA_DEVICE int block_of(uint64_t key) { return static_cast<int>(0xffffffffu - static_cast<uint32_t>(key)); }

}  // namespace nsa::core
