// One launch for few rows: a cluster of 6, 8 or 16 thread blocks holds a whole row in shared memory. Half of the warps
// walk the critical path (scores, importance, ranks, selected attention), the others do the window and the compressed
// branch's values beside it. Everything is exchanged by messages that count bytes at their receiver.
#pragma once
#include "order.cuh"
#include "resident_route.cuh"
#include "resident_side.cuh"

namespace nsa::core {

// Groups: of 64 compressed tokens that a thread block holds, by capacity. Grid: (Ranks, G, B), clusters of Ranks.
template <typename T, int D, int Ranks, int Groups, int Parts>
__global__ void __launch_bounds__(kResidentThreads, 1) resident(const __grid_constant__ Params p) {
#if __CUDA_ARCH__ >= 900  // elsewhere no plan leads here
  in_order();
  using Shared = ResidentShared<D, Ranks, Groups>;
  constexpr bool kHasCmp = Parts & kCmp, kHasRoute = Parts & kRoute, kHasSel = Parts & kSel, kHasWin = Parts & kWin;
  constexpr int kGuessed = Groups > 1 ? 2 : 1, kShare = Shared::kShare;
  extern __shared__ __align__(128) unsigned char shared[];
  const int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3, tid = threadIdx.x & (kHalf - 1), warp = tid >> 5;
  const bool path = threadIdx.x < kHalf;
  const int rank = blockIdx.x;
  const int heads = min(max(16 - rank * kShare, 0), kShare);  // that this thread block sums
  const uint32_t base = shared_address(shared);
  const int asked = load_length(p, blockIdx.z);
  Row row(blockIdx.z, blockIdx.y);
  const Half<Shared> me{p, row, shared, base, tid, warp, lane, rank};
  // Slices are whole selection blocks; by capacity where that is not far off, so that the first keys are asked for
  // before the length is known.
  const int most = (p.capacity + kSelBlock * Ranks - 1) / (kSelBlock * Ranks);
  const int room = p.capacity < kCmpBlock ? 0 : (p.capacity - kCmpBlock) / kCmpStride + 1;
  if (path && kHasCmp) {
#pragma unroll
    for (int i = 0; i < kGuessed; ++i) {
      const int at = rank * most * 4 + i * 64;
      me.template load_group<D>(Shared::k_cmp + i * 64 * Shared::kKey, p.k_cmp, at, ((most * 4 + 15) & ~15) - i * 64,
                                min(most * 4 - i * 64, room - at));
      if (i == 0) me.load_q(Shared::q);
      copy_commit();
    }
  }
  if (path && tid == 0) me.template expect_all<Parts>(heads, Shared::kKeyBytes);
  if (path && tid < kFree) reinterpret_cast<uint64_t *>(shared + Shared::key)[tid] = 0;
  __syncwarp();
  cluster_arrive();
  uint16_t gate_sel[HeadTurns<Shared>::kTurns] = {};
  if (kHasSel && path)
#pragma unroll
    for (int i = 0; i < HeadTurns<Shared>::kTurns; ++i)
      gate_sel[i] = load_gate(p, row, rank * kShare + (i * kHalf + tid) / HeadTurns<Shared>::kLanes / 128, 1);
  if (!path && kHasWin)
    me.load_q(Shared::in_side);  // a copy of its own, where results arrive only after it has been read
  row.measure(p, asked);
  const int S = row.length, width = kHasWin ? min(p.window, S) : 0, current = row.blocks - 1;
  const int fair = (row.blocks + Ranks - 1) / Ranks, owned = 4 * row.blocks >= 3 * most * Ranks ? most : fair;
  const bool guessed = owned == most;
  const int slice = owned * 4, first = rank * slice, padded = (slice + 15) & ~15;
  const int valid = kHasCmp ? min(max(row.compressed - first, 0), slice) : 0;
  const bool route = kHasRoute && row.blocks > p.blocks;
  float *max_w = me.floats(Shared::max_a), *sum_w = me.floats(Shared::sum_a);  // [16 heads][8 warps]

  if (!path) return beside<T, Shared, Parts>(me, width, {first, padded, valid}, route);

  // -------------------------------------------------------------------------------- the critical path
  if (kHasSel && !kHasCmp) me.load_q(Shared::q);
  if constexpr (kHasCmp) {
    if (!guessed) {  // the length has another slicing: the copies above are void
      copy_wait<0>();
      half_sync<kBarPath>();
#pragma unroll
      for (int i = 0; i < kGuessed; ++i) {
        me.template load<D>(Shared::k_cmp + i * 64 * Shared::kKey, p.k_cmp, first + i * 64, min(64, padded - i * 64),
                            min(valid - i * 64, 64));
        copy_commit();
      }
    }
#pragma unroll
    for (int i = kGuessed; i < Groups; ++i) {
      me.template load<D>(Shared::k_cmp + i * 64 * Shared::kKey, p.k_cmp, first + i * 64, min(64, padded - i * 64),
                          min(valid - i * 64, 64));
      copy_commit();
    }
  }
  int block[kShare];
  if (!route) take_blocks<Shared, Parts>(me, false, block);
  cluster_wait();
  uint32_t q[D / 16][4];
  if constexpr (kHasCmp) {
    float *sums = reinterpret_cast<float *>(shared + Shared::sums),
          *last = reinterpret_cast<float *>(shared + Shared::last);
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
      if (Groups > 1 && i == Groups - 1) hand_over<kBarKeys>();
      half_sync<kBarPath>();
      if (i == 0) me.read_q(q, Shared::q);
      if (tile < tiles) {
        score8<T>(s[i], q, base + Shared::k_cmp + tile * 8 * Shared::kKey, p.scale_log2, lane);
        if (c >= valid) s[i][0] = s[i][2] = -INFINITY;
        if (c + 1 >= valid) s[i][1] = s[i][3] = -INFINITY;
        m0 = fmaxf(m0, fmaxf(s[i][0], s[i][1])), m1 = fmaxf(m1, fmaxf(s[i][2], s[i][3]));
      }
    }
    m0 = quad_max1(m0), m1 = quad_max1(m1);
    if (t == 0)
      max_w[of_warp(g, warp)] = ceilf(m0), max_w[of_warp(g + 8, warp)] = ceilf(m1);  // whole: rescaling is exact
    half_sync<kBarPath>();
    m0 = finite(max8(max_w + g * 8)), m1 = finite(max8(max_w + (g + 8) * 8));
    float l0 = 0, l1 = 0;
#pragma unroll
    for (int i = 0; i < Groups; ++i) {
      const int tile = i * 8 + warp, c = tile * 8 + 2 * t;
      if (tile < tiles) {
        const float p0 = exp2_fast(s[i][0] - m0), p1 = exp2_fast(s[i][1] - m0), p2 = exp2_fast(s[i][2] - m1),
                    p3 = exp2_fast(s[i][3] - m1);
        l0 += p0 + p1, l1 += p2 + p3;
        *reinterpret_cast<uint32_t *>(shared + Shared::p_cmp + g * Shared::p_cmp_row + c * 2) =
            Element<T>::pack(p0, p1);
        *reinterpret_cast<uint32_t *>(shared + Shared::p_cmp + (g + 8) * Shared::p_cmp_row + c * 2) =
            Element<T>::pack(p2, p3);
        if constexpr (kHasRoute) {
          const float h0 = .5f * p1, h1 = .5f * p3;
          float a0 = p0 + ((t & 1) ? h0 : p1), a1 = p2 + ((t & 1) ? h1 : p3);
          a0 += __shfl_xor_sync(~0u, a0, 1), a1 += __shfl_xor_sync(~0u, a1, 1);
          const float x0 = __shfl_sync(~0u, h0, (lane & ~3) + 1), x1 = __shfl_sync(~0u, h1, (lane & ~3) + 1);
          if (c + 1 == slice - 1) slice_last[g] = h0, slice_last[g + 8] = h1;
          if (t == 0 && 2 * tile < owned) sums[2 * tile * 16 + g] = a0, sums[2 * tile * 16 + g + 8] = a1;
          if (t == 2 && 2 * tile + 1 < owned)
            sums[(2 * tile + 1) * 16 + g] = a0 + x0, sums[(2 * tile + 1) * 16 + g + 8] = a1 + x1;
          if (t == 3) last[tile * 16 + g] = h0, last[tile * 16 + g + 8] = h1;
        }
      }
    }
    l0 = quad_sum1(l0), l1 = quad_sum1(l1);
    if (t == 0) sum_w[of_warp(g, warp)] = l0, sum_w[of_warp(g + 8, warp)] = l1;
    half_sync<kBarPath>();
    hand_over<kBarProbabilities>();
    {
      const int to = tid >> 4, h = tid & 15;
      tell_slice(me, to, h, make_float2(max8(max_w + h * 8), sum8(sum_w + h * 8)), route ? slice_last[h] : 0.f);
    }
    if (!route) await(me.bar(kInCmp));  // nobody leaves before every message to it has arrived
  }
  const BlockCopies<D, Shared> keys(me, Shared::k_sel, p.k_sel);
  if (route) {
    const float *sums = reinterpret_cast<const float *>(shared + Shared::sums),
                *last = reinterpret_cast<const float *>(shared + Shared::last);
    const int j = tid >> 2, quarter = tid & 3, mine = rank * owned + j;  // four lanes a block
    uint32_t key = 0;
    if (warp * 8 < owned) {
      float4 x = make_float4(0.f, 0.f, 0.f, 0.f), y = x;
      if (j < owned) x = *reinterpret_cast<const float4 *>(sums + j * 16 + quarter * 4);
      if (j < owned && j && !(j & 1)) y = *reinterpret_cast<const float4 *>(last + (j / 2 - 1) * 16 + quarter * 4);
      await(me.bar(kInCmp));
      SliceScale f(me);
      if (j == 0) y = f.before;
      settle(x, y, f.factor);
      const float value = quad_sum1((x.x + y.x) * f.factor.x + (x.y + y.y) * f.factor.y + (x.z + y.z) * f.factor.z +
                                    (x.w + y.w) * f.factor.w);
      if (j < owned && mine < row.blocks && mine != 0 && mine < current - 1) key = __float_as_uint(value) + 1;
    }
    if constexpr (Shared::kAll) {
      exchange_importance(me, key, owned);
    } else {
      uint32_t *importance = reinterpret_cast<uint32_t *>(shared + Shared::importance);
      uint64_t *best = reinterpret_cast<uint64_t *>(shared + Shared::key);
      if (quarter == 0) importance[j] = key;
      half_sync<kBarPath>();
      int above = 0;
#pragma unroll
      for (int k = 0; k < Groups; ++k) {  // a quarter of the candidates each; of equal ones the lower index is above
        const int other = (quarter * Groups + k) * 4;
        const uint4 o = *reinterpret_cast<const uint4 *>(importance + other);
        above += (o.x >= key + (other >= j)) + (o.y >= key + (other + 1 >= j)) + (o.z >= key + (other + 2 >= j)) +
                 (o.w >= key + (other + 3 >= j));
      }
      above += __shfl_xor_sync(~0u, above, 1), above += __shfl_xor_sync(~0u, above, 2);
      if (quarter == 0 && j < owned && above < kFree) best[above] = key_of(key, mine);
      half_sync<kBarPath>();
      exchange_keys(me);
    }
    take_blocks<Shared, Parts>(me, true, block);
  }
  attend_selected<T, Shared, Parts>(me, q, block, keys, gate_sel);
#endif
}

}  // namespace nsa::core
