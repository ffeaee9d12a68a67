// First launch: compressed and window attention by parts, and what routing needs of the compressed scores.
#pragma once
#include "order.cuh"
#include "part.cuh"
#include "score.cuh"

namespace nsa::core {

// Sums of exponentials over the tokens of each block, weighed by overlap, of the chunk's tokens alone. Scores never
// leave shared memory. Relative to a whole exponent a chunk: bringing sums to another base is exact.
NSA_DEVICE void block_sums(const Params &p, const PartShared &sh, float *scores, int count, uint64_t chunk) {
  float *base = p.sums_base + chunk * kHeadRows;
  if (threadIdx.x < kHeadRows) base[threadIdx.x] = ceilf(part_maximum(sh, threadIdx.x));
  for (int i = threadIdx.x; i < count * kHeadRows; i += blockDim.x)
    scores[i] = exp2_fast(scaled_score(scores[i], p.scale_log2) - ceilf(part_maximum(sh, i % kHeadRows)));
  __syncthreads();
  const int entries = p.chunk_blocks + p.spill;
  float *out = p.sums + chunk * entries * kHeadRows;
  const float unit = 1.f / p.cover;
  for (int i = threadIdx.x; i < entries * kHeadRows; i += blockDim.x) {
    const int block = i / kHeadRows, head = i % kHeadRows, from = block * p.cells, to = from + p.cells;
    float own = 0.f, reaching = 0.f;  // tokens that start in the block, and those before that reach into it
    for (int t = from; t < min(to, count); ++t)
      own = fmaf(scores[t * kHeadRows + head], (min(t + p.cover, to) - t) * unit, own);
    for (int t = max(from - p.cover + 1, 0); t < min(from, count); ++t)
      reaching = fmaf(scores[t * kHeadRows + head], (min(t + p.cover, to) - from) * unit, reaching);
    out[i] = own + reaching;
  }
}

// Grid: (chunks of compressed tokens, then splits of the window; G; B). A part beyond the length has nothing to do.
template <typename T, int DV, bool Cmp, bool Win>
__global__ void __launch_bounds__(kWarps * 32) scan(const __grid_constant__ Params p, bool route) {
  extern __shared__ __align__(128) unsigned char shared[];
  in_order();
  const int batch = blockIdx.z, group = blockIdx.y, chunks = Cmp ? p.chunks : 0;
  const uint64_t row = static_cast<uint64_t>(batch) * gridDim.y + group;
  if (blockIdx.x == 0 && threadIdx.x == 0) p.arrived[row] = 0;
  const int S = min(max(p.seq_lens[batch], 0), p.capacity);
  const bool compressed = Cmp && (!Win || static_cast<int>(blockIdx.x) < chunks);
  int start, count;
  if (compressed) {
    const int tokens = S < p.l ? 0 : (S - p.l) / p.d + 1, chunk = p.chunk_blocks * p.cells;
    start = blockIdx.x * chunk, count = min(chunk, tokens - start);
  } else {
    const int width = min(p.window, S), first = (blockIdx.x - chunks) * p.win_tokens;
    start = S - width + first, count = min(p.win_tokens, width - first);
  }
  if (count <= 0) return;
  const PartShared sh(shared);
  float *scores = reinterpret_cast<float *>(shared + PartShared::kBytes);
  const int scores_bytes = Cmp && route ? p.chunk_blocks * p.cells * kHeadRows * 4 : 0;
  const uint64_t part = row * (p.chunks + p.win_splits + p.sel_splits) + blockIdx.x;
  attend_part<T, DV>(
      p, compressed ? p.k_cmp : p.k_win, compressed ? p.v_cmp : p.v_win, batch, group, count,
      [&](int i) { return start + i; }, sh, shared + PartShared::kBytes + scores_bytes,
      compressed && route ? scores : nullptr, part);
  if (compressed && route) block_sums(p, sh, scores, count, row * p.chunks + blockIdx.x);
}

}  // namespace nsa::core
