// Third launch: the gated sum of a row's parts, as they arrive.
#pragma once
#include "order.cuh"
#include "params.h"

namespace nsa::core {

constexpr int kBranches = 3, kCombineWarps = 8;
constexpr int kUnits = 32;  // units of four columns of a row's output a thread block, one a lane

// A sum of parts: relative to the maximum m.
struct Sum {
  float m, l;
  float4 o;
  NSA_DEVICE void add(const float2 &ml, const float4 &x) {
    if (ml.y == 0.f) return;  // a part without a token: nothing else of it is stored
    const float most = fmaxf(m, ml.x), keep = exp2_fast(m - most), f = exp2_fast(ml.x - most);
    m = most, l = fmaf(l, keep, f * ml.y);
    o.x = fmaf(o.x, keep, f * x.x), o.y = fmaf(o.y, keep, f * x.y);
    o.z = fmaf(o.z, keep, f * x.z), o.w = fmaf(o.w, keep, f * x.w);
  }
};

// A warp's share of `count` parts from `first` on (of all of them), waited for.
NSA_DEVICE Sum sum_parts(const Params &p, uint64_t first, int count, int units, int unit, int head) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  Sum sum{-INFINITY, 0.f, make_float4(0.f, 0.f, 0.f, 0.f)};
#pragma unroll 1
  for (int j = warp + lane * kCombineWarps; j < count; j += 32 * kCombineWarps)
    await_stored(p.stored + first + j, kPart);
  __syncwarp();
  const float2 *ml = p.parts_ml + first * kHeadRows + head;
  const float4 *o = reinterpret_cast<const float4 *>(p.parts_o) + first * units + unit;
#pragma unroll 1
  for (int j = warp; j < count; j += 2 * kCombineWarps) {  // two at a time: their loads overlap
    const bool more = j + kCombineWarps < count;
    const int other = more ? j + kCombineWarps : j;
    const float2 ml_one = __ldcg(ml + j * kHeadRows), ml_two = __ldcg(ml + other * kHeadRows);
    const float4 one = __ldcg(o + static_cast<uint64_t>(j) * units),
                 two = __ldcg(o + static_cast<uint64_t>(other) * units);
    sum.add(ml_one, one);
    if (more) sum.add(ml_two, two);
  }
  return sum;
}

// A branch's gated share, from all warps' sums of its parts; a warp without one has l = 0 and o = 0.
NSA_DEVICE void add_branch(float4 &out, const float2 (*ml)[kUnits], const float4 (*o)[kUnits], float gate, int lane) {
  float m = -INFINITY, l = 0.f, f[kCombineWarps];
#pragma unroll
  for (int w = 0; w < kCombineWarps; ++w) m = fmaxf(m, ml[w][lane].x);
  if (m == -INFINITY) return;
#pragma unroll
  for (int w = 0; w < kCombineWarps; ++w) {
    f[w] = exp2_fast(ml[w][lane].x - m);
    l = fmaf(f[w], ml[w][lane].y, l);
  }
  const float weight = gate / l;
#pragma unroll
  for (int w = 0; w < kCombineWarps; ++w) {
    const float4 x = o[w][lane];
    const float by = f[w] * weight;
    out.x = fmaf(by, x.x, out.x), out.y = fmaf(by, x.y, out.y);
    out.z = fmaf(by, x.z, out.z), out.w = fmaf(by, x.w, out.w);
  }
}

// Grid: (units of a row by kUnits; G; B). `ahead`: a launch of this call is there before this one.
template <typename T, int DV>
__global__ void __launch_bounds__(kCombineWarps * 32) combine(const __grid_constant__ Params p, bool ahead) {
  __shared__ float2 ml[kBranches][kCombineWarps][kUnits];
  __shared__ float4 o[kBranches][kCombineWarps][kUnits];
  if (!ahead) wait_ahead();
  let_follow();
  const int batch = blockIdx.z, group = blockIdx.y, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const uint64_t row = static_cast<uint64_t>(batch) * gridDim.y + group;
  const int S = min(max(p.seq_lens[batch], 0), p.capacity);
  const int units = p.heads * (DV / 4), at = blockIdx.x * kUnits + lane, unit = min(at, units - 1);
  const int head = unit / (DV / 4);
  const T *gates = static_cast<const T *>(p.gates) + static_cast<uint64_t>(batch) * p.gates_b +
                   static_cast<uint64_t>(group) * p.gates_g + head * p.gates_h;
  const float gate[kBranches] = {static_cast<float>(gates[0]), static_cast<float>(gates[2]),
                                 static_cast<float>(gates[1])};  // they are cmp, sel, win
  const int tokens = S < p.l ? 0 : (S - p.l) / p.d + 1, chunk = p.chunk_blocks * p.cells, width = min(p.window, S);
  uint64_t first = row * (p.chunks + p.win_splits + p.sel_splits);
  float4 out = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll 1
  for (int b = 0; b < kBranches; ++b) {  // cmp, win, sel, as their parts lie and arrive
    const int all = b == 0 ? p.chunks : b == 1 ? p.win_splits : p.sel_splits;
    // Every part of the selected branch says that it is there: how many have a token depends on the blocks.
    const int count = all == 0 || b == 2 ? all
                      : b == 0           ? (tokens + chunk - 1) / chunk
                                         : (width + p.win_tokens - 1) / p.win_tokens;
    const Sum sum = sum_parts(p, first, count, units, unit, head);
    ml[b][warp][lane] = make_float2(sum.m, sum.l), o[b][warp][lane] = sum.o;
    first += all;
    __syncthreads();
    if (warp == 0) add_branch(out, ml[b], o[b], b == 0 ? gate[0] : b == 1 ? gate[1] : gate[2], lane);
  }
  if (warp == 0 && at < units) {
    uint2 *to =
        static_cast<uint2 *>(p.o) + (static_cast<uint64_t>(batch) * p.o_b + static_cast<uint64_t>(group) * p.o_g);
    to[static_cast<uint64_t>(head) * p.o_h + unit % (DV / 4)] =
        make_uint2(Element<T>::pack(out.x, out.y), Element<T>::pack(out.z, out.w));
  }
  wait_ahead();  // what ends after this launch ends after those ahead
}

}  // namespace nsa::core
