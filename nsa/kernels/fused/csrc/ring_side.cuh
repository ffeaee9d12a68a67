// What half of the ring kernel's warps do beside the critical path: the window, and the compressed branch's values,
// which pass through a ring.
#pragma once
#include "resident_side.cuh"
#include "ring_shared.cuh"

namespace nsa::core {

#if __CUDA_ARCH__ >= 900

// Compressed values, which all warps of a half read: chunks of 64 tokens.
template <typename Shared> struct ValueRing {
  static constexpr uint32_t kEnd = Shared::v_cmp + Shared::kValues * kChunkBytes;
  const Half<Shared> &me;
  const uint4 *from;  // this thread's of the next chunk
  int left, chunks;   // tokens from this thread's first row of it on; chunks that have not been asked for
  uint32_t to = Shared::v_cmp, at = Shared::v_cmp;

  NSA_DEVICE ValueRing(const Half<Shared> &me, const Slice &slice) : me(me) {
    const int row = me.tid >> 4;
    from = me.row.at(me.p.v_cmp, slice.first + row) + (me.tid & 15), left = slice.valid - row;
    chunks = (slice.padded + kChunkTokens - 1) / kChunkTokens;
  }
  NSA_DEVICE void ask() {
    const uint32_t place_ = me.base + to + place<128>(me.tid >> 4, me.tid & 15);
    const uint64_t step = static_cast<uint64_t>(16) * me.p.v_cmp.s;
    if (chunks > 0) {
      const uint4 *row = from;
#pragma unroll
      for (int k = 0; k < 4; ++k, row += step) copy16(place_ + k * 4096, row, left > 16 * k);
    }
    copy_commit();
    from += 4 * step, left -= kChunkTokens, --chunks;
    to = to + kChunkBytes == kEnd ? Shared::v_cmp : to + kChunkBytes;
  }
  NSA_DEVICE uint32_t chunk() {
    const uint32_t found = me.base + at;
    at = at + kChunkBytes == kEnd ? Shared::v_cmp : at + kChunkBytes;
    return found;
  }
};

// `steps` times 16 tokens of one chunk, weighed by exponentials that each warp of the other half has at a base of its
// own.
template <typename T, bool Whole>
NSA_DEVICE void weigh_chunk(uint32_t exponentials, uint32_t values, int steps, const uint32_t (&weight)[8][2],
                            float (&o)[4][4]) {
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if (!Whole && k >= steps) break;
    uint32_t a[4], v[4];
    load_matrix(a, exponentials + k * 32);
    load_matrix_trans(v, values + k * 16 * 256);
#pragma unroll
    for (int e = 0; e < 4; ++e) a[e] = scaled<T>(a[e], weight[2 * k + e / 2][e % 2]);
    multiply<T>(o[k % 2 * 2], a, v[0], v[1]), multiply<T>(o[k % 2 * 2 + 1], a, v[2], v[3]);
  }
}

template <typename T, typename Shared, int Parts>
NSA_DEVICE void beside_ring(const Half<Shared> &me, int width, const Slice &slice, bool route) {
  constexpr bool kHasCmp = Parts & kCmp, kHasWin = Parts & kWin;
  constexpr int kBehindWindow = Shared::kValues - Shared::kWindowPlaces;  // chunks that the window leaves room for
  const Params &p = me.p;
  const int lane = me.lane, rank = me.rank, S = me.row.length;
  ValueRing<Shared> values(me, slice);
  cluster_wait();
  // What is on its way stays as much: a chunk is asked for where one of the last chunks of keys has been read.
  if (kHasCmp) take_over_keys(0);
  if constexpr (kHasWin) {
    const int first = Shared::kWindow * rank;
    me.template load<Shared::kD>(Shared::k_win, p.k_win, S - width + first, Shared::kWindow, width - first);
    me.template load<128>(Shared::v_win, p.v_win, S - width + first, Shared::kWindow, width - first);
  }
  copy_commit();
  const SideGates gates(p, me.row, lane >> 2);
  if constexpr (kHasCmp) {
#pragma unroll
    for (int i = 1; i < Shared::kKeys; ++i) {
      take_over_keys(i);
      if (i - 1 < kBehindWindow) values.ask();
    }
#pragma unroll
    for (int i = Shared::kKeys - 1; i < kBehindWindow; ++i) values.ask();
  }
  float o_win[2][4] = {}, o_cmp[4][4] = {};
  if constexpr (kHasWin) {
    copy_wait<kHasCmp ? kBehindWindow : 0>();
    half_sync<kBarSide>();
    attend_window<T, Shared, Parts>(me, width, o_win);
    if (kHasCmp && Shared::kWindowPlaces > 1) half_sync<kBarSide>();  // the window's places are free
  }
  if constexpr (kHasCmp) {
#pragma unroll
    for (int i = kBehindWindow; i < Shared::kValues - 1; ++i) values.ask();
    take_over<kBarProbabilities>();
    uint32_t weight[8][2];
#pragma unroll
    for (int w = 0; w < 8; ++w)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float x = me.floats(Shared::weights)[w * 16 + (lane >> 2) + 8 * r];
        weight[w][r] = Element<T>::pack(x, x);
      }
    uint32_t exponentials = me.base + Shared::p_cmp + (lane & 15) * Shared::p_cmp_row + (lane >> 4) * 16;
    const uint32_t column = place<128>(lane & 15, 2 * me.warp + (lane >> 4));
#pragma unroll 1
    for (int left = slice.padded / 16; left > 0; left -= 4, exponentials += kChunkTokens * 2) {
      copy_wait<Shared::kValues - 2>();
      half_sync<kBarSide>();
      values.ask();
      if (left >= 4) weigh_chunk<T, true>(exponentials, values.chunk() + column, 4, weight, o_cmp);
      else weigh_chunk<T, false>(exponentials, values.chunk() + column, left, weight, o_cmp);
    }
  }
  end_beside<T, Shared, Parts>(me, gates, o_win, o_cmp, route);
}

#endif

}  // namespace nsa::core
