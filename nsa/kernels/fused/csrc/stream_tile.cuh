// The streaming kernel's shared memory, a warp's step over one tile, and ranks of keys.
#pragma once
#include "row.cuh"
#include "score.cuh"

namespace nsa::core {

constexpr int kChunk = 4;  // tiles of 16 compressed tokens; the thread blocks of a row take them in turn

// Shared memory of a thread block, in bytes. `chunks`: that it takes, at capacity. `Together`: compressed tiles in a
// row that a warp takes, 1 or a whole chunk; they have exponents, and what the last token gives to the next block, in
// common.
template <int D, int DV, int C, int Stages, int Warps, int Together> struct StreamShared {
  static constexpr int kTile = 16 * (D + DV) * 2, kRing = Stages * kTile;
  static constexpr int kShare = (16 * DV / 4 + C - 1) / C;  // units of 4 output columns that a thread block sums
  static constexpr int ml = Warps * kRing;                  // [warps][16] (m, l)
  static constexpr int row_ml = ml + Warps * 128;           // [3 branches][C][16] (m, l)
  static constexpr int whole = row_ml + 3 * C * 128;        // [16] (M, 1 / L) of the compressed branch
  static constexpr int gates = whole + 128;                 // [3][16], in the order of the branches here
  static constexpr int best = gates + 192;                  // [13] keys
  static constexpr int peers = best + 128;                  // [C][13] keys
  static constexpr int index = peers + (C * kFree * 8 + 15) / 16 * 16;   // [16] blocks
  static constexpr int most = index + 64;                                // [64] the largest of each group of blocks
  static constexpr int found = most + 256;                               // threshold, count
  static constexpr int barriers = found + 16;                            // 3 branches, halo, keys, outputs
  static constexpr int outputs = (barriers + 64 + 127) / 128 * 128;      // [C][kShare] float4
  static constexpr int query = outputs + (C > 1 ? C * kShare * 16 : 0);  // q
  static constexpr int slice = query + 16 * D * 2;
  // By chunk of 4 compressed tiles: what the token before it gives to its first block, and its exponent. Then by tile:
  // sums of its 4 blocks, and importance; by `Together`: what the last token gives to the next block, exponents.
  static constexpr int kHalo = C > 1 ? 128 : 0, kChunkBytes = kChunk * (4 * 64 + 16) + kChunk / Together * (64 + 32);
  static constexpr int bytes(int chunks) { return slice + chunks * (kHalo + kChunkBytes); }
};

struct StreamTile {
  float *sums;      // [4 blocks][16 heads]
  float *last;      // [16]
  short *exponent;  // [16]; they saturate at 2^15: a score that large has the softmax to itself, and is ranked coarsely
};

// What a thread block keeps of its compressed tiles for routing: see StreamShared.
template <int Together> struct OfTiles {
  float2 *halo;
  float *sums, *last;
  short *exponent;
  uint32_t *importance;

  NSA_DEVICE OfTiles(unsigned char *halo, unsigned char *tiles, int most)
      : halo(reinterpret_cast<float2 *>(halo)),
        sums(reinterpret_cast<float *>(tiles)),
        last(sums + most * 64),
        exponent(reinterpret_cast<short *>(last + most / Together * 16)),
        importance(reinterpret_cast<uint32_t *>(exponent + most / Together * 16)) {}
  NSA_DEVICE StreamTile tile(int i) const {
    return {sums + i * 64, last + i / Together * 16, exponent + i / Together * 16};
  }
};

// One branch's running maximum (a whole number, so that rescaling is exact), sum and output of a warp; rows g, g + 8.
template <int DV> struct Running {
  float o[DV / 8][4], m[2], l[2],
      last[2];  // last: what the tile before gives to the next block, where they go together
  NSA_DEVICE void clear() {
    m[0] = m[1] = -INFINITY, l[0] = l[1] = 0.f;
#pragma unroll
    for (int i = 0; i < DV / 8; ++i) o[i][0] = o[i][1] = o[i][2] = o[i][3] = 0.f;
  }
};

// `route`: its sums go to `out`; `before`: tiles of the same exponents ahead of it, whose sums end where its own start.
template <typename T, int D, int DV, int Together>
NSA_DEVICE void attend_tile(Running<DV> &st, const Rows<D> &q, uint32_t tile, int valid, float scale, int lane,
                            bool route, StreamTile out, int before) {
  const int g = lane >> 2, t = lane & 3;
  float s[2][4] = {}, z[2][4] = {};
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
    uint32_t a[4], b[4];
    q.fragment(a, k);
    load_matrix(b, tile + place<D>((lane & 7) + ((lane >> 4) << 3), 2 * k + ((lane >> 3) & 1)));
    if (k & 1) multiply<T>(z[0], a, b[0], b[1]), multiply<T>(z[1], a, b[2], b[3]);
    else multiply<T>(s[0], a, b[0], b[1]), multiply<T>(s[1], a, b[2], b[3]);
  }
#pragma unroll
  for (int n = 0; n < 2; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      s[n][e] = scaled_score(s[n][e] + z[n][e], scale);
      if (8 * n + 2 * t + (e & 1) >= valid) s[n][e] = -INFINITY;
    }
  const float x0 = ceilf(quad_max1(fmaxf(fmaxf(s[0][0], s[0][1]), fmaxf(s[1][0], s[1][1]))));
  const float x1 = ceilf(quad_max1(fmaxf(fmaxf(s[0][2], s[0][3]), fmaxf(s[1][2], s[1][3]))));
  if (__any_sync(~0u, x0 > st.m[0] || x1 > st.m[1])) {
    const float n0 = fmaxf(st.m[0], x0), n1 = fmaxf(st.m[1], x1), c0 = exp2_fast(st.m[0] - n0),
                c1 = exp2_fast(st.m[1] - n1);
    st.m[0] = n0, st.m[1] = n1, st.l[0] *= c0, st.l[1] *= c1;
#pragma unroll
    for (int n = 0; n < DV / 8; ++n) st.o[n][0] *= c0, st.o[n][1] *= c0, st.o[n][2] *= c1, st.o[n][3] *= c1;
    if (Together > 1 && route) {
      st.last[0] *= c0, st.last[1] *= c1;
      for (float *sums = out.sums - before * 64; sums < out.sums; sums += 64)  // a lane has one of a tile's four blocks
        sums[t * 16 + g] *= c0, sums[t * 16 + g + 8] *= c1;
      __syncwarp();
    }
  }
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    s[n][0] = exp2_fast(s[n][0] - st.m[0]), s[n][1] = exp2_fast(s[n][1] - st.m[0]);
    s[n][2] = exp2_fast(s[n][2] - st.m[1]), s[n][3] = exp2_fast(s[n][3] - st.m[1]);
  }
  st.l[0] += s[0][0] + s[0][1] + s[1][0] + s[1][1], st.l[1] += s[0][2] + s[0][3] + s[1][2] + s[1][3];
  const uint32_t a[4] = {Element<T>::pack(s[0][0], s[0][1]), Element<T>::pack(s[0][2], s[0][3]),
                         Element<T>::pack(s[1][0], s[1][1]), Element<T>::pack(s[1][2], s[1][3])};
#pragma unroll
  for (int c = 0; c < DV / 8; c += 2) {
    uint32_t v[4];
    load_matrix_trans(v, tile + 16 * D * 2 + place<DV>(lane & 15, c + (lane >> 4)));
    multiply<T>(st.o[c], a, v[0], v[1]), multiply<T>(st.o[c + 1], a, v[2], v[3]);
  }
  if (!route) return;
#pragma unroll
  for (int r = 0; r < 2; ++r) {  // a lane holds tokens 2t, 2t + 1 of each half tile; a block is 4 tokens, two lanes
    const float h0 = .5f * s[0][2 * r + 1], h1 = .5f * s[1][2 * r + 1];
    float a0 = s[0][2 * r] + ((t & 1) ? h0 : 2 * h0), a1 = s[1][2 * r] + ((t & 1) ? h1 : 2 * h1);
    a0 += __shfl_xor_sync(~0u, a0, 1), a1 += __shfl_xor_sync(~0u, a1, 1);
    const float y1 = __shfl_sync(~0u, h0, (lane & ~3) + 1), y2 = __shfl_sync(~0u, h0, (lane & ~3) + 3);
    const float y3 = __shfl_sync(~0u, h1, (lane & ~3) + 1);
    const int h = g + 8 * r;
    if constexpr (Together > 1) {  // copies of a block have the same sums wherever it lies in a tile
      if (before > 0) a0 = t == 0 ? a0 + st.last[r] : a0;
      st.last[r] = __shfl_sync(~0u, h1, (lane & ~3) + 3);
    }
    if (t == 0) out.sums[h] = a0, out.sums[32 + h] = a1 + y2;
    if (t == 2) out.sums[16 + h] = a0 + y1, out.sums[48 + h] = a1 + y3;
    if (t == 3) out.last[h] = h1;
    if (t == 1) out.exponent[h] = static_cast<short>(st.m[r]);
  }
}

}  // namespace nsa::core
