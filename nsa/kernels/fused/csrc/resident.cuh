// One launch for few rows: a cluster of 16 thread blocks holds a whole row in shared memory. Half of the warps walk the
// critical path (scores, importance, ranks, selected attention), the others do the window and the compressed branch's
// values beside it. Everything is exchanged by messages that count bytes at their receiver.
#pragma once
#include "row.cuh"

namespace nsa::core {

constexpr int kRanks = 16, kResidentThreads = 512, kHalf = 256;
constexpr int kResidentTokens = 256;  // compressed tokens that a thread block holds
constexpr int kWindowTokens = 32;     // window tokens of a thread block

struct ResidentShared {  // byte offsets
  static constexpr int k_cmp = 0, v_cmp = k_cmp + kResidentTokens * 256, k_win = v_cmp + kResidentTokens * 256,
                       v_win = k_win + kWindowTokens * 256, k_sel = v_win + kWindowTokens * 256,
                       v_sel = k_sel + kSelBlock * 256, q = v_sel + kSelBlock * 256, p_cmp = q + 4096,
                       p_win = p_cmp + 16 * 528, p_sel = p_win + 16 * 80, sums = p_sel + 16 * 144,
                       last = sums + 64 * 64, max_a = last + 32 * 64, sum_a = max_a + 512, max_b = sum_a + 512,
                       sum_b = max_b + 512, key = sum_b + 512, scale_cmp = key + 128, scale_win = scale_cmp + 64,
                       slice_last = scale_win + 64, scale = slice_last + 64, before = scale + 64,
                       importance = before + 64, in_cmp = importance + 256, in_win = in_cmp + 16 * 256,
                       in_keys = in_win + 16 * 128, in_side = in_keys + 16 * kFree * 8, in_sel = in_side + 16 * 512,
                       in_sel_ml = in_sel + 16 * 512, block = in_sel_ml + 128, blocks = block + 16,
                       barriers = blocks + 64, bytes = barriers + 64;
};

// Scores of 16 heads x 8 tokens: rows g and g + 8, tokens 2t and 2t + 1; scaled.
template <typename T> NSA_DEVICE void score8(float (&s)[4], const uint32_t (&q)[8][4], uint32_t keys, float scale, int lane) {
  float a[4] = {0, 0, 0, 0}, b[4] = {0, 0, 0, 0};
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    uint32_t f[4];
    load_matrix(f, keys + place<128>(lane & 7, 4 * k + (lane >> 3)));
    multiply<T>(a, q[2 * k], f[0], f[1]), multiply<T>(b, q[2 * k + 1], f[2], f[3]);
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) s[i] = (a[i] + b[i]) * scale;
}

NSA_DEVICE float max8(const float *p) {
  const float4 a = *reinterpret_cast<const float4 *>(p), b = *reinterpret_cast<const float4 *>(p + 4);
  return fmaxf(fmaxf(fmaxf(a.x, a.y), fmaxf(a.z, a.w)), fmaxf(fmaxf(b.x, b.y), fmaxf(b.z, b.w)));
}
NSA_DEVICE float sum8(const float *p) {
  const float4 a = *reinterpret_cast<const float4 *>(p), b = *reinterpret_cast<const float4 *>(p + 4);
  return ((a.x + a.y) + (a.z + a.w)) + ((b.x + b.y) + (b.z + b.w));
}
NSA_DEVICE float finite(float m) { return m == -INFINITY ? 0.f : m; }

// Barriers of half of the thread block, and between the halves.
template <int Id> NSA_DEVICE void half_sync() { asm volatile("bar.sync %0, 256;" ::"n"(Id) : "memory"); }
template <int Id> NSA_DEVICE void hand_over() { asm volatile("bar.arrive %0, 512;" ::"n"(Id) : "memory"); }
template <int Id> NSA_DEVICE void take_over() { asm volatile("bar.sync %0, 512;" ::"n"(Id) : "memory"); }
constexpr int kBarPath = 1, kBarSide = 2, kBarProbabilities = 3, kBarKeys = 4;

// One head's (maximum, sum) of 16 thread blocks, four lanes a head: this block's factor 2^(m - M) / L.
template <int Stride> NSA_DEVICE float factor(const unsigned char *in, int tid, int rank, int heads) {
  const int h = tid >> 2, first = (tid & 3) * 4;
  float m[4], l[4], top = -INFINITY, sum = 0.f;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 v = *reinterpret_cast<const float2 *>(in + ((first + i) * 16 + h) * Stride);
    m[i] = v.x, l[i] = v.y, top = fmaxf(top, v.x);
  }
  top = finite(quad_max1(top));
#pragma unroll
  for (int i = 0; i < 4; ++i) sum += l[i] * exp2_fast(m[i] - top);
  sum = quad_sum1(sum);
  const float mine = *reinterpret_cast<const float *>(in + (rank * 16 + h) * Stride);
  return h < heads && sum > 0.f ? exp2_fast(mine - top) * __fdividef(1.f, sum) : 0.f;
}

// Groups: of 64 compressed tokens that a thread block holds, by capacity. Grid: (16, G, B), clusters of 16.
template <typename T, int Groups, int Parts>
__global__ void __launch_bounds__(kResidentThreads, 1) resident(const __grid_constant__ Params p) {
  using Shared = ResidentShared;
  constexpr bool kHasCmp = Parts & kCmp, kHasRoute = Parts & kRoute, kHasSel = Parts & kSel, kHasWin = Parts & kWin;
  constexpr bool kSide = kHasCmp || kHasWin;
  constexpr int kGuessed = Groups > 1 ? 2 : 1;  // groups of keys that are asked for before the length is known
  extern __shared__ __align__(128) unsigned char shared[];
  const int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3, tid = threadIdx.x & (kHalf - 1), warp = tid >> 5;
  const bool path = threadIdx.x < kHalf;
  const int rank = blockIdx.x;
  const uint32_t base = shared_address(shared);
  const Row row(p, blockIdx.z, blockIdx.y);
  const uint32_t bar_cmp = base + Shared::barriers, bar_win = bar_cmp + 8, bar_keys = bar_cmp + 16, bar_block = bar_cmp + 24,
                 bar_out = bar_cmp + 32, bar_blocks = bar_cmp + 40;
  // Rows advance by 16 a turn, so a thread's place in a row does not change.
  const int r0 = tid >> 4, c0 = tid & 15;
  const uint32_t d0 = base + place<128>(r0, c0);
  const auto load = [&](int offset, const Cache &cache, int token, int rows, int valid) {
    const uint4 *from = row.at(cache, valid > 0 ? token : 0) + c0;
    const uint32_t to = d0 + offset;
#pragma unroll 4
    for (int r = 0; r < rows; r += 16) {
      const bool there = r + r0 < valid;
      copy16(to + r * 256, from + (there ? static_cast<uint64_t>(r + r0) * cache.s : 0), there);
    }
  };
  const auto load_q = [&](int offset) {
    const uint4 *from = static_cast<const uint4 *>(p.q) + static_cast<uint64_t>(row.batch) * p.q_b +
                        static_cast<uint64_t>(row.group) * p.q_g + static_cast<uint64_t>(min(r0, p.heads - 1)) * p.q_h + c0;
    copy16(d0 + offset, from, true);
  };
  // Slices are whole selection blocks; by capacity where that is not far off, so that the first keys are asked for
  // before the length is known.
  const int most = (p.capacity + kSelBlock * kRanks - 1) / (kSelBlock * kRanks);
  const int room = p.capacity < kCmpBlock ? 0 : (p.capacity - kCmpBlock) / kCmpStride + 1;
  if (path && kHasCmp) {
    load_q(Shared::q);
#pragma unroll
    for (int i = 0; i < kGuessed; ++i) {
      const int at = rank * most * 4 + i * 64;
      load(Shared::k_cmp + i * 64 * 256, p.k_cmp, at, min(64, ((most * 4 + 15) & ~15) - i * 64), min(most * 4 - i * 64, room - at));
      copy_commit();
    }
  }
  if (path && tid == 0) {
    expect(bar_cmp, 16 * 16 * 16), expect(bar_win, 16 * 16 * 8), expect(bar_keys, 16 * kFree * 8), expect(bar_block, 4);
    expect(bar_out, 16 * ((kSide ? 512 : 0) + (kHasSel ? 512 + 8 : 0))), expect(bar_blocks, 16 * 4);
    publish();
  }
  if (path && tid < kFree) reinterpret_cast<uint64_t *>(shared + Shared::key)[tid] = 0;
  __syncwarp();
  cluster_arrive();
  const int S = row.length, width = kHasWin ? min(p.window, S) : 0, current = row.blocks - 1;
  const int fair = (row.blocks + kRanks - 1) / kRanks, owned = 4 * row.blocks >= 3 * most * kRanks ? most : fair;
  const bool guessed = owned == most;
  const int slice = owned * 4, first = rank * slice, padded = (slice + 15) & ~15;
  const int valid = kHasCmp ? min(max(row.compressed - first, 0), slice) : 0;
  const bool route = kHasRoute && row.blocks > p.blocks;
  float *max_w = reinterpret_cast<float *>(shared + (path ? Shared::max_a : Shared::max_b));  // [16 heads][8 warps]
  float *sum_w = reinterpret_cast<float *>(shared + (path ? Shared::sum_a : Shared::sum_b));

  if (!path) {  // ---------------------------------------------------------------- beside the critical path
    if constexpr (kHasWin) {
      load_q(Shared::in_side);  // a copy of its own, where results arrive only after it has been read
      load(Shared::k_win, p.k_win, S - width + kWindowTokens * rank, kWindowTokens, width - kWindowTokens * rank);
      load(Shared::v_win, p.v_win, S - width + kWindowTokens * rank, kWindowTokens, width - kWindowTokens * rank);
    }
    copy_commit();
    if (kHasCmp && Groups == 1) load(Shared::v_cmp, p.v_cmp, first, padded, valid);
    copy_commit();
    cluster_wait();
    float o_win[2][4] = {}, o_cmp[4][4] = {};
    if constexpr (kHasWin) {
      copy_wait<1>();
      half_sync<kBarSide>();
      uint32_t q[8][4];
#pragma unroll
      for (int k = 0; k < 8; ++k) load_matrix(q[k], base + Shared::in_side + place<128>(lane & 15, 2 * k + (lane >> 4)));
      float s[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
      const int c = warp * 8 + 2 * t, left = width - kWindowTokens * rank - c;
      if (warp < 4) {
        score8<T>(s, q, base + Shared::k_win + warp * 2048, p.scale_log2, lane);
        if (left <= 0) s[0] = s[2] = -INFINITY;
        if (left <= 1) s[1] = s[3] = -INFINITY;
      }
      float m0 = quad_max1(fmaxf(s[0], s[1])), m1 = quad_max1(fmaxf(s[2], s[3]));
      if (t == 0) max_w[g * 8 + warp] = m0, max_w[(g + 8) * 8 + warp] = m1;
      half_sync<kBarSide>();
      m0 = finite(max8(max_w + g * 8)), m1 = finite(max8(max_w + (g + 8) * 8));
      const float p0 = exp2_fast(s[0] - m0), p1 = exp2_fast(s[1] - m0), p2 = exp2_fast(s[2] - m1), p3 = exp2_fast(s[3] - m1);
      if (warp < 4) {
        *reinterpret_cast<uint32_t *>(shared + Shared::p_win + g * 80 + c * 2) = Element<T>::pack(p0, p1);
        *reinterpret_cast<uint32_t *>(shared + Shared::p_win + (g + 8) * 80 + c * 2) = Element<T>::pack(p2, p3);
      }
      const float l0 = quad_sum1(p0 + p1), l1 = quad_sum1(p2 + p3);
      if (t == 0) sum_w[g * 8 + warp] = l0, sum_w[(g + 8) * 8 + warp] = l1;
      half_sync<kBarSide>();
      const int to = tid >> 4, h = tid & 15;
      send8(peer_address(base + Shared::in_win + (rank * 16 + h) * 8, to), make_float2(max8(max_w + h * 8), sum8(sum_w + h * 8)), peer_address(bar_win, to));
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        uint32_t a[4], v[4];
        load_matrix(a, base + Shared::p_win + (lane & 15) * 80 + (2 * k + (lane >> 4)) * 16);
        load_matrix_trans(v, base + Shared::v_win + place<128>(k * 16 + (lane & 15), 2 * warp + (lane >> 4)));
        multiply<T>(o_win[0], a, v[0], v[1]), multiply<T>(o_win[1], a, v[2], v[3]);
      }
    }
    if constexpr (kHasCmp) {
      take_over<kBarKeys>();  // the keys have arrived: the values may have the memory
      if (Groups > 1) load(Shared::v_cmp, p.v_cmp, first, padded, valid), copy_commit();
      copy_wait<0>();
      take_over<kBarProbabilities>();
#pragma unroll 2
      for (int k = 0; k < padded / 16; k += 2) {
        uint32_t a[4], v[4];
        load_matrix(a, base + Shared::p_cmp + (lane & 15) * 528 + (2 * k + (lane >> 4)) * 16);
        load_matrix_trans(v, base + Shared::v_cmp + place<128>(k * 16 + (lane & 15), 2 * warp + (lane >> 4)));
        multiply<T>(o_cmp[0], a, v[0], v[1]), multiply<T>(o_cmp[1], a, v[2], v[3]);
        if (k + 1 < padded / 16) {
          load_matrix(a, base + Shared::p_cmp + (lane & 15) * 528 + (2 * k + 2 + (lane >> 4)) * 16);
          load_matrix_trans(v, base + Shared::v_cmp + place<128>(k * 16 + 16 + (lane & 15), 2 * warp + (lane >> 4)));
          multiply<T>(o_cmp[2], a, v[0], v[1]), multiply<T>(o_cmp[3], a, v[2], v[3]);
        }
      }
    }
    if constexpr (kSide) {
      float *scale_cmp = reinterpret_cast<float *>(shared + Shared::scale_cmp), *scale_win = reinterpret_cast<float *>(shared + Shared::scale_win);
      if (kHasCmp) await(bar_cmp);
      if (kHasWin) await(bar_win);
      if (tid < 64) {
        const float f = kHasCmp ? factor<16>(shared + Shared::in_cmp, tid, rank, p.heads) : 0.f;
        if ((tid & 3) == 0) scale_cmp[tid >> 2] = f;
      } else if (tid < 128) {
        const float f = kHasWin ? factor<8>(shared + Shared::in_win, tid - 64, rank, p.heads) : 0.f;
        if ((tid & 3) == 0) scale_win[(tid - 64) >> 2] = f;
      }
      const float gc0 = gate_of<T>(p, row, g, 0), gc1 = gate_of<T>(p, row, g + 8, 0), gw0 = gate_of<T>(p, row, g, 2), gw1 = gate_of<T>(p, row, g + 8, 2);
      half_sync<kBarSide>();
      const float c0_ = gc0 * scale_cmp[g], c1_ = gc1 * scale_cmp[g + 8], w0 = gw0 * scale_win[g], w1 = gw1 * scale_win[g + 8];
      // Rows are staged so that messages are 512 bytes to one receiver. Nobody reads the window's keys any more.
      float *staged = reinterpret_cast<float *>(shared + Shared::k_win) + 16 * warp + 2 * t;
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        *reinterpret_cast<float2 *>(staged + g * 128 + 8 * n) =
            make_float2(o_win[n][0] * w0 + (o_cmp[n][0] + o_cmp[n + 2][0]) * c0_, o_win[n][1] * w0 + (o_cmp[n][1] + o_cmp[n + 2][1]) * c0_);
        *reinterpret_cast<float2 *>(staged + (g + 8) * 128 + 8 * n) =
            make_float2(o_win[n][2] * w1 + (o_cmp[n][2] + o_cmp[n + 2][2]) * c1_, o_win[n][3] * w1 + (o_cmp[n][3] + o_cmp[n + 2][3]) * c1_);
      }
      half_sync<kBarSide>();
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int h = 2 * warp + r;
        const float4 v = *reinterpret_cast<const float4 *>(shared + Shared::k_win + h * 512 + lane * 16);
        send16(peer_address(base + Shared::in_side + rank * 512 + lane * 16, h), v, peer_address(bar_out, h));
      }
    }
    return;
  }
  // -------------------------------------------------------------------------------- the critical path
  if (kHasSel && !kHasCmp) load_q(Shared::q);
  if constexpr (kHasCmp) {
    if (!guessed) {  // the length has another slicing: the copies above are void
      copy_wait<0>();
      half_sync<kBarPath>();
#pragma unroll
      for (int i = 0; i < kGuessed; ++i) {
        load(Shared::k_cmp + i * 64 * 256, p.k_cmp, first + i * 64, min(64, padded - i * 64), min(valid - i * 64, 64));
        copy_commit();
      }
    }
#pragma unroll
    for (int i = kGuessed; i < Groups; ++i) {
      load(Shared::k_cmp + i * 64 * 256, p.k_cmp, first + i * 64, min(64, padded - i * 64), min(valid - i * 64, 64));
      copy_commit();
    }
  }
  const float gate_sel = kHasSel ? gate_of<T>(p, row, rank, 1) : 0.f;
  int32_t *indices = p.block_indices + static_cast<uint64_t>(row.batch) * p.i_b + static_cast<uint64_t>(row.group) * p.i_g;
  int block = -1;
  if (kHasRoute && !route) block = rank < row.blocks ? rank : -1;
  if (!kHasRoute && kHasSel) block = indices[rank];
  cluster_wait();
  uint32_t q[8][4];
  const auto read_q = [&]() {
#pragma unroll
    for (int k = 0; k < 8; ++k) load_matrix(q[k], base + Shared::q + place<128>(lane & 15, 2 * k + (lane >> 4)));
  };
  if constexpr (kHasCmp) {
    float *sums = reinterpret_cast<float *>(shared + Shared::sums), *last = reinterpret_cast<float *>(shared + Shared::last);
    float *slice_last = reinterpret_cast<float *>(shared + Shared::slice_last);
    const int tiles = padded / 8;
    float s[Groups][4], m0 = -INFINITY, m1 = -INFINITY;
#pragma unroll
    for (int i = 0; i < Groups; ++i) {
      const int tile = i * 8 + warp, c = tile * 8 + 2 * t;
      if (Groups - 1 - i == 3) copy_wait<3>();
      else if (Groups - 1 - i == 2) copy_wait<2>();
      else if (Groups - 1 - i == 1) copy_wait<1>();
      else copy_wait<0>();
      if (i == Groups - 1) hand_over<kBarKeys>();
      half_sync<kBarPath>();
      if (i == 0) read_q();
      if (tile < tiles) {
        score8<T>(s[i], q, base + Shared::k_cmp + tile * 2048, p.scale_log2, lane);
        if (c >= valid) s[i][0] = s[i][2] = -INFINITY;
        if (c + 1 >= valid) s[i][1] = s[i][3] = -INFINITY;
        m0 = fmaxf(m0, fmaxf(s[i][0], s[i][1])), m1 = fmaxf(m1, fmaxf(s[i][2], s[i][3]));
      }
    }
    m0 = quad_max1(m0), m1 = quad_max1(m1);
    if (t == 0) max_w[g * 8 + warp] = ceilf(m0), max_w[(g + 8) * 8 + warp] = ceilf(m1);  // whole: rescaling is exact
    half_sync<kBarPath>();
    m0 = finite(max8(max_w + g * 8)), m1 = finite(max8(max_w + (g + 8) * 8));
    float l0 = 0, l1 = 0;
#pragma unroll
    for (int i = 0; i < Groups; ++i) {
      const int tile = i * 8 + warp, c = tile * 8 + 2 * t;
      if (tile < tiles) {
        const float p0 = exp2_fast(s[i][0] - m0), p1 = exp2_fast(s[i][1] - m0), p2 = exp2_fast(s[i][2] - m1), p3 = exp2_fast(s[i][3] - m1);
        l0 += p0 + p1, l1 += p2 + p3;
        *reinterpret_cast<uint32_t *>(shared + Shared::p_cmp + g * 528 + c * 2) = Element<T>::pack(p0, p1);
        *reinterpret_cast<uint32_t *>(shared + Shared::p_cmp + (g + 8) * 528 + c * 2) = Element<T>::pack(p2, p3);
        if constexpr (kHasRoute) {
          const float h0 = .5f * p1, h1 = .5f * p3;
          float a0 = p0 + ((t & 1) ? h0 : p1), a1 = p2 + ((t & 1) ? h1 : p3);
          a0 += __shfl_xor_sync(~0u, a0, 1), a1 += __shfl_xor_sync(~0u, a1, 1);
          const float x0 = __shfl_sync(~0u, h0, (lane & ~3) + 1), x1 = __shfl_sync(~0u, h1, (lane & ~3) + 1);
          if (c + 1 == slice - 1) slice_last[g] = h0, slice_last[g + 8] = h1;
          if (t == 0 && 2 * tile < owned) sums[2 * tile * 16 + g] = a0, sums[2 * tile * 16 + g + 8] = a1;
          if (t == 2 && 2 * tile + 1 < owned) sums[(2 * tile + 1) * 16 + g] = a0 + x0, sums[(2 * tile + 1) * 16 + g + 8] = a1 + x1;
          if (t == 3) last[tile * 16 + g] = h0, last[tile * 16 + g + 8] = h1;
        }
      }
    }
    l0 = quad_sum1(l0), l1 = quad_sum1(l1);
    if (t == 0) sum_w[g * 8 + warp] = l0, sum_w[(g + 8) * 8 + warp] = l1;
    half_sync<kBarPath>();
    hand_over<kBarProbabilities>();
    {
      const int to = tid >> 4, h = tid & 15;
      send16(peer_address(base + Shared::in_cmp + (rank * 16 + h) * 16, to),
             make_float4(max8(max_w + h * 8), sum8(sum_w + h * 8), route ? slice_last[h] : 0.f, 0.f), peer_address(bar_cmp, to));
    }
    if (!route) await(bar_cmp);  // nobody leaves before every message to it has arrived
  }
  if (route) {
    float *scale = reinterpret_cast<float *>(shared + Shared::scale), *before = reinterpret_cast<float *>(shared + Shared::before);
    const float *sums = reinterpret_cast<const float *>(shared + Shared::sums), *last = reinterpret_cast<const float *>(shared + Shared::last);
    uint32_t *importance = reinterpret_cast<uint32_t *>(shared + Shared::importance);
    uint64_t *keys = reinterpret_cast<uint64_t *>(shared + Shared::key);
    await(bar_cmp);
    if (tid < 64) {
      // What the last token of the slice before gives to this slice's first block, at this slice's exponent: exact. A
      // slice without a token takes the other's exponent.
      const int h = tid >> 2;
      const float2 here = *reinterpret_cast<const float2 *>(shared + Shared::in_cmp + (rank * 16 + h) * 16);
      const float4 there = *reinterpret_cast<const float4 *>(shared + Shared::in_cmp + (max(rank - 1, 0) * 16 + h) * 16);
      const bool empty = here.x == -INFINITY && rank > 0;
      const float f = factor<16>(shared + Shared::in_cmp, tid, empty ? rank - 1 : rank, p.heads);
      if ((tid & 3) == 0) {
        scale[h] = f;
        before[h] = rank == 0 ? 0.f : empty ? there.z : there.z * exp2_fast(there.x - here.x);
      }
    }
    half_sync<kBarPath>();
    const int j = tid >> 2, quarter = tid & 3, mine = rank * owned + j;  // four lanes a block
    uint32_t key = 0;
    float value = 0.f;
    if (j < owned) {
      const float4 x = *reinterpret_cast<const float4 *>(sums + j * 16 + quarter * 4), f = *reinterpret_cast<const float4 *>(scale + quarter * 4);
      float4 y = make_float4(0.f, 0.f, 0.f, 0.f);
      if (!(j & 1)) y = *reinterpret_cast<const float4 *>((j ? last + (j / 2 - 1) * 16 : before) + quarter * 4);
      value = (x.x + y.x) * f.x + (x.y + y.y) * f.y + (x.z + y.z) * f.z + (x.w + y.w) * f.w;
    }
    value = quad_sum1(value);
    if (j < owned && mine < row.blocks && mine != 0 && mine < current - 1) key = __float_as_uint(value) + 1;
    if (quarter == 0) importance[j] = key;
    half_sync<kBarPath>();
    int above = 0;
#pragma unroll
    for (int k = 0; k < Groups; ++k) {  // a quarter of the candidates each; of equal ones the lower index is above
      const int other = (quarter * Groups + k) * 4;
      const uint4 o = *reinterpret_cast<const uint4 *>(importance + other);
      above += (o.x >= key + (other >= j)) + (o.y >= key + (other + 1 >= j)) + (o.z >= key + (other + 2 >= j)) + (o.w >= key + (other + 3 >= j));
    }
    above += __shfl_xor_sync(~0u, above, 1), above += __shfl_xor_sync(~0u, above, 2);
    if (quarter == 0 && j < owned && above < kFree) keys[above] = key_of(key, mine);
    half_sync<kBarPath>();
    const uint64_t *in_keys = reinterpret_cast<const uint64_t *>(shared + Shared::in_keys);
    {
      const int to = tid >> 4, k = tid & 15;
      if (k < kFree) send_key(peer_address(base + Shared::in_keys + (rank * kFree + k) * 8, to), keys[k], peer_address(bar_keys, to));
    }
    await(bar_keys);
    {  // each block ranks its own candidates among all, and tells the thread block that will attend to the winner
      const int c = tid >> 4, from = tid & 15;
      uint32_t count = 0;
      uint64_t my = 0;
      if (c < kFree) {
        my = in_keys[rank * kFree + c];
#pragma unroll
        for (int k = 0; k < kFree; ++k) count += in_keys[from * kFree + k] > my;
      }
      count = __reduce_add_sync(~0u, count << (lane & 16)) >> (lane & 16) & 0xffffu;
      if (from == 0 && c < kFree && count < kFree && my)
        send_word(peer_address(base + Shared::block, count), block_of(my), peer_address(bar_block, count));
    }
    block = rank == 13 ? 0 : rank == 14 ? current - 1 : current;
    if (rank < kFree) {
      await(bar_block);
      block = *reinterpret_cast<const int *>(shared + Shared::block);
    }
  }
  const int here = block < 0 ? 0 : min(max(S - block * kSelBlock, 0), kSelBlock);
  if constexpr (kHasSel) {
    load(Shared::k_sel, p.k_sel, block * kSelBlock, kSelBlock, here);
    copy_commit();
    load(Shared::v_sel, p.v_sel, block * kSelBlock, kSelBlock, here);
    copy_commit();
  }
  if (kHasRoute && tid == 0) send_word(peer_address(base + Shared::blocks + rank * 4, 0), block, peer_address(bar_blocks, 0));
  if constexpr (kHasSel) {
    copy_wait<1>();
    half_sync<kBarPath>();
    if (!kHasCmp) read_q();
    float s[4];
    score8<T>(s, q, base + Shared::k_sel + warp * 2048, p.scale_log2, lane);
    const int c = warp * 8 + 2 * t;
    if (c >= here) s[0] = s[2] = -INFINITY;
    if (c + 1 >= here) s[1] = s[3] = -INFINITY;
    float m0 = quad_max1(fmaxf(s[0], s[1])), m1 = quad_max1(fmaxf(s[2], s[3]));
    if (t == 0) max_w[g * 8 + warp] = m0, max_w[(g + 8) * 8 + warp] = m1;
    half_sync<kBarPath>();
    m0 = finite(max8(max_w + g * 8)), m1 = finite(max8(max_w + (g + 8) * 8));
    const float p0 = exp2_fast(s[0] - m0), p1 = exp2_fast(s[1] - m0), p2 = exp2_fast(s[2] - m1), p3 = exp2_fast(s[3] - m1);
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
    float *staged = reinterpret_cast<float *>(shared + Shared::k_cmp) + 16 * warp + 2 * t;  // nobody reads these keys any more
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      *reinterpret_cast<float2 *>(staged + g * 128 + 8 * n) = make_float2(o[n][0], o[n][1]);
      *reinterpret_cast<float2 *>(staged + (g + 8) * 128 + 8 * n) = make_float2(o[n][2], o[n][3]);
    }
    if (tid < 16) send8(peer_address(base + Shared::in_sel_ml + rank * 8, tid), make_float2(max8(max_w + tid * 8), sum8(sum_w + tid * 8)), peer_address(bar_out, tid));
    half_sync<kBarPath>();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int h = 2 * warp + r;
      const float4 v = *reinterpret_cast<const float4 *>(shared + Shared::k_cmp + h * 512 + lane * 16);
      send16(peer_address(base + Shared::in_sel + rank * 512 + lane * 16, h), v, peer_address(bar_out, h));
    }
  }
  if (kSide || kHasSel) await(bar_out);
  {  // thread block `rank` sums head `rank`: two lanes a column, eight sources each
    const int column = tid >> 1, half = (tid & 1) * 8;
    float sum = 0.f, side = 0.f, l = 0.f;
    if constexpr (kHasSel) {
      float2 ml[8];
      float m = -INFINITY;
#pragma unroll
      for (int i = 0; i < 8; ++i) ml[i] = *reinterpret_cast<const float2 *>(shared + Shared::in_sel_ml + (half + i) * 8), m = fmaxf(m, ml[i].x);
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
      uint32_t *o = reinterpret_cast<uint32_t *>(static_cast<uint2 *>(p.o) + static_cast<uint64_t>(row.batch) * p.o_b +
                                                 static_cast<uint64_t>(row.group) * p.o_g + static_cast<uint64_t>(rank) * p.o_h);
      o[column / 2] = Element<T>::pack(side + sum, next);
    }
  }
  if (kHasRoute && rank == 0 && tid < kMostBlocks) {  // all blocks, ascending, those that are none at the end
    await(bar_blocks);
    const uint32_t *blocks = reinterpret_cast<const uint32_t *>(shared + Shared::blocks);
    const uint32_t mine = blocks[tid];
    int before = 0;
    for (int i = 0; i < kMostBlocks; ++i) before += blocks[i] < mine || (blocks[i] == mine && i < tid);
    indices[before] = static_cast<int>(mine);
  }
}

}  // namespace nsa::core
