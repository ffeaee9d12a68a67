// What half of the resident kernel's warps do beside the critical path: the window, the compressed branch's values, and
// both branches' share of the output; the chosen blocks' order.
#pragma once
#include "resident_blocks.cuh"

namespace nsa::core {

#if __CUDA_ARCH__ >= 900

// The window's tokens of this thread block, whose copies have arrived, as has q: this warp's 16 columns of their
// weighed values, for all heads.
template <typename T, typename Shared, int Parts>
NSA_DEVICE void attend_window(const Half<Shared> &me, int width, float (&o_win)[2][4]) {
  const Params &p = me.p;
  unsigned char *shared = me.shared;
  const uint32_t base = me.base;
  const int tid = me.tid, warp = me.warp, lane = me.lane, rank = me.rank, g = lane >> 2, t = lane & 3;
  float *max_w = me.floats(Shared::max_b), *sum_w = me.floats(Shared::sum_b);  // [16 heads][8 warps]
  uint32_t q[Shared::kD / 16][4];
  me.read_q(q, Shared::in_side);
  constexpr int kTiles = Shared::kWindow / 8, kTurns = (kTiles + 7) / 8;
  float s[kTurns][4], m0 = -INFINITY, m1 = -INFINITY, l0 = 0.f, l1 = 0.f;
#pragma unroll
  for (int i = 0; i < kTurns; ++i) {
    const int tile = i * 8 + warp, left = width - Shared::kWindow * rank - tile * 8 - 2 * t;
    s[i][0] = s[i][1] = s[i][2] = s[i][3] = -INFINITY;
    if (tile < kTiles) score8<T>(s[i], q, base + Shared::k_win + tile * 8 * Shared::kKey, p.scale_log2, lane);
    if (left <= 0) s[i][0] = s[i][2] = -INFINITY;
    if (left <= 1) s[i][1] = s[i][3] = -INFINITY;
    m0 = fmaxf(m0, fmaxf(s[i][0], s[i][1])), m1 = fmaxf(m1, fmaxf(s[i][2], s[i][3]));
  }
  m0 = quad_max1(m0), m1 = quad_max1(m1);
  if (t == 0) max_w[of_warp(g, warp)] = m0, max_w[of_warp(g + 8, warp)] = m1;
  half_sync<kBarSide>();
  m0 = finite(max8(max_w + g * 8)), m1 = finite(max8(max_w + (g + 8) * 8));
#pragma unroll
  for (int i = 0; i < kTurns; ++i) {
    const float p0 = exp2_fast(s[i][0] - m0), p1 = exp2_fast(s[i][1] - m0), p2 = exp2_fast(s[i][2] - m1),
                p3 = exp2_fast(s[i][3] - m1);
    unsigned char *to = shared + Shared::p_win + g * Shared::p_win_row + ((i * 8 + warp) * 8 + 2 * t) * 2;
    if (i * 8 + warp < kTiles) {
      *reinterpret_cast<uint32_t *>(to) = Element<T>::pack(p0, p1);
      *reinterpret_cast<uint32_t *>(to + 8 * Shared::p_win_row) = Element<T>::pack(p2, p3);
    }
    l0 += p0 + p1, l1 += p2 + p3;
  }
  l0 = quad_sum1(l0), l1 = quad_sum1(l1);
  if (t == 0) sum_w[of_warp(g, warp)] = l0, sum_w[of_warp(g + 8, warp)] = l1;
  half_sync<kBarSide>();
  const int to = tid >> 4, h = tid & 15;
  if (to < Shared::kRanks)
    send8(peer_address(base + Shared::in_win + (rank * 16 + h) * 8, to),
          make_float2(max8(max_w + h * 8), sum8(sum_w + h * 8)), peer_address(me.bar(kInWin), to));
#pragma unroll
  for (int k = 0; k < Shared::kWindow / 16; ++k) {
    uint32_t a[4], v[4];
    load_matrix(a, base + Shared::p_win + (lane & 15) * Shared::p_win_row + (2 * k + (lane >> 4)) * 16);
    load_matrix_trans(v, base + Shared::v_win + place<128>(k * 16 + (lane & 15), 2 * warp + (lane >> 4)));
    multiply<T>(o_win[0], a, v[0], v[1]), multiply<T>(o_win[1], a, v[2], v[3]);
  }
}

struct SideGates {  // of heads lane / 4 and + 8: the compressed branch's and the window's
  uint16_t cmp[2], win[2];
  NSA_DEVICE SideGates(const Params &p, const Row &row, int head)
      : cmp{load_gate(p, row, head, 0), load_gate(p, row, head + 8, 0)},
        win{load_gate(p, row, head, 2), load_gate(p, row, head + 8, 2)} {}
};

// Both branches' values by their gates, to the thread blocks that sum them.
template <typename T, typename Shared, int Parts>
NSA_DEVICE void share_out(const Half<Shared> &me, const SideGates &gates, const float (&o_win)[2][4],
                          const float (&o_cmp)[4][4]) {
  constexpr bool kHasCmp = Parts & kCmp, kHasWin = Parts & kWin;
  constexpr int Ranks = Shared::kRanks;
  const Params &p = me.p;
  unsigned char *shared = me.shared;
  const uint32_t base = me.base;
  const int tid = me.tid, warp = me.warp, lane = me.lane, rank = me.rank, g = lane >> 2, t = lane & 3;
  float *scale_cmp = reinterpret_cast<float *>(shared + Shared::scale_cmp),
        *scale_win = reinterpret_cast<float *>(shared + Shared::scale_win);
  if (kHasCmp) await(me.bar(kInCmp));
  if (kHasWin) await(me.bar(kInWin));
  if (tid < 64) {
    const float f = kHasCmp ? factor<Ranks, 8>(shared + Shared::in_cmp, tid, rank, p.heads) : 0.f;
    if ((tid & 3) == 0) scale_cmp[tid >> 2] = f;
  } else if (tid < 128) {
    const float f = kHasWin ? factor<Ranks, 8>(shared + Shared::in_win, tid - 64, rank, p.heads) : 0.f;
    if ((tid & 3) == 0) scale_win[(tid - 64) >> 2] = f;
  }
  half_sync<kBarSide>();
  const float c0_ = gate_of<T>(gates.cmp[0]) * scale_cmp[g], c1_ = gate_of<T>(gates.cmp[1]) * scale_cmp[g + 8],
              w0 = gate_of<T>(gates.win[0]) * scale_win[g], w1 = gate_of<T>(gates.win[1]) * scale_win[g + 8];
  // Rows are staged so that messages are 512 bytes to one receiver. Nobody reads the window's values any more.
  float *staged = reinterpret_cast<float *>(shared + Shared::staged) + 16 * warp + 2 * t;
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    *reinterpret_cast<float2 *>(staged + g * 128 + 8 * n) =
        make_float2(o_win[n][0] * w0 + (o_cmp[n][0] + o_cmp[n + 2][0]) * c0_,
                    o_win[n][1] * w0 + (o_cmp[n][1] + o_cmp[n + 2][1]) * c0_);
    *reinterpret_cast<float2 *>(staged + (g + 8) * 128 + 8 * n) =
        make_float2(o_win[n][2] * w1 + (o_cmp[n][2] + o_cmp[n + 2][2]) * c1_,
                    o_win[n][3] * w1 + (o_cmp[n][3] + o_cmp[n + 2][3]) * c1_);
  }
  half_sync<kBarSide>();
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int h = 2 * warp + r;
    const float4 v = *reinterpret_cast<const float4 *>(shared + Shared::staged + h * 512 + lane * 16);
    const int to = h / Shared::kShare, at = rank * Shared::kShare + h % Shared::kShare;
    send16(peer_address(base + Shared::in_side + at * 512 + column_of<Shared>(rank, lane * 4) * 4, to), v,
           peer_address(me.bar(kInEarly), to));
  }
}

// The chosen blocks, ascending, those that are none at the end.
template <typename Shared> NSA_DEVICE void put_in_order(const Half<Shared> &me) {
  const Params &p = me.p;
  const Row &row = me.row;
  unsigned char *shared = me.shared;
  const int tid = me.tid;
  if (me.rank == 0 && tid < kMostBlocks) {
    await(me.bar(kInBlocks));
    const uint32_t *blocks = reinterpret_cast<const uint32_t *>(shared + Shared::blocks);
    const uint32_t mine = blocks[tid];
    int before = 0;
#pragma unroll
    for (int i = 0; i < kMostBlocks; ++i) before += blocks[i] < mine || (blocks[i] == mine && i < tid);
    p.block_indices[static_cast<uint64_t>(row.batch) * p.i_b + static_cast<uint64_t>(row.group) * p.i_g + before] =
        static_cast<int>(mine);
  }
}

// What follows the window and the compressed values: the selected values are asked for here, so that the critical path
// has but the keys to ask for; then both branches' shares, and the selected one's (maximum, sum).
template <typename T, typename Shared, int Parts>
NSA_DEVICE void end_beside(const Half<Shared> &me, const SideGates &gates, const float (&o_win)[2][4],
                           const float (&o_cmp)[4][4], bool route) {
  constexpr bool kHasSel = Parts & kSel, kHasRoute = Parts & kRoute;
  constexpr int kShare = Shared::kShare;
  const int tid = me.tid;
  if constexpr (kHasSel || kHasRoute) {
    if (Shared::kBehind) half_sync<kBarSide>();  // the compressed values have been read
    int block[kShare];
    const BlockCopies<128, Shared> values(me, Shared::v_sel, me.p.v_sel);
    take_blocks<Shared, Parts>(me, route, block);
    if constexpr (kHasSel) values.ask(block);
    if (kHasRoute && tid == 0) tell_chosen(me, block);
  }
  if constexpr (Parts & (kCmp | kWin)) share_out<T, Shared, Parts>(me, gates, o_win, o_cmp);
  if constexpr (kHasSel) {
    copy_wait<0>();
    take_over<kBarValues>();
    if (tid < 16) tell_selected(me, tid);
  }
  if constexpr (kHasRoute) put_in_order(me);
}

template <typename T, typename Shared, int Parts>
NSA_DEVICE void beside(const Half<Shared> &me, int width, const Slice &slice, bool route) {
  constexpr bool kHasCmp = Parts & kCmp, kHasWin = Parts & kWin;
  const Params &p = me.p;
  const Row &row = me.row;
  const uint32_t base = me.base;
  const int warp = me.warp, lane = me.lane, rank = me.rank, S = row.length;
  // Where the keys take long, the rest waits for them: it has time.
  if (kHasCmp && Shared::kGroups > 1) cluster_wait(), take_over<kBarKeys>();
  if constexpr (kHasWin) {
    const int first = Shared::kWindow * rank;
    me.template load<Shared::kD>(Shared::k_win, p.k_win, S - width + first, Shared::kWindow, width - first);
    me.template load<128>(Shared::v_win, p.v_win, S - width + first, Shared::kWindow, width - first);
  }
  copy_commit();
  const SideGates gates(p, row, lane >> 2);
  if (kHasCmp) me.template load<128>(Shared::v_cmp, p.v_cmp, slice.first, slice.padded, slice.valid);
  copy_commit();
  if (!kHasCmp || Shared::kGroups == 1) cluster_wait();
  float o_win[2][4] = {}, o_cmp[4][4] = {};
  if constexpr (kHasWin) {
    copy_wait<1>();
    half_sync<kBarSide>();
    attend_window<T, Shared, Parts>(me, width, o_win);
  }
  if constexpr (kHasCmp) {
    copy_wait<0>();
    take_over<kBarProbabilities>();
#pragma unroll 2
    for (int k = 0; k < slice.padded / 16; k += 2) {
      uint32_t a[4], v[4];
      load_matrix(a, base + Shared::p_cmp + (lane & 15) * Shared::p_cmp_row + (2 * k + (lane >> 4)) * 16);
      load_matrix_trans(v, base + Shared::v_cmp + place<128>(k * 16 + (lane & 15), 2 * warp + (lane >> 4)));
      multiply<T>(o_cmp[0], a, v[0], v[1]), multiply<T>(o_cmp[1], a, v[2], v[3]);
      if (k + 1 < slice.padded / 16) {
        load_matrix(a, base + Shared::p_cmp + (lane & 15) * Shared::p_cmp_row + (2 * k + 2 + (lane >> 4)) * 16);
        load_matrix_trans(v, base + Shared::v_cmp + place<128>(k * 16 + 16 + (lane & 15), 2 * warp + (lane >> 4)));
        multiply<T>(o_cmp[2], a, v[0], v[1]), multiply<T>(o_cmp[3], a, v[2], v[3]);
      }
    }
  }
  end_beside<T, Shared, Parts>(me, gates, o_win, o_cmp, route);
}

#endif

}  // namespace nsa::core
