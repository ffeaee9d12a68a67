// The n best of a row's blocks by their keys, ascending; of equal keys the lower index wins.
#pragma once
#include <cstdint>

#include "ptx.cuh"

namespace nsa::core {

constexpr int kMaxBlocks = 128;   // n, at most
constexpr int kCandidates = 256;  // blocks that are compared each with each
constexpr int kEach = 64;         // so few need no bound

struct ChooseShared {
  uint64_t candidates[kCandidates];  // key, then what is left of 2^32 - 1 by the block's number: all differ
  uint32_t tops[kCandidates];        // greatest key of a group
  int chosen[kMaxBlocks];            // in the order of their keys
  uint32_t bound;
  int count;
  int warps[8];
  int bins[256];
  uint32_t found[2];
};

NSA_DEVICE uint64_t candidate(uint32_t key, int block) {
  return static_cast<uint64_t>(key) << 32 | ~static_cast<uint32_t>(block);
}

// The n-th largest of `count` keys by four counts of eight bits each: its value, and how many equal ones belong to
// the n. All threads get both.
NSA_DEVICE uint2 nth_largest(const uint32_t *keys, int count, int n, ChooseShared &sh) {
  uint32_t prefix = 0, left = n;
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (int i = threadIdx.x; i < 256; i += blockDim.x) sh.bins[i] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < count; i += blockDim.x)
      if (shift == 24 || keys[i] >> (shift + 8) == prefix) atomicAdd(sh.bins + (keys[i] >> shift & 255), 1);
    __syncthreads();
    if (threadIdx.x < 32) {  // a lane sums eight bins, the highest first
      int sum = 0, before;
      for (int i = 0; i < 8; ++i) sum += sh.bins[255 - (threadIdx.x * 8 + i)];
      int upto = sum;
      for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(~0u, upto, step);
        if (threadIdx.x >= static_cast<unsigned>(step)) upto += other;
      }
      before = upto - sum;
      if (before < static_cast<int>(left) && upto >= static_cast<int>(left)) {
        int bin = 255 - threadIdx.x * 8;
        while (before + sh.bins[bin] < static_cast<int>(left)) before += sh.bins[bin--];
        sh.found[0] = bin, sh.found[1] = left - before;
      }
    }
    __syncthreads();
    prefix = prefix << 8 | sh.found[0], left = sh.found[1];
    __syncthreads();
  }
  return make_uint2(prefix, left);
}

// Position of each chosen thread among the chosen of the thread block, in order; `total` is how many they are.
NSA_DEVICE int position(bool chosen, int *warps, int &total) {
  const unsigned votes = __ballot_sync(~0u, chosen);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  if (lane == 0) warps[warp] = __popc(votes);
  __syncthreads();
  int before = 0;
  total = 0;
  for (int w = 0; w < static_cast<int>(blockDim.x / 32); ++w) before += w < warp ? warps[w] : 0, total += warps[w];
  __syncthreads();
  return before + __popc(votes & ((1u << lane) - 1));
}

// Any number of equal keys.
NSA_DEVICE void choose_by_counts(const uint32_t *keys, int count, int n, int *index, ChooseShared &sh) {
  const uint2 nth = nth_largest(keys, count, n, sh);
  int place = 0, equal = 0;
  for (int first = 0; first < count; first += blockDim.x) {
    const bool there = first + static_cast<int>(threadIdx.x) < count;
    const uint32_t key = there ? keys[first + threadIdx.x] : 0;
    int total_equal, total;
    const int rank = equal + position(there && key == nth.x, sh.warps, total_equal);
    const bool chosen = there && (key > nth.x || (key == nth.x && rank < static_cast<int>(nth.y)));
    const int at = place + position(chosen, sh.warps, total);
    if (chosen) index[at] = first + threadIdx.x;
    equal += total_equal, place += total;
  }
  __syncthreads();
}

// A bound that at least n keys reach: the n-th greatest of the maxima of groups of them. A group is 4 threads or 2
// where 64 groups are enough, else one: n <= groups.
NSA_DEVICE void find_bound(const uint32_t *keys, int count, int n, ChooseShared &sh) {
  uint32_t top = 0;
#pragma unroll 4
  for (int j = threadIdx.x; j < count; j += blockDim.x) top = max(top, keys[j]);
  const int log = n > 48 ? 0 : blockDim.x == 256 ? 2 : 1, share = 1 << log, groups = blockDim.x >> log;
  for (int step = 1; step < share; step *= 2) top = max(top, __shfl_xor_sync(~0u, top, step));
  const int mine = threadIdx.x >> log, lane = threadIdx.x & (share - 1);
  if (lane == 0) sh.tops[mine] = top;
  if (threadIdx.x == 0) sh.count = 0;
  __syncthreads();
  int above = 0;
#pragma unroll 4
  for (int i = lane; i < groups; i += share) {
    const uint32_t other = sh.tops[i];
    above += other > top || (other == top && i < mine);
  }
  for (int step = 1; step < share; step *= 2) above += __shfl_xor_sync(~0u, above, step);
  if (above == n - 1) sh.bound = top;
  __syncthreads();
}

// index[0 .. n), ascending; n < count, n <= blockDim.x, which is 128 or 256. The keys are there; so is the result.
NSA_DEVICE void choose(const uint32_t *keys, int count, int n, int *index, ChooseShared &sh) {
  const int tid = threadIdx.x, most = blockDim.x;
  int m = count;
  if (count <= kEach) {
    if (tid < count) sh.candidates[tid] = candidate(keys[tid], tid);
    __syncthreads();
  } else {
    find_bound(keys, count, n, sh);
    const uint32_t bound = sh.bound;
    for (int j = tid; j < count; j += blockDim.x)
      if (const uint32_t key = keys[j]; key >= bound)
        if (const int at = atomicAdd(&sh.count, 1); at < most) sh.candidates[at] = candidate(key, j);
    __syncthreads();
    m = sh.count;
    if (m > most) return choose_by_counts(keys, count, n, index, sh);
  }
  // Each candidate's rank, by as many lanes as there are for it.
  const int log = m * 8 <= most ? 3 : m * 4 <= most ? 2 : m * 2 <= most ? 1 : 0, share = 1 << log;
  const int mine = tid >> log, lane = tid & (share - 1);
  const uint64_t own = mine < m ? sh.candidates[mine] : 0;
  int rank = 0;
#pragma unroll 4
  for (int i = lane; i < m; i += share) rank += sh.candidates[i] > own;
  for (int step = 1; step < share; step *= 2) rank += __shfl_xor_sync(~0u, rank, step);
  if (mine < m && lane == 0 && rank < n) sh.chosen[rank] = static_cast<int>(~static_cast<uint32_t>(own));
  __syncthreads();
  if (tid < n) {
    const int block = sh.chosen[tid];
    int at = 0;
#pragma unroll 4
    for (int i = 0; i < n; ++i) at += sh.chosen[i] < block;
    index[at] = block;
  }
  __syncthreads();
}

}  // namespace nsa::core
