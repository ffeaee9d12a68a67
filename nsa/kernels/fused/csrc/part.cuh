// A thread block's attention over a list of ascending tokens of one row: every warp streams 16-token tiles through a
// place of its own, then the warps' results are summed in order and stored as one part.
#pragma once
#include "attend.cuh"
#include "messages.cuh"
#include "params.h"
#include "sizes.h"

namespace nsa::core {

constexpr int kPad = 8;  // floats between rows of a warp's output

struct PartShared {
  static constexpr int kBytes = kHeadRows * kWarps * 8;
  float2 (*ml)[kWarps];  // [16 heads][warps]: maximum (scaled) and sum
  NSA_DEVICE explicit PartShared(unsigned char *base) : ml(reinterpret_cast<float2 (*)[kWarps]>(base)) {}
};

NSA_DEVICE float part_maximum(const PartShared &sh, int head) {
  float m = sh.ml[head][0].x;
#pragma unroll
  for (int w = 1; w < kWarps; ++w) m = fmaxf(m, sh.ml[head][w].x);
  return m;
}

__host__ __device__ constexpr int ring_bytes(int dim, int dv) {
  const int tile = kTileTokens * (dim + dv) * 2, output = kHeadRows * (dv + kPad) * 4;
  return ((tile > output ? tile : output) + 127) & ~127;
}

// 16 rows of `chunks` 16-byte units; a lane copies parts of rows lane / 4 and lane / 4 + 8, whose tokens it is given.
template <bool IsV>
NSA_DEVICE void copy_rows(uint32_t dst, const uint4 *base, uint32_t stride, const int (&token)[2], int valid,
                          int chunks, int lane) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = (lane >> 2) + 8 * r;
    const bool there = row < valid;
    const uint4 *from = base + static_cast<uint64_t>(there ? token[r] : 0) * stride;
#pragma unroll 4
    for (int c = lane & 3; c < chunks; c += 4) {
      const int at = IsV ? swizzle_v(row, c, chunks) : swizzle_k(row, c, chunks);
      copy16(dst + (row * chunks + at) * 16, from + c, there);
    }
  }
}

// token(i) of i < count, ascending. `scores`, if given, receives raw scores [count, 16 heads], -inf for no head.
template <typename T, int DV, typename Token>
NSA_DEVICE void attend_part(const Params &p, const Cache &k, const Cache &v, int batch, int group, int count,
                            Token token, const PartShared &sh, unsigned char *rings, float *scores, uint64_t part) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  const auto at = [&](const void *base, uint32_t b, uint32_t gr) {
    return static_cast<const uint4 *>(base) + (static_cast<uint64_t>(batch) * b + static_cast<uint64_t>(group) * gr);
  };
  const uint64_t policy = evict_first_policy();
  const uint4 *k_row = at(k.base, k.b, k.g), *v_row = at(v.base, v.b, v.g);
  const int ring_size = ring_bytes(p.dim, DV);
  const uint32_t ring = shared_address(rings) + warp * ring_size, v_tile = ring + kTileTokens * p.dim * 2;
  const auto tokens = [&](int tile, int (&rows)[2]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) rows[r] = tile + g + 8 * r < count ? token(tile + g + 8 * r) : 0;
  };
  const auto copy = [&](bool is_v, int tile, const int (&rows)[2]) {
    if (tile < count) {
      if (is_v) copy_rows<true>(v_tile, v_row, v.s, rows, count - tile, DV / 8, lane);
      else copy_rows<false>(ring, k_row, k.s, rows, count - tile, p.dim / 8, lane);
    }
    copy_commit();
  };
  int tile = warp * kTileTokens, rows[2];
  tokens(tile, rows);
  copy(false, tile, rows), copy(true, tile, rows);
  Query<0, true> q;
  q.load(at(p.q, p.q_b, p.q_g), p.q_h, p.heads, p.dim, lane, policy);
  State<DV, true> state;
  state.clear();
#pragma unroll 1
  for (; tile < count; tile += kWarps * kTileTokens) {
    const int next = tile + kWarps * kTileTokens;
    tokens(next, rows);
    float s[2][4];
    copy_wait<1>();
    __syncwarp();
    nsa::scores<T, 0, true>(s, q, ring, p.dim, lane);
    __syncwarp();
    copy(false, next, rows);
    if (scores != nullptr) {
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int at_token = tile + i * 8 + t * 2 + (e & 1), head = g + 8 * (e >> 1);
          if (at_token < count) scores[at_token * kHeadRows + head] = s[i][e];
        }
    }
    softmax_step<DV, true>(s, state, count - tile, p.scale_log2, lane);
    copy_wait<1>();
    __syncwarp();
    weigh_values<T, DV, true>(state, s, v_tile, lane);
    __syncwarp();
    copy(true, next, rows);
  }
  copy_wait<0>();
  __syncwarp();
  float *mine = reinterpret_cast<float *>(rings + warp * ring_size);
  quad_sum(state.l);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int head = g + 8 * r;
    if (t == 0) sh.ml[head][warp] = make_float2(state.m[r] * p.scale_log2, state.l[r]);
#pragma unroll
    for (int i = 0; i < DV / 8; ++i)
      *reinterpret_cast<float2 *>(mine + head * (DV + kPad) + i * 8 + t * 2) =
          make_float2(state.o[i][2 * r], state.o[i][2 * r + 1]);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < p.heads * (DV / 4); i += kWarps * 32) {
    const int head = i / (DV / 4), column = i % (DV / 4) * 4;
    const float m = part_maximum(sh, head);  // finite: every part has a token
    float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
    float l = 0.f;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const float2 ml = sh.ml[head][w];
      const float f = exp2_fast(ml.x - m);
      const float4 o = *reinterpret_cast<const float4 *>(reinterpret_cast<const float *>(rings + w * ring_size) +
                                                         head * (DV + kPad) + column);
      sum.x = fmaf(f, o.x, sum.x), sum.y = fmaf(f, o.y, sum.y), sum.z = fmaf(f, o.z, sum.z),
      sum.w = fmaf(f, o.w, sum.w);
      l = fmaf(f, ml.y, l);
    }
    reinterpret_cast<float4 *>(p.parts_o)[part * p.heads * (DV / 4) + i] = sum;
    if (column == 0) p.parts_ml[part * kHeadRows + head] = make_float2(m, l);
  }
}

}  // namespace nsa::core
