// The end of the resident kernel's critical path: a thread block attends to one selected block, then sums one head.
#pragma once
#include "resident_shared.cuh"

namespace nsa::core {

#if __CUDA_ARCH__ >= 900

// `here` tokens of the block, whose copies have been started, K first; every thread block gets its head's share.
template <typename T, int Parts> NSA_DEVICE void attend_block(const Half &me, uint32_t (&q)[8][4], int here) {
  using Shared = ResidentShared;
  const Params &p = me.p;
  unsigned char *shared = me.shared;
  const uint32_t base = me.base;
  const int tid = me.tid, warp = me.warp, lane = me.lane, rank = me.rank, g = lane >> 2, t = lane & 3;
  float *max_w = me.floats(Shared::max_a), *sum_w = me.floats(Shared::sum_a);  // [16 heads][8 warps]
  copy_wait<1>();
  half_sync<kBarPath>();
  if (!(Parts & kCmp)) me.read_q(q, Shared::q);
  float s[4];
  score8<T>(s, q, base + Shared::k_sel + warp * 2048, p.scale_log2, lane);
  const int c = warp * 8 + 2 * t;
  if (c >= here) s[0] = s[2] = -INFINITY;
  if (c + 1 >= here) s[1] = s[3] = -INFINITY;
  float m0 = quad_max1(fmaxf(s[0], s[1])), m1 = quad_max1(fmaxf(s[2], s[3]));
  if (t == 0) max_w[g * 8 + warp] = m0, max_w[(g + 8) * 8 + warp] = m1;
  half_sync<kBarPath>();
  m0 = finite(max8(max_w + g * 8)), m1 = finite(max8(max_w + (g + 8) * 8));
  const float p0 = exp2_fast(s[0] - m0), p1 = exp2_fast(s[1] - m0), p2 = exp2_fast(s[2] - m1),
              p3 = exp2_fast(s[3] - m1);
  *reinterpret_cast<uint32_t *>(shared + Shared::p_sel + g * 144 + c * 2) = Element<T>::pack(p0, p1);
  *reinterpret_cast<uint32_t *>(shared + Shared::p_sel + (g + 8) * 144 + c * 2) = Element<T>::pack(p2, p3);
  const float l0 = quad_sum1(p0 + p1), l1 = quad_sum1(p2 + p3);
  if (t == 0) sum_w[g * 8 + warp] = l0, sum_w[(g + 8) * 8 + warp] = l1;
  copy_wait<0>();
  half_sync<kBarPath>();
  float o[2][4] = {};
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    uint32_t a[4], v[4];
    load_matrix(a, base + Shared::p_sel + (lane & 15) * 144 + (2 * k + (lane >> 4)) * 16);
    load_matrix_trans(v, base + Shared::v_sel + place<128>(k * 16 + (lane & 15), 2 * warp + (lane >> 4)));
    multiply<T>(o[0], a, v[0], v[1]), multiply<T>(o[1], a, v[2], v[3]);
  }
  float *staged =
      reinterpret_cast<float *>(shared + Shared::k_cmp) + 16 * warp + 2 * t;  // nobody reads these keys any more
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    *reinterpret_cast<float2 *>(staged + g * 128 + 8 * n) = make_float2(o[n][0], o[n][1]);
    *reinterpret_cast<float2 *>(staged + (g + 8) * 128 + 8 * n) = make_float2(o[n][2], o[n][3]);
  }
  if (tid < 16)
    send8(peer_address(base + Shared::in_sel_ml + rank * 8, tid),
          make_float2(max8(max_w + tid * 8), sum8(sum_w + tid * 8)), peer_address(me.bar(kInOut), tid));
  half_sync<kBarPath>();
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int h = 2 * warp + r;
    const float4 v = *reinterpret_cast<const float4 *>(shared + Shared::k_cmp + h * 512 + lane * 16);
    send16(peer_address(base + Shared::in_sel + rank * 512 + lane * 16, h), v, peer_address(me.bar(kInOut), h));
  }
}

// Thread block `rank` sums head `rank`, once all shares of it have arrived: two lanes a column, eight sources each.
template <typename T, int Parts> NSA_DEVICE void sum_head(const Half &me, float gate_sel) {
  using Shared = ResidentShared;
  constexpr bool kHasSel = Parts & kSel, kSide = Parts & (kCmp | kWin);
  const Params &p = me.p;
  const Row &row = me.row;
  const unsigned char *shared = me.shared;
  const int tid = me.tid, rank = me.rank;
  const int column = tid >> 1, half = (tid & 1) * 8;
  float sum = 0.f, side = 0.f, l = 0.f;
  if constexpr (kHasSel) {
    float2 ml[8];
    float m = -INFINITY;
#pragma unroll
    for (int i = 0; i < 8; ++i)
      ml[i] = *reinterpret_cast<const float2 *>(shared + Shared::in_sel_ml + (half + i) * 8), m = fmaxf(m, ml[i].x);
    m = finite(fmaxf(m, __shfl_xor_sync(~0u, m, 1)));
    const float *in = reinterpret_cast<const float *>(shared + Shared::in_sel) + half * 128 + column;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float f = exp2_fast(ml[i].x - m);
      l += ml[i].y * f, sum += in[i * 128] * f;
    }
    l += __shfl_xor_sync(~0u, l, 1), sum += __shfl_xor_sync(~0u, sum, 1);
    sum = l > 0.f ? gate_sel * __fdividef(sum, l) : 0.f;
  }
  if constexpr (kSide) {
    const float *in = reinterpret_cast<const float *>(shared + Shared::in_side) + half * 128 + column;
#pragma unroll
    for (int i = 0; i < 8; ++i) side += in[i * 128];
    side += __shfl_xor_sync(~0u, side, 1);
  }
  const float next = __shfl_down_sync(~0u, side + sum, 2);
  if (rank < p.heads && (tid & 3) == 0) {
    uint32_t *o =
        reinterpret_cast<uint32_t *>(static_cast<uint2 *>(p.o) + static_cast<uint64_t>(row.batch) * p.o_b +
                                     static_cast<uint64_t>(row.group) * p.o_g + static_cast<uint64_t>(rank) * p.o_h);
    o[column / 2] = Element<T>::pack(side + sum, next);
  }
}

#endif

}  // namespace nsa::core
