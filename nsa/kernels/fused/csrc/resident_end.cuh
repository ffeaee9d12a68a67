// The end of the resident kernel's critical path: a thread block attends to its selected blocks, then sums its heads.
#pragma once
#include "resident_blocks.cuh"

namespace nsa::core {

// Threads of a half sum one or two of a thread block's heads a turn.
template <typename Shared> struct HeadTurns {
  static constexpr int kLanes = Shared::kRanks == 16 ? 2 : 1;
  static constexpr int kTurns = (Shared::kShare * 128 * kLanes + kHalf - 1) / kHalf;
};

#if __CUDA_ARCH__ >= 900

// The blocks' keys have been asked for, by this half, and their values, by the other; every thread block gets its
// heads' share.
template <typename T, typename Shared, int Parts>
NSA_DEVICE void attend_blocks(const Half<Shared> &me, uint32_t (&q)[Shared::kD / 16][4],
                              const int (&block)[Shared::kShare]) {
  const Params &p = me.p;
  unsigned char *shared = me.shared;
  const uint32_t base = me.base;
  const int warp = me.warp, lane = me.lane, rank = me.rank, g = lane >> 2, t = lane & 3;
  float *max_w = me.floats(Shared::max_a), *sum_w = me.floats(Shared::sum_a);  // [16 heads][8 warps]
  int here[Shared::kShare];
#pragma unroll
  for (int i = 0; i < Shared::kShare; ++i) here[i] = tokens_of(block[i], me.row.length);
  copy_wait<0>();
  half_sync<kBarPath>();
  if (!(Parts & kCmp)) me.read_q(q, Shared::q);
  float s[Shared::kShare][4], m0 = -INFINITY, m1 = -INFINITY;
  const int c = warp * 8 + 2 * t;
#pragma unroll
  for (int i = 0; i < Shared::kShare; ++i) {
    score8<T>(s[i], q, base + Shared::k_sel + (i * 8 + warp) * 8 * Shared::kKey, p.scale_log2, lane);
    if (c >= here[i]) s[i][0] = s[i][2] = -INFINITY;
    if (c + 1 >= here[i]) s[i][1] = s[i][3] = -INFINITY;
    m0 = fmaxf(m0, fmaxf(s[i][0], s[i][1])), m1 = fmaxf(m1, fmaxf(s[i][2], s[i][3]));
  }
  m0 = quad_max1(m0), m1 = quad_max1(m1);
  if (t == 0) max_w[of_warp(g, warp)] = m0, max_w[of_warp(g + 8, warp)] = m1;
  half_sync<kBarPath>();
  m0 = finite(max8(max_w + g * 8)), m1 = finite(max8(max_w + (g + 8) * 8));
  float l0 = 0.f, l1 = 0.f;
#pragma unroll
  for (int i = 0; i < Shared::kShare; ++i) {
    const float p0 = exp2_fast(s[i][0] - m0), p1 = exp2_fast(s[i][1] - m0), p2 = exp2_fast(s[i][2] - m1),
                p3 = exp2_fast(s[i][3] - m1);
    unsigned char *to = shared + Shared::p_sel + g * Shared::p_sel_row + (i * kSelBlock + c) * 2;
    *reinterpret_cast<uint32_t *>(to) = Element<T>::pack(p0, p1);
    *reinterpret_cast<uint32_t *>(to + 8 * Shared::p_sel_row) = Element<T>::pack(p2, p3);
    l0 += p0 + p1, l1 += p2 + p3;
  }
  l0 = quad_sum1(l0), l1 = quad_sum1(l1);
  if (t == 0) sum_w[of_warp(g, warp)] = l0, sum_w[of_warp(g + 8, warp)] = l1;
  take_over<kBarValues>();
  float o[2][4] = {}, odd[2][4] = {};  // of even and odd steps
#pragma unroll
  for (int block = 0; block < Shared::kShare; ++block) {
    uint32_t a[4][4], v[4][4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      load_matrix(a[k], base + Shared::p_sel + (lane & 15) * Shared::p_sel_row +
                            (block * kSelBlock / 8 + 2 * k + (lane >> 4)) * 16);
      load_matrix_trans(
          v[k], base + Shared::v_sel + place<128>(block * kSelBlock + k * 16 + (lane & 15), 2 * warp + (lane >> 4)));
    }
#pragma unroll
    for (int k = 0; k < 4; k += 2) {
      multiply<T>(o[0], a[k], v[k][0], v[k][1]), multiply<T>(o[1], a[k], v[k][2], v[k][3]);
      multiply<T>(odd[0], a[k + 1], v[k + 1][0], v[k + 1][1]), multiply<T>(odd[1], a[k + 1], v[k + 1][2], v[k + 1][3]);
    }
  }
#pragma unroll
  for (int e = 0; e < 4; ++e) o[0][e] += odd[0][e], o[1][e] += odd[1][e];
#pragma unroll
  for (int r = 0; r < 2; ++r) {  // 64 bytes of each of eight heads a message
    const int h = g + 8 * r, to = h / Shared::kShare;
    const float4 v =
        four_columns(make_float2(o[0][2 * r], o[0][2 * r + 1]), make_float2(o[1][2 * r], o[1][2 * r + 1]), t);
    send16(peer_address(base + Shared::in_sel + place_of(me, h) * 512 +
                            column_of<Shared>(rank, 16 * warp + column_of_four(t)) * 4,
                        to),
           v, peer_address(me.bar(kInOut), to));
  }
}

// Thread block `rank` sums its heads: a lane a column, or two where 16 shares arrive. What arrives early is summed, and
// the selected shares' factors are computed, while these are on their way.
template <typename T, typename Shared, int Parts>
NSA_DEVICE void sum_heads(const Half<Shared> &me, const uint16_t (&gate_sel)[HeadTurns<Shared>::kTurns]) {
  using Turns = HeadTurns<Shared>;
  constexpr bool kHasSel = Parts & kSel, kSide = Parts & (kCmp | kWin);
  constexpr int kShare = Shared::kShare, kLanes = Turns::kLanes, kSources = Shared::kRanks / kLanes;
  const Params &p = me.p;
  const Row &row = me.row;
  const unsigned char *shared = me.shared;
  if (!kSide && !kHasSel) return;
  const int first = me.tid % kLanes * kSources;
  const auto unit = [&](int turn) { return (turn * kHalf + me.tid) / kLanes; };
  const auto on = [&](int turn) { return unit(turn) / 128 < kShare && me.rank * kShare + unit(turn) / 128 < p.heads; };
  const auto of = [&](int offset, int turn) {
    return reinterpret_cast<const float *>(shared + offset) + (first * kShare + unit(turn) / 128) * 128 +
           column_of<Shared>(first, unit(turn) % 128);
  };
  float sum[Turns::kTurns], factors[Turns::kTurns][kSources];
  await(me.bar(kInEarly));
#pragma unroll
  for (int turn = 0; turn < Turns::kTurns; ++turn) {
    sum[turn] = 0.f;
    if (!on(turn)) break;  // whole warps
    if constexpr (kSide) {
      const float *in = of(Shared::in_side, turn);
#pragma unroll
      for (int i = 0; i < kSources; ++i) sum[turn] += in[i * kShare * 128];
    }
    if constexpr (kHasSel) {
      const float2 *in =
          reinterpret_cast<const float2 *>(shared + Shared::in_sel_ml) + first * kShare + unit(turn) / 128;
      float2 ml[kSources];
      float m = -INFINITY, l = 0.f;
#pragma unroll
      for (int i = 0; i < kSources; ++i) ml[i] = in[i * kShare], m = fmaxf(m, ml[i].x);
      if (kLanes > 1) m = fmaxf(m, __shfl_xor_sync(~0u, m, 1));
      m = finite(m);
#pragma unroll
      for (int i = 0; i < kSources; ++i) factors[turn][i] = exp2_fast(ml[i].x - m), l += ml[i].y * factors[turn][i];
      if (kLanes > 1) l += __shfl_xor_sync(~0u, l, 1);
      const float scale = l > 0.f ? __fdividef(gate_of<T>(gate_sel[turn]), l) : 0.f;
#pragma unroll
      for (int i = 0; i < kSources; ++i) factors[turn][i] *= scale;
    }
  }
  if constexpr (kHasSel) await(me.bar(kInOut));
#pragma unroll
  for (int turn = 0; turn < Turns::kTurns; ++turn) {
    if (!on(turn)) break;
    if constexpr (kHasSel) {
      const float *in = of(Shared::in_sel, turn);
#pragma unroll
      for (int i = 0; i < kSources; ++i) sum[turn] += in[i * kShare * 128] * factors[turn][i];
    }
    float whole = sum[turn];
    if (kLanes > 1) whole += __shfl_xor_sync(~0u, whole, 1);
    const float next = __shfl_down_sync(~0u, whole, kLanes);
    if (me.tid % (2 * kLanes) == 0) {
      const int head = me.rank * kShare + unit(turn) / 128, column = unit(turn) % 128;
      uint32_t *o =
          reinterpret_cast<uint32_t *>(static_cast<uint2 *>(p.o) + static_cast<uint64_t>(row.batch) * p.o_b +
                                       static_cast<uint64_t>(row.group) * p.o_g + static_cast<uint64_t>(head) * p.o_h);
      o[column / 2] = Element<T>::pack(whole, next);
    }
  }
}

#endif

}  // namespace nsa::core
