// One launch: C thread blocks (a cluster) stream a row. Each warp has a ring of its own of 16-token tiles (K and V
// together) and its own online softmax; one pass over K_cmp and V_cmp leaves block sums instead of scores.
#pragma once
#include "stream_sum.cuh"
#include "stream_tile.cuh"

namespace nsa::core {

// Grid: (C, G, B), clusters of C along x.
template <typename T, int D, int DV, int C, int Stages, int Warps, int Parts>
__global__ void __launch_bounds__(Warps * 32, 8 / Warps) stream(const __grid_constant__ Params p, int tiles) {
#if __CUDA_ARCH__ >= 900  // elsewhere no plan leads here
  using Shared = StreamShared<D, DV, C, Stages, Warps>;
  constexpr int kThreads = Warps * 32;
  constexpr bool kHasCmp = Parts & kCmp, kHasSel = Parts & kSel, kHasWin = Parts & kWin;
  extern __shared__ __align__(128) unsigned char shared[];
  const int tid = threadIdx.x, warp = tid >> 5, lane = tid & 31, g = lane >> 2, t = lane & 3;
  const int rank = C > 1 ? blockIdx.x : 0;
  const uint32_t base = shared_address(shared);
  const Row row(p, blockIdx.z, blockIdx.y);
  const int current = row.blocks - 1, S = row.length;
  const bool route = (Parts & kRoute) && row.blocks > p.blocks;  // else every block is selected
  const bool known = !route;                                     // the blocks, from the start

  const int slice = 16 * ((row.blocks + 4 * C - 1) / (4 * C)), first = rank * slice;
  const int mine = kHasCmp ? min(max(row.compressed - first, 0), slice) : 0, cmp_tiles = (mine + 15) / 16;
  const int width = kHasWin ? min(p.window, S) : 0, win_all = (width + 15) / 16;
  const int win_first = rank * win_all / C, win_tiles = (rank + 1) * win_all / C - win_first;
  const int sel_tiles = kHasSel ? (4 * p.blocks - rank + C - 1) / C : 0;  // tile i is number i * C + rank
  const int forced_tiles = kHasSel ? (4 * kForcedBlocks - rank + C - 1) / C : 0;
  const auto of_warp = [&](int count) { return warp < count ? (count - warp + Warps - 1) / Warps : 0; };
  const int cmp_mine = of_warp(cmp_tiles), win_mine = of_warp(win_tiles), sel_mine = of_warp(sel_tiles);

  float2 *ml = reinterpret_cast<float2 *>(shared + Shared::ml),
         *whole = reinterpret_cast<float2 *>(shared + Shared::whole);
  float *gates = reinterpret_cast<float *>(shared + Shared::gates);
  float2 *halo = reinterpret_cast<float2 *>(shared + Shared::halo);
  uint64_t *best = reinterpret_cast<uint64_t *>(shared + Shared::best),
           *peers = reinterpret_cast<uint64_t *>(shared + Shared::peers);
  int *index = reinterpret_cast<int *>(shared + Shared::index);
  float *sums = reinterpret_cast<float *>(shared + Shared::slice), *last = sums + tiles * 64;
  short *exponent = reinterpret_cast<short *>(last + tiles * 16);
  uint32_t *importance = reinterpret_cast<uint32_t *>(exponent + tiles * 16);
  uint64_t *groups = reinterpret_cast<uint64_t *>(sums);  // the best of each 64 blocks, once the sums are used
  const uint32_t bar = base + Shared::barriers, bar_halo = bar + 24, bar_keys = bar + 32, bar_out = bar + 40;

  int32_t *indices =
      p.block_indices + static_cast<uint64_t>(row.batch) * p.i_b + static_cast<uint64_t>(row.group) * p.i_g;
  if (tid < kMostBlocks) {
    int block = -1;
    if (!(Parts & kRoute)) block = kHasSel && tid < p.blocks ? indices[tid] : -1;
    else if (known) block = tid < row.blocks ? tid : -1;
    else if (tid < kForcedBlocks) block = tid == 0 ? 0 : current - 2 + tid;
    index[tid] = block;
    if (known && (Parts & kRoute) && rank == 0 && tid < p.blocks) indices[tid] = block;
  }
  if (C > 1 && tid == 0) {
    for (int i = 0; i < 3; ++i) expect(bar + 8 * i, C * 128);
    expect(bar_halo, 128), expect(bar_keys, C * kFree * 8);
    expect(bar_out, C * 16 * (min(16 * DV / 4, (rank + 1) * Shared::kShare) - rank * Shared::kShare));
    publish();
  }
  if (tid < 48) gates[tid] = gate_of<T>(p, row, tid & 15, tid < 16 ? 0 : tid < 32 ? 2 : 1);
  if (tid < kFree) best[tid] = 0;
  __syncthreads();
  if (C > 1) cluster_arrive();

  const uint32_t ring = base + warp * Shared::kRing;
  int issued = 0, done = 0;
  int limit = cmp_mine + win_mine + (known ? sel_mine : of_warp(forced_tiles));
  const auto selected = [&](int i, int &start) {  // tile i of this warp's selected ones -> tokens that it has
    const int tile = (warp + Warps * i) * C + rank, block = index[tile >> 2];
    start = block * kSelBlock + (tile & 3) * 16;
    return block < 0 ? 0 : S - start;
  };
  const auto fill = [&]() {
#pragma unroll 1
    while (issued < limit && issued < done + Stages) {
      const int i = issued;
      const Cache *k, *v;
      int start, valid;
      if (kHasCmp && i < cmp_mine) {
        start = first + (warp + Warps * i) * 16, valid = row.compressed - start, k = &p.k_cmp, v = &p.v_cmp;
      } else if (kHasWin && i < cmp_mine + win_mine) {
        const int at = (win_first + warp + Warps * (i - cmp_mine)) * 16;
        start = S - width + at, valid = width - at, k = &p.k_win, v = &p.v_win;
      } else {
        valid = selected(i - cmp_mine - win_mine, start), k = &p.k_sel, v = &p.v_sel;
      }
      if (valid > 0) {
        const uint32_t to = ring + (i % Stages) * Shared::kTile;
        copy_tile16<D>(to, row.at(*k, start), k->s, valid, lane);
        copy_tile16<DV>(to + 16 * D * 2, row.at(*v, start), v->s, valid, lane);
      }
      copy_commit();
      ++issued;
    }
  };
  fill();
  Rows<D> q;
  q.load(p, row, lane);
  Running<DV> st;
  float total[DV / 8][4];
#pragma unroll
  for (int i = 0; i < DV / 8; ++i) total[i][0] = total[i][1] = total[i][2] = total[i][3] = 0.f;
  if (C > 1) cluster_wait();

#pragma unroll 1
  for (int branch = 0; branch < 3; ++branch) {
    if (branch == 0 ? !kHasCmp : branch == 1 ? !kHasWin : !kHasSel) continue;
    st.clear();
    const int count = branch == 0 ? cmp_mine : branch == 1 ? win_mine : sel_mine;
#pragma unroll 1
    for (int i = 0; i < count; ++i) {
      const int behind = issued - done - 1;
      if (behind <= 0) copy_wait<0>();
      else if (behind == 1) copy_wait<1>();
      else copy_wait<2>();
      __syncwarp();
      const int at = warp + Warps * i;
      int valid, start;
      if (branch == 0) valid = mine - at * 16;
      else if (branch == 1) valid = width - (win_first + at) * 16;
      else valid = selected(i, start);
      if (valid > 0)
        attend_tile<T, D, DV>(st, q, ring + (done % Stages) * Shared::kTile, valid, p.scale_log2, lane,
                              branch == 0 && route, {sums + at * 64, last + at * 16, exponent + at * 16});
      ++done;
      __syncwarp();
      fill();
    }
    // Maximum and sum over the warps, then over the cluster; then the branch goes into the total.
    st.l[0] = quad_sum1(st.l[0]), st.l[1] = quad_sum1(st.l[1]);
    if (t == 0)
      ml[warp * 16 + g] = make_float2(st.m[0], st.l[0]), ml[warp * 16 + g + 8] = make_float2(st.m[1], st.l[1]);
    __syncthreads();
    const int row_ml = Shared::row_ml + branch * C * 128;
    if (tid < 16 * C) {
      const int to = tid >> 4, h = tid & 15;
      float m = -INFINITY, l = 0.f;
#pragma unroll
      for (int i = 0; i < Warps; ++i) m = fmaxf(m, ml[i * 16 + h].x);
      const float from = m == -INFINITY ? 0.f : m;
#pragma unroll
      for (int i = 0; i < Warps; ++i) l += ml[i * 16 + h].y * exp2_fast(ml[i * 16 + h].x - from);
      if (C > 1)
        send8(peer_address(base + row_ml + (rank * 16 + h) * 8, to), make_float2(m, l),
              peer_address(bar + 8 * branch, to));
      else *reinterpret_cast<float2 *>(shared + row_ml + h * 8) = make_float2(m, l);
    }
    if (C > 1) await(bar + 8 * branch);
    else __syncthreads();
    {
      const float2 *all = reinterpret_cast<const float2 *>(shared + row_ml);
      float c[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int h = g + 8 * r;
        float m = -INFINITY, l = 0.f;
#pragma unroll
        for (int i = 0; i < C; ++i) m = fmaxf(m, all[i * 16 + h].x);
        const float from = m == -INFINITY ? 0.f : m;
#pragma unroll
        for (int i = 0; i < C; ++i) l += all[i * 16 + h].y * exp2_fast(all[i * 16 + h].x - from);
        l = m == -INFINITY ? 0.f : __fdividef(1.f, l);
        if (branch == 0 && warp == 0 && t == 0) whole[h] = make_float2(from, h < p.heads ? l : 0.f);
        c[r] = gates[branch * 16 + h] * exp2_fast(st.m[r] - from) * l;
      }
#pragma unroll
      for (int n = 0; n < DV / 8; ++n)
        total[n][0] += st.o[n][0] * c[0], total[n][1] += st.o[n][1] * c[0], total[n][2] += st.o[n][2] * c[1],
            total[n][3] += st.o[n][3] * c[1];
    }
    __syncthreads();
    if (branch == 0 && route) {
      // Importance of this slice's blocks: the sums, brought from each tile's exponents to the row's probabilities.
      if (C > 1) {
        if (rank + 1 < C && tid < 16) {
          const bool full = cmp_tiles > 0 && cmp_tiles == slice / 16;
          const int i = (cmp_tiles - 1) * 16 + tid;
          send8(peer_address(shared_address(halo + tid), rank + 1),
                make_float2(full ? last[i] : 0.f, full ? static_cast<float>(exponent[i]) : 0.f),
                peer_address(bar_halo, rank + 1));
        }
        if (rank > 0) await(bar_halo);
      }
      const int count = slice / 4;
      for (int i = tid; i < (count + 63) / 64 * 256; i += kThreads) {  // four lanes a block, four heads a lane
        const int j = i >> 2, h0 = (i & 3) * 4, block = rank * count + j, tile = j >> 2;
        const bool own = tile < cmp_tiles, before = !(j & 3) && (tile > 0 ? tile - 1 < cmp_tiles : rank > 0);
        float4 x = make_float4(0.f, 0.f, 0.f, 0.f), y = x;
        short4 m = make_short4(0, 0, 0, 0), n = m;
        if (own)
          x = *reinterpret_cast<const float4 *>(sums + j * 16 + h0),
          m = *reinterpret_cast<const short4 *>(exponent + tile * 16 + h0);
        if (before && tile > 0) {
          y = *reinterpret_cast<const float4 *>(last + (tile - 1) * 16 + h0);
          n = *reinterpret_cast<const short4 *>(exponent + (tile - 1) * 16 + h0);
        } else if (before) {
          y = make_float4(halo[h0].x, halo[h0 + 1].x, halo[h0 + 2].x, halo[h0 + 3].x);
          n = make_short4(halo[h0].y, halo[h0 + 1].y, halo[h0 + 2].y, halo[h0 + 3].y);
        }
        if (!own) m = n;  // exact: whole exponents, so that equal blocks have equal importance
        const auto weigh = [&](float a, float b, int e, int f, float2 w) {
          return (a + b * exp2_fast(static_cast<float>(f - e))) * (exp2_fast(static_cast<float>(e) - w.x) * w.y);
        };
        float value = weigh(x.x, y.x, m.x, n.x, whole[h0]) + weigh(x.y, y.y, m.y, n.y, whole[h0 + 1]) +
                      weigh(x.z, y.z, m.z, n.z, whole[h0 + 2]) + weigh(x.w, y.w, m.w, n.w, whole[h0 + 3]);
        value = quad_sum1(value);
        const bool candidate = j < count && block < row.blocks && block != 0 && block < current - 1;
        if (h0 == 0) importance[j] = candidate ? __float_as_uint(value) + 1 : 0;
      }
      __syncthreads();
      const int many = (count + 63) / 64, wanted = p.blocks - kForcedBlocks;
#pragma unroll 1
      for (int j = tid; j < many * 64; j += kThreads) {  // rank inside groups of 64 by counting
        const int group = j & ~63, quad = (j & 63) >> 2, e = j & 3;
        const uint32_t key = importance[j];
        int above = 0;
#pragma unroll 4
        for (int k = 0; k < 16; ++k) {
          const uint4 o = *reinterpret_cast<const uint4 *>(importance + group + k * 4);
          const uint32_t than = key + (k >= quad);
          above += (o.x >= than) + (o.y >= than) + (o.z >= than) + (o.w >= than);
        }
        const uint4 o = *reinterpret_cast<const uint4 *>(importance + group + quad * 4);
        above += (e > 0 && o.x == key) + (e > 1 && o.y == key) + (e > 2 && o.z == key);
        if (above < kFree) (many == 1 ? best : groups)[(j >> 6) * kFree + above] = key_of(key, rank * count + j);
      }
      __syncthreads();
      if (many > 1) {
        rank_keys<kThreads>(groups, kFree * many, kFree, best);
        __syncthreads();
      }
      if (C > 1) {
        for (int i = tid; i < kFree * C; i += kThreads) {
          const int to = i / kFree, k = i % kFree;
          send_key(peer_address(shared_address(peers + rank * kFree + k), to), best[k], peer_address(bar_keys, to));
        }
        await(bar_keys);
        __syncthreads();
        rank_keys<kThreads>(peers, kFree * C, wanted, best);
        __syncthreads();
      }
      if (tid >= kForcedBlocks && tid < p.blocks) index[tid] = block_of(best[tid - kForcedBlocks]);
      __syncthreads();
      if (rank == 0 && tid < p.blocks) {
        const int block = index[tid];
        int before = 0;
        for (int i = 0; i < p.blocks; ++i) before += index[i] < block;
        indices[before] = block;
      }
      limit = cmp_mine + win_mine + sel_mine;
      fill();
    }
  }
  sum_row<T, Shared, DV, C, Warps>(p, row, shared, base, bar_out, rank, total);
#endif
}

}  // namespace nsa::core
