// One launch of a core's kernel, as the host describes it. Symbols as in docs/method.md.
#pragma once
#include <cstdint>

namespace nsa::core {

constexpr int kHeadRows = 16;      // rows of the tensor-core tile: heads beyond h are padding
constexpr int kSharedKeys = 4096;  // blocks whose keys routing has in shared memory

// Strides are of the axes b (sequence), g (group), h (head), s (token); the last dimension is contiguous.
struct Cache {
  const void *base;
  uint32_t b, g, s;  // 16 bytes
};

struct Params {
  // What the first copies of a cluster need lies together: constants arrive by 64 bytes.
  const int32_t *seq_lens;  // [B]
  Cache k_cmp;
  int32_t capacity;        // S of the caches
  const void *q;           // [B, G, h, D]
  uint32_t q_b, q_g, q_h;  // 16 bytes
  int32_t heads, dim;      // h, D
  float scale_log2;        // log2(e) / sqrt(D): exponentials are powers of two
  Cache v_cmp, k_sel, v_sel, k_win, v_win;
  const void *gates;                    // [B, G, h, 3]
  uint32_t gates_b, gates_g, gates_h;   // elements
  void *o;                              // [B, G, h, Dv]
  uint32_t o_b, o_g, o_h;               // 8 bytes
  int32_t *block_indices;               // [B, G, n]
  uint32_t i_b, i_g;                    // elements
  int32_t l, d, block, blocks, window;  // l, d, l', n, w
  int32_t cover, cells;                 // l / d and l' / d: what a compressed token, and a block, spans of d tokens

  // The three-launch kernels: how a row is split, and where its parts meet.
  int32_t chunk_blocks, chunks;    // blocks whose compressed tokens one thread block reads; chunks at capacity
  int32_t spill;                   // blocks beyond a chunk's last that its tokens reach into
  int32_t win_tokens, win_splits;  // window tokens a thread block
  int32_t sel_tokens, sel_splits;  // selected tokens a thread block
  float *parts_o;                  // [rows, parts, h, Dv], unnormalised; parts: chunks, window's, selected's
  float2 *parts_ml;                // [rows, parts, 16]: maximum (scaled) and sum
  float *sums;                     // [rows, chunks, chunk_blocks + spill, 16]: block sums over a chunk's tokens
  uint32_t *keys;                  // [rows, selected's parts, S_blk at capacity] where shared memory has no room
  uint32_t *stored;                // [rows, parts]: how much of a part is there (csrc/order.cuh)
};

}  // namespace nsa::core
