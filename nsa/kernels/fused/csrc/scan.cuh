// First launch: compressed attention by parts, and what routing needs of its scores.
#pragma once
#include "order.cuh"
#include "part.cuh"
#include "score.cuh"

namespace nsa::core {

constexpr int kScanWarps = 4;
// Up to so many parts keys are asked for before the length is known: 64 tokens of each, whatever the length.
constexpr unsigned kFewParts = 160;
// Up to so many rows values are asked for behind the sums of blocks, which somebody waits for.
constexpr unsigned kLateRows = 16;

// The sum over tokens from `t` to `end` of a head's exponential times weight(t).
template <typename Weight>
NSA_DEVICE float weighed(const float *exponentials, int head, int t, int end, Weight weight) {
  float sum = 0.f;
#pragma unroll 1
  for (; t < end; t += 4) {
    float x[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] = t + i < end ? exponentials[(t + i) * kHeadRows + head] : 0.f;
#pragma unroll
    for (int i = 0; i < 4; ++i) sum = fmaf(x[i], weight(t + i), sum);
  }
  return sum;
}

// Sums of exponentials over the tokens of each block, weighed by overlap, of the chunk's tokens alone. Scores never
// leave shared memory. Relative to the whole exponent above the chunk's maximum: bringing sums to another is exact.
NSA_DEVICE void block_sums(const Params &p, const PartShared &sh, float *scores, int count, uint64_t chunk) {
  const int head = threadIdx.x % kHeadRows;  // blockDim.x is a multiple
  const float base = ceilf(part_maximum(sh, head));
#pragma unroll 2
  for (int i = threadIdx.x; i < count * kHeadRows; i += blockDim.x)
    scores[i] = exp2_fast(scaled_score(scores[i], p.scale_log2) - base);
  __syncthreads();
  const int entries = p.chunk_blocks + p.spill;
  float *out = p.sums + chunk * entries * kHeadRows;
  const float unit = 1.f / p.cover;
#pragma unroll 1
  for (int i = threadIdx.x; i < entries * kHeadRows; i += blockDim.x) {
    const int from = i / kHeadRows * p.cells, to = from + p.cells;
    // Tokens that start in the block, and those before that reach into it; four at a time.
    const float own = weighed(scores, head, from, min(to, count), [&](int t) { return min(p.cover, to - t) * unit; });
    const float reaching = weighed(scores, head, max(from - p.cover + 1, 0), min(from, count),
                                   [&](int t) { return (min(t + p.cover, to) - from) * unit; });
    out[i] = own + reaching;
  }
}

// Grid: (chunks of compressed tokens; G; B). A chunk beyond the length has nothing to do.
template <typename T, int DV>
__global__ void __launch_bounds__(kScanWarps * 32, DV <= 128 ? 4 : 1)
    scan(const __grid_constant__ Params p, bool route) {
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ uint32_t word;
  wait_ahead();
  const int batch = blockIdx.z, group = blockIdx.y;
  const bool leader = threadIdx.x == blockDim.x - 32;
  const uint64_t row = static_cast<uint64_t>(batch) * gridDim.y + group;
  const uint64_t part = row * (p.chunks + p.win_splits + p.sel_splits) + blockIdx.x;
  const int32_t given = p.seq_lens[batch];  // asked for first, used late
  uint32_t before = 0;
  if (leader) before = take_down(p.stored + part);
  const PartShared sh(shared, p.dim);
  copy_query(p, batch, group, sh);
  const int chunk = p.chunk_blocks * p.cells, start = blockIdx.x * chunk, at_most = (p.capacity - p.l) / p.d + 1;
  const bool few = gridDim.x * gridDim.y * gridDim.z <= kFewParts;
  const bool late = gridDim.y * gridDim.z <= kLateRows;
  int count = 0;
  const auto length = [&] {
    const int S = min(max(given, 0), p.capacity), tokens = S < p.l ? 0 : (S - p.l) / p.d + 1;
    return count = min(chunk, tokens - start);
  };
  float *scores = reinterpret_cast<float *>(shared + part_bytes(p.dim, DV, kScanWarps));
  const bool there = attend_part<T, DV>(
      p, p.k_cmp, p.v_cmp, batch, group, few ? min(chunk, at_most - start) : 0, late, length,
      [&](int i, int (&rows)[2]) { rows[0] = start + i, rows[1] = rows[0] + 8; }, sh, route ? scores : nullptr, part,
      [&] {
        if (leader) let_follow_behind(before, &word);
      },
      [&] {
        store_sums(p, sh, part);
        if (route) {
          block_sums(p, sh, scores, count, row * p.chunks + blockIdx.x);
          __syncthreads();
          if (threadIdx.x == 0) raise(p.stored + part, kScores);
        }
      });
  if (!there) return;
  __syncthreads();
  if (threadIdx.x == 0) raise(p.stored + part, kPart);
}

}  // namespace nsa::core
