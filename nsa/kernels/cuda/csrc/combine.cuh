// From the warps' partial results to the output: over the warps of a thread block through its shared memory, then
// over the thread blocks of a cluster by messages into the owner's shared memory. No workspace, fixed order of sums.
#pragma once
#include "attend.cuh"
#include "params.h"

namespace nsa {

constexpr int kOutputPad = 8;  // floats between rows: float2 stores of 4 rows x 4 lanes touch all 32 banks

struct Stats {
  float2 ml[kMaxHeads][kWarps];  // maximum (scaled by log2(e) / sqrt(D)) and sum of each head in each warp
};

// A warp leaves its partial output in its own ring, which nobody else reads or writes before the barrier.
template <int DV, bool Upper>
NSA_DEVICE void store_partial(float *ring, Stats &stats, State<DV, Upper> &st, int warp, int heads, float scale,
                              int lane) {
  const int g = lane >> 2, t = lane & 3;
  quad_sum(st.l);
#pragma unroll
  for (int r = 0; r < (Upper ? 2 : 1); ++r) {
    const int head = g + 8 * r;
    if (head < heads) {
      if (t == 0) stats.ml[head][warp] = make_float2(st.m[r] * scale, st.l[r]);
#pragma unroll
      for (int i = 0; i < DV / 8; ++i)
        *reinterpret_cast<float2 *>(ring + head * (DV + kOutputPad) + i * 8 + t * 2) =
            make_float2(st.o[i][2 * r], st.o[i][2 * r + 1]);
    }
  }
}

template <int N> struct Count {
  static constexpr int value = N;
};

// N floats of one head's output, unnormalised, with the maximum and the sum that belong to them.
template <int N> struct Part {
  float o[N];
  float m, l;
};

// Add parts in order. An empty one has m = -inf, l = 0 and weighs nothing, also where all are empty.
template <int N, int Parts> NSA_DEVICE Part<N> sum_parts(const float2 (&ml)[Parts], const float (&o)[Parts][N]) {
  Part<N> sum{};
  sum.m = ml[0].x;
#pragma unroll
  for (int i = 1; i < Parts; ++i) sum.m = fmaxf(sum.m, ml[i].x);
  const float base = sum.m == -INFINITY ? 0.f : sum.m;
#pragma unroll
  for (int i = 0; i < Parts; ++i) {
    const float w = exp2_fast(ml[i].x - base);
    sum.l = fmaf(w, ml[i].y, sum.l);
#pragma unroll
    for (int e = 0; e < N; ++e) sum.o[e] = fmaf(w, o[i][e], sum.o[e]);
  }
  return sum;
}

// One unit, 4 columns of one head, over the warps of this thread block. Every load stands before its first use.
NSA_DEVICE Part<4> sum_warps(const float *rings, int ring_floats, const Stats &stats, int head, int at) {
  float2 ml[kWarps];
  float o[kWarps][4];
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    ml[w] = stats.ml[head][w];
    *reinterpret_cast<float4 *>(o[w]) = *reinterpret_cast<const float4 *>(rings + w * ring_floats + at);
  }
  return sum_parts<4, kWarps>(ml, o);
}

// What a thread block receives: from each peer (thread block of the cluster) the units that it owns.
struct Inbox {
  float4 *o;   // [peers, owned], outputs
  float2 *ml;  // [peers, owned], maxima and sums
};

// Half a unit, so that twice as many threads take part.
template <int Peers> NSA_DEVICE Part<2> sum_peers(const Inbox &in, int owned_shift, int slot, int half) {
  float2 ml[Peers];
  float o[Peers][2];
#pragma unroll
  for (int r = 0; r < Peers; ++r) {
    const int at = (r << owned_shift) + slot;
    ml[r] = in.ml[at];
    *reinterpret_cast<float2 *>(o[r]) = *(reinterpret_cast<const float2 *>(in.o + at) + half);
  }
  return sum_parts<2, Peers>(ml, o);
}

// Without clusters the parts of a split row meet in global memory: outputs first, then their maxima and sums.
struct Parts {
  float4 *o;   // [B, G, splits, units]
  float2 *ml;  // [B, G, splits, units]
  NSA_DEVICE Parts(void *scratch, uint32_t count)
      : o(static_cast<float4 *>(scratch)), ml(reinterpret_cast<float2 *>(o + count)) {}
  NSA_DEVICE void store(uint32_t at, const Part<4> &x) const {
    o[at] = make_float4(x.o[0], x.o[1], x.o[2], x.o[3]);
    ml[at] = make_float2(x.m, x.l);
  }
};

template <typename T, int N> NSA_DEVICE void store_output(uint32_t *o, const Part<N> &part) {
  const float inv = part.m == -INFINITY ? 0.f : __fdividef(1.f, part.l);  // no token: exactly zero
#pragma unroll
  for (int e = 0; e < N / 2; ++e) o[e] = Element<T>::pack(part.o[2 * e] * inv, part.o[2 * e + 1] * inv);
}

// One unit of one row a thread: over the row's splits, in order. Grid [units / 128, G, B].
template <typename T, int DV, int Splits>
__global__ void __launch_bounds__(128) combine_splits(const __grid_constant__ Params p) {
  const uint32_t units = p.heads * (DV / 4), u = blockIdx.x * 128 + threadIdx.x;
  if (u >= units) return;
  const Parts parts(p.scratch, gridDim.y * gridDim.z * Splits * units);
  const uint32_t from = (blockIdx.z * gridDim.y + blockIdx.y) * Splits * units + u;
  float2 ml[Splits];
  float o[Splits][4];
#pragma unroll
  for (int i = 0; i < Splits; ++i) {
    ml[i] = parts.ml[from + i * units];
    *reinterpret_cast<float4 *>(o[i]) = parts.o[from + i * units];
  }
  const uint64_t row = static_cast<uint64_t>(blockIdx.z) * p.o_b + static_cast<uint64_t>(blockIdx.y) * p.o_g;
  uint2 *out = static_cast<uint2 *>(p.o) + row + static_cast<uint64_t>(u / (DV / 4)) * p.o_h + u % (DV / 4);
  store_output<T, 4>(reinterpret_cast<uint32_t *>(out), sum_parts<4, Splits>(ml, o));
}

}  // namespace nsa
