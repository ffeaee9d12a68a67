// One warp's attention over its own tiles: 16 heads (padded) x 16 tokens a step, private online softmax.
#pragma once
#include "tile.cuh"

namespace nsa {

// Fragments of q, rows g = lane/4 and g+8. The contraction index may be permuted as long as q and K agree, so a lane
// holds 8 consecutive elements of each 32: q comes by 16-byte loads straight from global memory, K by LDS.128.
template <int D, bool Upper> struct Query {
  static constexpr int kSteps = (D ? D : 256) / 32;
  uint4 lo[kSteps], hi[kSteps];

  NSA_DEVICE void load(const uint4 *q, uint32_t stride, int heads, int dim, int lane, uint64_t policy) {
    const int g = lane >> 2, t = lane & 3;
    // Rows beyond the last head repeat it: their results are never stored, and no lane has to branch.
    const uint4 *a = q + static_cast<uint64_t>(min(g, heads - 1)) * stride + t;
    const uint4 *b = q + static_cast<uint64_t>(min(g + 8, heads - 1)) * stride + t;
#pragma unroll
    for (int j = 0; j < kSteps; ++j) {
      if (D != 0 || j * 32 < dim) lo[j] = load_global16(a + j * 4, policy);
      else lo[j] = make_uint4(0, 0, 0, 0);
      if (Upper && (D != 0 || j * 32 < dim)) hi[j] = load_global16(b + j * 4, policy);
      else hi[j] = make_uint4(0, 0, 0, 0);
    }
  }
};

// Running maximum (unscaled), this lane's part of the sum, and the unnormalised output of rows g and g+8 (Upper).
template <int DV, bool Upper> struct State {
  float m[Upper ? 2 : 1], l[Upper ? 2 : 1];
  float o[DV / 8][4];
  NSA_DEVICE void clear() {
#pragma unroll
    for (int r = 0; r < (Upper ? 2 : 1); ++r) m[r] = -INFINITY, l[r] = 0.f;
#pragma unroll
    for (int i = 0; i < DV / 8; ++i) o[i][0] = o[i][1] = o[i][2] = o[i][3] = 0.f;
  }
};

// s[i]: heads g, g+8 x tokens 8i + 2t, 8i + 2t + 1.
template <typename T, int D, bool Upper>
NSA_DEVICE void scores(float (&s)[2][4], const Query<D, Upper> &q, uint32_t k_tile, int dim, int lane) {
  const int g = lane >> 2, t = lane & 3;
  const int chunks = (D ? D : dim) / 8;
  float odd[2][4];
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int e = 0; e < 4; ++e) s[i][e] = odd[i][e] = 0.f;
  constexpr int kSteps = Query<D, Upper>::kSteps, kBatch = kSteps < 4 ? kSteps : kSteps % 4 == 0 ? 4 : 3;
#pragma unroll
  for (int j0 = 0; j0 < kSteps; j0 += kBatch) {
    uint4 k[kBatch][2];  // all loads of a batch before its products: one shared-memory latency, not eight
#pragma unroll
    for (int j = 0; j < kBatch; ++j)
#pragma unroll
      for (int i = 0; i < 2; ++i)
        if (D != 0 || (j0 + j) * 32 < dim)
          k[j][i] =
              load_shared16(k_tile + ((i * 8 + g) * chunks + swizzle_k(i * 8 + g, (j0 + j) * 4 + t, chunks)) * 16);
#pragma unroll
    for (int j = 0; j < kBatch; ++j)
#pragma unroll
      for (int i = 0; i < 2; ++i)
        if (D != 0 || (j0 + j) * 32 < dim) {
          const uint4 a = q.lo[j0 + j], b = q.hi[j0 + j];
          Element<T>::mma(s[i], a.x, b.x, a.y, b.y, k[j][i].x, k[j][i].y);
          // Into sums of their own: these products need not wait for the ones above.
          Element<T>::mma(odd[i], a.z, b.z, a.w, b.w, k[j][i].z, k[j][i].w);
        }
  }
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int e = 0; e < 4; ++e) s[i][e] += odd[i][e];
}

// Over the 4 lanes that share a row. Both rows' shuffles are issued before the first is used: two latencies, not four.
template <int Rows> NSA_DEVICE void quad_max(float (&x)[Rows]) {
#pragma unroll
  for (int step = 1; step <= 2; step *= 2) {
    float other[Rows];
#pragma unroll
    for (int r = 0; r < Rows; ++r) other[r] = __shfl_xor_sync(~0u, x[r], step);
#pragma unroll
    for (int r = 0; r < Rows; ++r) x[r] = fmaxf(x[r], other[r]);
  }
}
template <int Rows> NSA_DEVICE void quad_sum(float (&x)[Rows]) {
#pragma unroll
  for (int step = 1; step <= 2; step *= 2) {
    float other[Rows];
#pragma unroll
    for (int r = 0; r < Rows; ++r) other[r] = __shfl_xor_sync(~0u, x[r], step);
#pragma unroll
    for (int r = 0; r < Rows; ++r) x[r] += other[r];
  }
}

// Turn scores into probabilities against the new maximum; `keep` is what the output that was summed so far is to be
// multiplied with. Straight-line: tokens from `valid` on weigh nothing, and a tile without any leaves the state as it
// was.
template <int DV, bool Upper>
NSA_DEVICE void softmax_weights(float (&s)[2][4], State<DV, Upper> &st, int valid, float scale, int lane,
                                float (&keep)[Upper ? 2 : 1]) {
  constexpr int kRows = Upper ? 2 : 1;
  const int left = valid - (lane & 3) * 2;
  float shift[kRows], top[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int e = 0; e < 2; ++e) s[i][2 * r + e] = i * 8 + e < left ? s[i][2 * r + e] : -INFINITY;
    top[r] = fmaxf(fmaxf(s[0][2 * r], s[0][2 * r + 1]), fmaxf(s[1][2 * r], s[1][2 * r + 1]));
  }
  quad_max(top);
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const float m = fmaxf(st.m[r], top[r]);
    shift[r] = m == -INFINITY ? 0.f : m * scale;
    keep[r] = exp2_fast(fmaf(st.m[r], scale, -shift[r]));
    st.m[r] = m;
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int e = 0; e < 2; ++e) s[i][2 * r + e] = exp2_fast(fmaf(s[i][2 * r + e], scale, -shift[r]));
    st.l[r] = fmaf(st.l[r], keep[r], (s[0][2 * r] + s[0][2 * r + 1]) + (s[1][2 * r] + s[1][2 * r + 1]));
  }
}
template <int DV, bool Upper>
NSA_DEVICE void rescale(State<DV, Upper> &st, const float (&keep)[Upper ? 2 : 1]) {
#pragma unroll
  for (int r = 0; r < (Upper ? 2 : 1); ++r)
#pragma unroll
    for (int i = 0; i < DV / 8; ++i) st.o[i][2 * r] *= keep[r], st.o[i][2 * r + 1] *= keep[r];
}
template <int DV, bool Upper>
NSA_DEVICE void softmax_step(float (&s)[2][4], State<DV, Upper> &st, int valid, float scale, int lane) {
  float keep[Upper ? 2 : 1];
  softmax_weights(s, st, valid, scale, lane, keep);
  rescale(st, keep);
}

template <typename T, int DV, bool Upper>
NSA_DEVICE void weigh_values(State<DV, Upper> &st, const float (&p)[2][4], uint32_t v_tile, int lane) {
  const uint32_t a0 = Element<T>::pack(p[0][0], p[0][1]), a1 = Upper ? Element<T>::pack(p[0][2], p[0][3]) : 0;
  const uint32_t a2 = Element<T>::pack(p[1][0], p[1][1]), a3 = Upper ? Element<T>::pack(p[1][2], p[1][3]) : 0;
  const int row = lane & 15;
  constexpr int kBatch = DV / 16 <= 8 ? DV / 16 : DV / 32;
#pragma unroll
  for (int c0 = 0; c0 < DV / 16; c0 += kBatch) {
    uint4 v[kBatch];
#pragma unroll
    for (int c = 0; c < kBatch; ++c) {
      const int chunk = (c0 + c) * 2 + (lane >> 4);
      v[c] = load_matrix_x4_trans(v_tile + (row * (DV / 8) + swizzle_v(row, chunk, DV / 8)) * 16);
    }
#pragma unroll
    for (int c = 0; c < kBatch; ++c) {
      Element<T>::mma(st.o[2 * (c0 + c)], a0, a1, a2, a3, v[c].x, v[c].y);
      Element<T>::mma(st.o[2 * (c0 + c) + 1], a0, a1, a2, a3, v[c].z, v[c].w);
    }
  }
}

}  // namespace nsa
