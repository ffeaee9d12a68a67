// Second launch: window attention by parts, while the first is at work; routing; selected attention by parts.
#pragma once
#include "part.cuh"
#include "route.cuh"

namespace nsa::core {

// A thread block's share of a branch's tokens: the window's, or those of the chosen blocks one after the other.
struct Share {
  int first, count;
  uint64_t part;
};

// How many tokens the row has in the blocks of `index`, by all threads.
NSA_DEVICE int chosen_tokens(const Params &p, const int *index, int S, int (&totals)[kMaxBlocks / 32]) {
  const int tid = threadIdx.x;
  if (tid < kMaxBlocks) {
    const int block = tid < p.blocks ? index[tid] : -1;
    const int sum = __reduce_add_sync(~0u, block >= 0 ? min(max(S - block * p.block, 0), p.block) : 0);
    if (tid % 32 == 0) totals[tid / 32] = sum;
  }
  __syncthreads();
  return totals[0] + totals[1] + totals[2] + totals[3];
}

// Grid: (the more of the splits of the window and of the selected tokens, at least one; G; B). `staged`: of how many
// chunks shared memory has room for the sums; `ahead`: the first launch is there.
template <typename T, int DV>
__global__ void __launch_bounds__(kMostWarps * 32, DV <= 128 ? 2 : 1)
    select(const __grid_constant__ Params p, bool route, int staged, bool ahead) {
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ int index[kMaxBlocks], totals[kMaxBlocks / 32];
  __shared__ uint32_t word;
  __shared__ ChooseShared choosing;
  if (!ahead) wait_ahead();
  const int batch = blockIdx.z, group = blockIdx.y, at = blockIdx.x, tid = threadIdx.x;
  const bool leader = tid == static_cast<int>(blockDim.x) - 32;
  const uint64_t row = static_cast<uint64_t>(batch) * gridDim.y + group;
  const int S = min(max(p.seq_lens[batch], 0), p.capacity), width = min(p.window, S);
  const uint64_t window_part = row * (p.chunks + p.win_splits + p.sel_splits) + p.chunks + at;
  uint32_t before = 0;
  if (leader) {
    if (at < p.win_splits) before = take_down(p.stored + window_part);
    if (at < p.sel_splits) before |= take_down(p.stored + window_part + p.win_splits);
  }
  const PartShared sh(shared, p.dim);
  copy_query(p, batch, group, sh);
  Share share{S - width + at * p.win_tokens, at < p.win_splits ? min(p.win_tokens, width - at * p.win_tokens) : 0,
              window_part};
#pragma unroll 1
  for (int selected = 0;; ++selected) {  // the window's share first
    const bool there = attend_part<T, DV>(
        p, selected ? p.k_sel : p.k_win, selected ? p.v_sel : p.v_win, batch, group, 0, false,
        [&] { return share.count; },
        [&](int i, int (&rows)[2]) {  // tokens of places i and i + 8; any beyond the last
          rows[0] = share.first + i, rows[1] = rows[0] + 8;
          if (selected) {
            const int most = p.blocks - 1;
            int block = rows[0] / p.block, inside = rows[0] - block * p.block;
            rows[0] = index[min(block, most)] * p.block + inside;
            for (inside += 8; inside >= p.block; inside -= p.block) ++block;
            rows[1] = index[min(block, most)] * p.block + inside;
          }
        },
        sh, nullptr, share.part,
        [&] {
          if (leader && !selected) let_follow_behind(before, &word);
        },
        [&] { store_sums(p, sh, share.part); });
    if (selected && !there && tid < kHeadRows) p.parts_ml[share.part * kHeadRows + tid] = make_float2(-INFINITY, 0.f);
    __syncthreads();
    if (leader && (selected || there)) raise(p.stored + share.part, kPart);
    if (selected || (at >= p.sel_splits && (at > 0 || !route))) break;
    int32_t *blocks = p.block_indices + static_cast<uint64_t>(batch) * p.i_b + static_cast<uint64_t>(group) * p.i_g;
    if (route) {
      const int all = (p.capacity + p.block - 1) / p.block;
      uint32_t *far = all > kSharedKeys ? p.keys + (row * max(p.sel_splits, 1) + at) * all : nullptr;
      route_row(p, row, S, index, sh.rings, staged, far, choosing);
      if (at == 0 && tid < p.blocks) blocks[tid] = index[tid];
      if (at >= p.sel_splits) break;
    } else {
      if (tid < p.blocks) index[tid] = blocks[tid];
      __syncthreads();
    }
    const int first = at * p.sel_tokens;
    // Of three blocks or more, and there are no fewer, routing chooses the last one, the only one that may not be full.
    const int beyond = max((S + p.block - 1) / p.block - p.blocks, 0) * p.block;
    const int tokens = route && p.blocks >= 3 ? S - beyond : chosen_tokens(p, index, S, totals);
    share = {first, min(p.sel_tokens, tokens - first), window_part + p.win_splits};
  }
  wait_ahead();  // what ends after this launch ends after the one ahead
}

}  // namespace nsa::core
