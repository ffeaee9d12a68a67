// One launch: C thread blocks (a cluster) stream a row. Each warp has a ring of its own of 16-token tiles (K and V
// together) and its own online softmax; one pass over K_cmp and V_cmp leaves block sums instead of scores.
#pragma once
#include "order.cuh"
#include "stream_route.cuh"
#include "stream_sum.cuh"
#include "stream_tile.cuh"

namespace nsa::core {

// Grid: (C, G, B), clusters of C along x.
template <typename T, int D, int DV, int C, int Stages, int Warps, int Together, int Parts>
__global__ void __launch_bounds__(Warps * 32, 8 / Warps) stream(const __grid_constant__ Params p, int chunks) {
#if __CUDA_ARCH__ >= 900  // elsewhere no plan leads here
  in_order();
  using Shared = StreamShared<D, DV, C, Stages, Warps, Together>;
  constexpr int kThreads = Warps * 32;
  constexpr bool kHasCmp = Parts & kCmp, kHasSel = Parts & kSel, kHasWin = Parts & kWin;
  extern __shared__ __align__(128) unsigned char shared[];
  const int tid = threadIdx.x, warp = tid >> 5, lane = tid & 31, g = lane >> 2, t = lane & 3;
  const int rank = C > 1 ? blockIdx.x : 0;
  const uint32_t base = shared_address(shared);
  const int asked = load_length(p, blockIdx.z);
  Row row(blockIdx.z, blockIdx.y);
  // Before any copy: the cluster's barrier would wait for those that a warp has asked for.
  const uint32_t bar = base + Shared::barriers, bar_halo = bar + 24, bar_keys = bar + 32, bar_out = bar + 40;
  const bool makes_barriers = tid == kThreads - 32;
  if (C > 1 && makes_barriers) {
    for (int i = 0; i < 3; ++i) expect(bar + 8 * i, C * 128);
    expect(bar_keys, C * kFree * 8);
    expect(bar_out, C * 16 * (min(16 * DV / 4, (rank + 1) * Shared::kShare) - rank * Shared::kShare));
    begin(bar_halo);
    publish();
  }
  __syncwarp();
  if (C > 1) cluster_arrive();
  copy_q<D, kThreads>(p, row, base + Shared::query, threadIdx.x);
  copy_commit();
  uint16_t gate = 0;
  if (tid < 48) gate = load_gate(p, row, tid & 15, tid < 16 ? 0 : tid < 32 ? 2 : 1);

  // Chunks of compressed tiles go around the cluster: a warp's first tile does not depend on the length, and is asked
  // for before that is known.
  const auto whole_row = [&](int tile) { return (tile / kChunk * C + rank) * kChunk + tile % kChunk; };
  const auto of_block = [&](int i) { return (i / Together * Warps + warp) * Together + i % Together; };
  const auto cmp_tile = [&](int i) { return whole_row(of_block(i)); };
  const uint32_t ring = base + warp * Shared::kRing;
  const auto copy_kv = [&](int i, const Cache &k, const Cache &v, int start, int valid) {
    const uint32_t to = ring + (i % Stages) * Shared::kTile;
    copy_tile16<D>(to, row.at(k, start), k.s, valid, lane);
    copy_tile16<DV>(to + 16 * D * 2, row.at(v, start), v.s, valid, lane);
  };
  int issued = 0, done = 0;
  if (kHasCmp) {
    const int start = cmp_tile(0) * 16, room = p.capacity < kCmpBlock ? 0 : (p.capacity - kCmpBlock) / kCmpStride + 1;
    if (start < room) copy_kv(0, p.k_cmp, p.v_cmp, start, room - start), issued = 1;
    copy_commit();
  }

  row.measure(p, asked);
  const int current = row.blocks - 1, S = row.length;
  const bool route = (Parts & kRoute) && row.blocks > p.blocks;  // else every block is selected
  const bool known = !route;                                     // the blocks, from the start
  const auto of_warp = [&](int count) { return warp < count ? (count - warp + Warps - 1) / Warps : 0; };
  const int tiles = kHasCmp ? (row.compressed + 15) / 16 : 0;
  const int all = (tiles + kChunk - 1) / kChunk, mine = all > rank ? (all - rank + C - 1) / C : 0;  // chunks
  const int lacking = mine > 0 ? max(whole_row(mine * kChunk - 1) + 1 - tiles, 0) : 0;  // tiles of the last chunk
  const int cmp_mine = Together == 1 ? of_warp(mine * kChunk - lacking)
                                     : of_warp(mine) * kChunk - ((mine - 1) % Warps == warp ? lacking : 0);
  const int width = kHasWin ? min(p.window, S) : 0, win_all = (width + 15) / 16;
  const int win_first = rank * win_all / C, win_tiles = (rank + 1) * win_all / C - win_first;
  const int sel_tiles = kHasSel ? (4 * p.blocks - rank + C - 1) / C : 0;  // tile i is number i * C + rank
  const int forced_tiles = kHasSel ? (4 * kForcedBlocks - rank + C - 1) / C : 0;
  const int win_mine = of_warp(win_tiles), sel_mine = of_warp(sel_tiles);
  if (issued > cmp_mine) copy_wait<0>(), issued = 0;  // nothing is left of what was asked for by capacity
  if (C > 1 && makes_barriers && route)               // a message for each chunk that is not the row's first
    arrive(bar_halo, 128 * (mine - (rank == 0 && mine > 0)));

  float2 *ml = reinterpret_cast<float2 *>(shared + Shared::ml),
         *whole = reinterpret_cast<float2 *>(shared + Shared::whole);
  float *gates = reinterpret_cast<float *>(shared + Shared::gates);
  uint32_t *most = reinterpret_cast<uint32_t *>(shared + Shared::most);
  int *found = reinterpret_cast<int *>(shared + Shared::found);
  uint64_t *best = reinterpret_cast<uint64_t *>(shared + Shared::best),
           *peers = reinterpret_cast<uint64_t *>(shared + Shared::peers);
  int *index = reinterpret_cast<int *>(shared + Shared::index);
  const OfTiles<Together> of_tiles(shared + Shared::slice, shared + Shared::slice + chunks * Shared::kHalo,
                                   chunks * kChunk);
  uint64_t *some = reinterpret_cast<uint64_t *>(of_tiles.sums);  // keys of few blocks, once the sums are used

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
  if (tid < kFree) best[tid] = 0;
  __syncthreads();

  const auto selected = [&](int i, int &start) {  // tile i of this warp's selected ones -> tokens that it has
    const int tile = (warp + Warps * i) * C + rank, block = index[tile >> 2];
    start = block * kSelBlock + (tile & 3) * 16;
    return block < 0 ? 0 : S - start;
  };
  int limit;
  const auto fill = [&]() {
#pragma unroll 1
    while (issued < limit && issued < done + Stages) {
      const int i = issued;
      const Cache *k, *v;
      int start, valid;
      if (kHasCmp && i < cmp_mine) {
        start = cmp_tile(i) * 16, valid = row.compressed - start, k = &p.k_cmp, v = &p.v_cmp;
      } else if (kHasWin && i < cmp_mine + win_mine) {
        const int at = (win_first + warp + Warps * (i - cmp_mine)) * 16;
        start = S - width + at, valid = width - at, k = &p.k_win, v = &p.v_win;
      } else {
        valid = selected(i - cmp_mine - win_mine, start), k = &p.k_sel, v = &p.v_sel;
      }
      if (valid > 0) copy_kv(i, *k, *v, start, valid);
      copy_commit();
      ++issued;
    }
  };
  const int before = cmp_mine + win_mine + (known ? sel_mine : of_warp(forced_tiles));  // what needs no routing
  const int asked_tiles = issued;
  // Where routing waits for the cluster, or reads long, compressed tiles do not share the memory with what has time.
  const bool apart = kHasCmp && (C > 2 || cmp_mine > 2 * Stages);
  limit = apart ? cmp_mine : before;
  fill();
  if (tid < 48) gates[tid] = gate_of<T>(gate);
  Rows<D> q;
  {
    const int behind = issued - asked_tiles + kHasCmp;
    if (behind >= 2) copy_wait<2>();
    else if (behind == 1) copy_wait<1>();
    else copy_wait<0>();
    __syncthreads();
    q.load(base + Shared::query, lane);
  }
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
      int valid, start;
      if (branch == 0) valid = row.compressed - cmp_tile(i) * 16;
      else if (branch == 1) valid = width - (win_first + warp + Warps * i) * 16;
      else valid = selected(i, start);
      if (branch == 0 && i == 0 && asked_tiles > 0 && valid < 16)  // values beyond the length came with it
        clear_rows<DV>(ring + 16 * D * 2, valid, lane);
      if (valid > 0)
        attend_tile<T, D, DV, Together>(st, q, ring + (done % Stages) * Shared::kTile, valid, p.scale_log2, lane,
                                        branch == 0 && route, of_tiles.tile(of_block(i)), i % Together);
      ++done;
      __syncwarp();
      fill();
    }
    // Maximum and sum over the warps, then over the cluster; then the branch goes into the total.
    st.l[0] = quad_sum1(st.l[0]), st.l[1] = quad_sum1(st.l[1]);
    if (t == 0)
      ml[warp * 16 + g] = make_float2(st.m[0], st.l[0]), ml[warp * 16 + g + 8] = make_float2(st.m[1], st.l[1]);
    __syncthreads();
    if (branch == 0 && apart) limit = before, fill();
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
    if (C > 1 && branch == 0 && route)  // each chunk's last token gives half of itself to the next one's first block
      for (int i = tid; i < mine * 16; i += kThreads) {
        const int chunk = i >> 4, h = i & 15, from = (chunk * kChunk + kChunk - 1) / Together * 16 + h;
        const int to = rank + 1 == C ? 0 : rank + 1, at = rank + 1 == C ? chunk + 1 : chunk;
        if ((chunk * C + rank + 1) * kChunk < tiles)
          send8(peer_address(shared_address(of_tiles.halo + at * 16 + h), to),
                make_float2(of_tiles.last[from], of_tiles.exponent[from]), peer_address(bar_halo, to));
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
      if (C > 1) await(bar_halo);
      const int count = mine * kChunk * 4, wanted = p.blocks - kForcedBlocks;
      const auto number = [&](int j) { return whole_row(j >> 2) * 4 + (j & 3); };
      weigh_blocks<C, kThreads, Together>(of_tiles, whole, count, row.blocks, number);
      __syncthreads();
      best_blocks<kThreads>(of_tiles.importance, count, number, most, found, some, best);
      __syncthreads();
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
