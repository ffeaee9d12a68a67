// One launch of the kernel, as the host describes it. A kernel's parameters are constants that nothing has cached when
// a launch starts, so the first touch of each line of them waits for memory: the fields are few, and stand in the order
// in which the kernel reads them.
#pragma once
#include <cstdint>

#include "sizes.h"

namespace nsa {

constexpr int kWarps = 4;        // warps in a thread block
constexpr int kMaxCluster = 16;  // thread blocks that share a row (more than 8 needs the non-portable attribute)
constexpr int kPartBytes = 24;   // of 4 output columns of one head: 4 floats, the maximum and the sum

// Strides are named tensor_axis: b sequence, g group, h head, s token. The last dimension of every tensor is
// contiguous. "16 bytes" and "8 bytes" are the units that a stride counts: 8 and 4 elements of the 2-byte dtype.
struct Params {
  const int32_t *block_indices;  // [B, G, n], ascending, -1 at the end of a row
  const int32_t *seq_lens;       // [B], contiguous
  uint32_t i_b, i_g;             // of block_indices; elements
  int32_t blocks;                // n
  int32_t capacity;              // S_max, tokens that K and V have room for
  const void *q;                 // [B, G, h, D], float16 or bfloat16
  const void *k;                 // [B, G, S_max, D], dtype of q
  const void *v;                 // [B, G, S_max, Dv], dtype of q
  uint32_t q_b, q_g, q_h;        // of q; 16 bytes
  int32_t heads;                 // h
  uint32_t k_b, k_g, k_s;        // of k; 16 bytes
  uint32_t v_b, v_g, v_s;        // of v; 16 bytes
  int32_t tile_shift;            // log2(tiles in a block) = log2(l' / 16)
  int32_t dim;                   // D
  float scale_log2;              // log2(e) / sqrt(D): exponentials are powers of two
  void *o;                       // [B, G, h, Dv], dtype of q
  uint32_t o_b, o_g, o_h;        // of o; 8 bytes
  int32_t unit_shift;            // log2(units of 4 output columns that one thread block of a cluster sums)
  void *scratch;                 // split rows without clusters: [B, G, splits, h * Dv / 4] float4 outputs, then as many
                                 // float2 (maximum, sum); otherwise nullptr
};

}  // namespace nsa
