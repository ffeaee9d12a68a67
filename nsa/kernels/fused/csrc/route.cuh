// Second launch: block importance from the chunks' sums, then the n best blocks, ascending. One thread block a row.
#pragma once
#include "order.cuh"
#include "params.h"
#include "ptx.cuh"

namespace nsa::core {

constexpr int kRouteThreads = 512;
constexpr uint32_t kForced = 0xffffffffu;
constexpr int kSharedKeys = 4096;  // blocks whose keys fit into shared memory

// The n-th largest of `count` keys by four counts of eight bits each: its value, and how many equal ones belong to
// the n. All threads get both.
NSA_DEVICE uint2 nth_largest(const uint32_t *keys, int count, int n, int *bins, uint32_t *found) {
  uint32_t prefix = 0, left = n;
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (int i = threadIdx.x; i < 256; i += kRouteThreads) bins[i] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < count; i += kRouteThreads)
      if (shift == 24 || keys[i] >> (shift + 8) == prefix) atomicAdd(bins + (keys[i] >> shift & 255), 1);
    __syncthreads();
    if (threadIdx.x < 32) {  // a lane sums eight bins, the highest first
      int sum = 0, before;
      for (int i = 0; i < 8; ++i) sum += bins[255 - (threadIdx.x * 8 + i)];
      int upto = sum;
      for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(~0u, upto, step);
        if (threadIdx.x >= static_cast<unsigned>(step)) upto += other;
      }
      before = upto - sum;
      if (before < static_cast<int>(left) && upto >= static_cast<int>(left)) {
        int bin = 255 - threadIdx.x * 8;
        while (before + bins[bin] < static_cast<int>(left)) before += bins[bin--];
        found[0] = bin, found[1] = left - before;
      }
    }
    __syncthreads();
    prefix = prefix << 8 | found[0], left = found[1];
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
  for (int w = 0; w < kRouteThreads / 32; ++w) before += w < warp ? warps[w] : 0, total += warps[w];
  __syncthreads();
  return before + __popc(votes & ((1u << lane) - 1));
}

// How far one base of four heads is above another.
NSA_DEVICE float4 apart(const float *one, const float *other) {
  const float4 a = *reinterpret_cast<const float4 *>(one), b = *reinterpret_cast<const float4 *>(other);
  return make_float4(a.x - b.x, a.y - b.y, a.z - b.z, a.w - b.w);
}
// Adds a head's sum to another, at the higher of their bases; `up`: how far that of x is above. Each has its weight.
NSA_DEVICE void join(float &sum, float &weight, float x, float of_x, float up) {
  if (up > 0.f) sum = sum * exp2_fast(-up) + x, weight = of_x;
  else sum += x * exp2_fast(up);
}

// A template, so that each width's translation unit may have its own copy.
template <int> __global__ void __launch_bounds__(kRouteThreads) route(const __grid_constant__ Params p) {
  extern __shared__ __align__(128) unsigned char shared[];
  in_order();
  __shared__ int bins[256], warps[kRouteThreads / 32];
  __shared__ uint32_t found[2];
  const int batch = blockIdx.y, group = blockIdx.x, tid = threadIdx.x;
  const uint64_t row = static_cast<uint64_t>(batch) * gridDim.x + group;
  int32_t *out = p.block_indices + static_cast<uint64_t>(batch) * p.i_b + static_cast<uint64_t>(group) * p.i_g;
  const int S = min(max(p.seq_lens[batch], 0), p.capacity), count = (S + p.block - 1) / p.block;
  if (count <= p.blocks) {  // every block, whatever its importance
    for (int j = tid; j < p.blocks; j += kRouteThreads) out[j] = j < count ? j : -1;
    return;
  }
  const int tokens = S < p.l ? 0 : (S - p.l) / p.d + 1, chunk = p.chunk_blocks * p.cells;
  const int chunks = (tokens + chunk - 1) / chunk, parts = p.chunks + p.win_splits + p.sel_splits;
  float *factor = reinterpret_cast<float *>(shared);  // [chunks, 16]: from a chunk's sums to probabilities
  const float *sums_base = p.sums_base + row * p.chunks * kHeadRows;
  const float2 *ml = p.parts_ml + row * parts * kHeadRows;
  if (tid < kHeadRows * 32) {  // a warp a head: the row's sum of exponentials
    const int head = tid >> 5, lane = tid & 31;
    float top = -INFINITY, sum = 0.f;
    if (head < p.heads) {
      for (int c = lane; c < chunks; c += 32) top = fmaxf(top, sums_base[c * kHeadRows + head]);
      for (int step = 16; step > 0; step /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, step));
      for (int c = lane; c < chunks; c += 32) {
        const float2 part = ml[c * kHeadRows + head];
        sum = fmaf(part.y, exp2_fast(part.x - top), sum);
      }
      for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    }
    for (int c = lane; c < chunks; c += 32)
      factor[c * kHeadRows + head] = head < p.heads ? exp2_fast(sums_base[c * kHeadRows + head] - top) / sum : 0.f;
  }
  __syncthreads();
  const int capacity_blocks = (p.capacity + p.block - 1) / p.block;
  uint32_t *keys = capacity_blocks <= kSharedKeys ? reinterpret_cast<uint32_t *>(factor + p.chunks * kHeadRows)
                                                  : p.keys + row * capacity_blocks;
  const int entries = p.chunk_blocks + p.spill;
  const float *sums = p.sums + row * p.chunks * entries * kHeadRows;
  for (int j = tid; j < count; j += kRouteThreads) {
    const int c = j / p.chunk_blocks, at = j % p.chunk_blocks;
    const bool own = c < chunks, before = at < p.spill && c > 0 && c - 1 < chunks;
    float value = 0.f;
#pragma unroll
    for (int h0 = 0; h0 < kHeadRows; h0 += 4) {  // heads beyond the last have a factor of zero
      const float *from = factor + c * kHeadRows + h0;
      float4 sum = make_float4(0.f, 0.f, 0.f, 0.f), weight = sum;
      if (own) {
        sum = *reinterpret_cast<const float4 *>(sums + (c * entries + at) * kHeadRows + h0);
        weight = *reinterpret_cast<const float4 *>(from);
      }
      if (before) {  // what the chunk before reaches into this block, both brought to the higher base: exact
        float4 x = *reinterpret_cast<const float4 *>(sums + ((c - 1) * entries + p.chunk_blocks + at) * kHeadRows + h0);
        const float4 other = *reinterpret_cast<const float4 *>(from - kHeadRows);
        if (own) {
          const float4 up = apart(sums_base + (c - 1) * kHeadRows + h0, sums_base + c * kHeadRows + h0);
          join(sum.x, weight.x, x.x, other.x, up.x), join(sum.y, weight.y, x.y, other.y, up.y);
          join(sum.z, weight.z, x.z, other.z, up.z), join(sum.w, weight.w, x.w, other.w, up.w);
        } else {
          sum = x, weight = other;
        }
      }
      value += (sum.x * weight.x + sum.y * weight.y) + (sum.z * weight.z + sum.w * weight.w);
    }
    // Non-negative floats order as their bits do.
    keys[j] = j == 0 || j >= count - 2 ? kForced : __float_as_uint(value);
  }
  __syncthreads();
  const uint2 nth = nth_largest(keys, count, p.blocks, bins, found);
  int place = 0, equal = 0;
  for (int first = 0; first < count; first += kRouteThreads) {  // in order: of equal keys the lower index wins
    const uint32_t key = first + tid < count ? keys[first + tid] : 0;
    const bool there = first + tid < count;
    int total_equal, total;
    const int rank = equal + position(there && key == nth.x, warps, total_equal);
    const bool chosen = there && (key > nth.x || (key == nth.x && rank < static_cast<int>(nth.y)));
    const int at = place + position(chosen, warps, total);
    if (chosen) out[at] = first + tid;
    equal += total_equal, place += total;
  }
}

}  // namespace nsa::core
