// One call of the kernel, as the host describes it, in the order in which the kernel needs it: constants are cold too.
#pragma once
#include <cstdint>

namespace nsa {

constexpr int kTileTokens = 16;  // one tensor-core step of P·V; divides every block size
constexpr int kWarps = 4;        // warps in a thread block
constexpr int kMaxHeads = 16;    // rows of the tensor-core tile
constexpr int kMaxCluster = 16;  // thread blocks that share a row (more than 8 needs the non-portable attribute)
constexpr int kPartBytes = 24;   // of 4 output columns of one head: 4 floats, the maximum and the sum

struct Params {
  const int32_t *block_indices, *seq_lens;
  uint32_t i_b, i_g;            // elements
  int32_t blocks, capacity;
  const void *q, *k, *v;
  uint32_t q_b, q_g, q_h;       // 16-byte units; the last dimension is contiguous
  int32_t heads;
  uint32_t k_b, k_g, k_s, v_b, v_g, v_s;
  int32_t tile_shift;           // log2(block size / 16)
  int32_t dim;
  float scale_log2;             // log2(e) / sqrt(D)
  void *o;
  uint32_t o_b, o_g, o_h;       // 8-byte units
  int32_t unit_shift;           // log2(output units that one thread block of a cluster owns)
  void *scratch;                // without clusters: where the parts of split rows meet
};

} // namespace nsa
