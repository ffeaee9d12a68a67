// Third launch: selected attention by parts; the last thread block of a row to arrive sums all of the row's parts.
#pragma once
#include "order.cuh"
#include "part.cuh"

namespace nsa::core {

constexpr int kBranches = 3;
constexpr int kMaxBlocks = 128;

template <typename T> NSA_DEVICE float to_float(T x);
template <> NSA_DEVICE float to_float<__half>(__half x) { return __half2float(x); }
template <> NSA_DEVICE float to_float<__nv_bfloat16>(__nv_bfloat16 x) { return __bfloat162float(x); }

// o of one row: over the branches, gate / sum times the parts brought to the branch's maximum; parts in order. `room`
// bytes at `shared` are free.
template <typename T, int DV>
NSA_DEVICE void combine(const Params &p, int batch, int group, uint64_t row, const int (&valid)[kBranches],
                        unsigned char *shared, int room) {
  __shared__ float top[kBranches][kHeadRows], weight[kBranches][kHeadRows];
  const int parts = p.chunks + p.win_splits + p.sel_splits;
  const int from[kBranches] = {0, p.chunks + p.win_splits, p.chunks};  // in the order of the gates: cmp, sel, win
  const float2 *ml = p.parts_ml + row * parts * kHeadRows;
  if (parts * kHeadRows * 8 <= room) {  // one wait for all of them
    float2 *copy = reinterpret_cast<float2 *>(shared);
#pragma unroll 8
    for (int i = threadIdx.x; i < parts * kHeadRows; i += kWarps * 32) copy[i] = __ldcg(ml + i);
    ml = copy;
    __syncthreads();
  }
  if (threadIdx.x < kBranches * kHeadRows) {
    const int branch = threadIdx.x / kHeadRows, head = threadIdx.x % kHeadRows;
    const int first = branch == 0 ? from[0] : branch == 1 ? from[1] : from[2];
    const int count = branch == 0 ? valid[0] : branch == 1 ? valid[1] : valid[2];
    float m = -INFINITY, l = 0.f, gate = 0.f;
    if (head < p.heads && count > 0) {
#pragma unroll 4
      for (int i = 0; i < count; ++i) m = fmaxf(m, ml[(first + i) * kHeadRows + head].x);
#pragma unroll 4
      for (int i = 0; i < count; ++i) {
        const float2 part = ml[(first + i) * kHeadRows + head];
        l = fmaf(part.y, exp2_fast(part.x - m), l);
      }
      gate = to_float(static_cast<const T *>(
                 p.gates)[static_cast<uint64_t>(batch) * p.gates_b + static_cast<uint64_t>(group) * p.gates_g +
                          head * p.gates_h + branch]) /
             l;
    }
    top[branch][head] = m, weight[branch][head] = gate;
  }
  __syncthreads();
  constexpr int kTurn = kWarps * 32, kUnits = 4;  // units of 4 columns a thread sums at once: their loads overlap
  const int units = p.heads * (DV / 4);
  const float4 *parts_o = reinterpret_cast<const float4 *>(p.parts_o) + row * parts * units;
  uint2 *o = static_cast<uint2 *>(p.o) + (static_cast<uint64_t>(batch) * p.o_b + static_cast<uint64_t>(group) * p.o_g);
  for (int first = threadIdx.x; first < units; first += kUnits * kTurn) {
    float4 sum[kUnits] = {};
#pragma unroll
    for (int branch = 0; branch < kBranches; ++branch) {
#pragma unroll 4
      for (int j = 0; j < valid[branch]; ++j) {
        const int part = from[branch] + j;
#pragma unroll
        for (int k = 0; k < kUnits; ++k) {
          const int unit = min(first + k * kTurn, units - 1), head = unit / (DV / 4);
          const float4 x = __ldcg(parts_o + static_cast<uint64_t>(part) * units + unit);
          const float f = exp2_fast(ml[part * kHeadRows + head].x - top[branch][head]) * weight[branch][head];
          sum[k].x = fmaf(f, x.x, sum[k].x), sum[k].y = fmaf(f, x.y, sum[k].y);
          sum[k].z = fmaf(f, x.z, sum[k].z), sum[k].w = fmaf(f, x.w, sum[k].w);
        }
      }
    }
#pragma unroll
    for (int k = 0; k < kUnits; ++k) {
      const int unit = first + k * kTurn;
      if (unit < units)
        o[static_cast<uint64_t>(unit / (DV / 4)) * p.o_h + unit % (DV / 4)] =
            make_uint2(Element<T>::pack(sum[k].x, sum[k].y), Element<T>::pack(sum[k].z, sum[k].w));
    }
  }
}

// Grid: (splits of the selected tokens, at least one; G; B).
template <typename T, int DV, bool Sel>
__global__ void __launch_bounds__(kWarps * 32) select(const __grid_constant__ Params p) {
  extern __shared__ __align__(128) unsigned char shared[];
  in_order();
  __shared__ int index[kMaxBlocks], total;
  __shared__ bool last;
  const int batch = blockIdx.z, group = blockIdx.y;
  const uint64_t row = static_cast<uint64_t>(batch) * gridDim.y + group;
  const int S = min(max(p.seq_lens[batch], 0), p.capacity);
  int splits = 0;
  if constexpr (Sel) {
    const int32_t *in = p.block_indices + static_cast<uint64_t>(batch) * p.i_b + static_cast<uint64_t>(group) * p.i_g;
    if (threadIdx.x == 0) total = 0;
    __syncthreads();
    if (threadIdx.x < static_cast<unsigned>(p.blocks)) {
      const int block = in[threadIdx.x];
      index[threadIdx.x] = block;
      if (block >= 0) atomicAdd(&total, min(max(S - block * p.block, 0), p.block));
    }
    __syncthreads();
    const int tokens = total, first = blockIdx.x * p.sel_tokens, count = min(p.sel_tokens, tokens - first);
    splits = (tokens + p.sel_tokens - 1) / p.sel_tokens;
    if (count > 0) {
      const uint64_t part = row * (p.chunks + p.win_splits + p.sel_splits) + p.chunks + p.win_splits + blockIdx.x;
      const auto token = [&](int i) { return index[(first + i) / p.block] * p.block + (first + i) % p.block; };
      attend_part<T, DV>(p, p.k_sel, p.v_sel, batch, group, count, token, PartShared(shared),
                         shared + PartShared::kBytes, nullptr, part);
    }
    if (gridDim.x > 1) {
      __threadfence();
      __syncthreads();
      if (threadIdx.x == 0) last = atomicAdd(p.arrived + row, 1) == gridDim.x - 1;
      __syncthreads();
      if (!last) return;
      __threadfence();
    } else {
      __threadfence();
      __syncthreads();
    }
  }
  const int tokens = S < p.l ? 0 : (S - p.l) / p.d + 1, chunk = p.chunk_blocks * p.cells, width = min(p.window, S);
  const int valid[kBranches] = {p.chunks ? (tokens + chunk - 1) / chunk : 0, splits,
                                p.win_splits ? (width + p.win_tokens - 1) / p.win_tokens : 0};
  combine<T, DV>(p, batch, group, row, valid, shared, PartShared::kBytes + kWarps * ring_bytes(p.dim, DV));
}

}  // namespace nsa::core
