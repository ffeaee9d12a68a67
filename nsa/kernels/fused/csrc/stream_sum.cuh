// The end of the streaming kernel: a row's output summed over the warps of a thread block, then over its cluster.
#pragma once
#include "row.cuh"

namespace nsa::core {

#if __CUDA_ARCH__ >= 900

// `total`: this warp's share of rows g and g + 8. Every ring is idle: partial sums take their place.
template <typename T, typename Shared, int DV, int C, int Warps>
NSA_DEVICE void sum_row(const Params &p, const Row &row, unsigned char *shared, uint32_t base, uint32_t bar_out,
                        int rank, const float (&total)[DV / 8][4]) {
  constexpr int kThreads = Warps * 32;
  const int tid = threadIdx.x, warp = tid >> 5, lane = tid & 31, g = lane >> 2, t = lane & 3;
  constexpr int kUnits = 16 * DV / 4, kRow = DV + 8;
  float *partial = reinterpret_cast<float *>(shared + warp * Shared::kRing);
#pragma unroll
  for (int n = 0; n < DV / 8; ++n) {
    *reinterpret_cast<float2 *>(partial + g * kRow + 8 * n + 2 * t) = make_float2(total[n][0], total[n][1]);
    *reinterpret_cast<float2 *>(partial + (g + 8) * kRow + 8 * n + 2 * t) = make_float2(total[n][2], total[n][3]);
  }
  __syncthreads();
  uint2 *o =
      static_cast<uint2 *>(p.o) + static_cast<uint64_t>(row.batch) * p.o_b + static_cast<uint64_t>(row.group) * p.o_g;
  const auto store = [&](int unit, float4 x) {
    const int h = unit / (DV / 4);
    if (h < p.heads)
      o[static_cast<uint64_t>(h) * p.o_h + unit % (DV / 4)] =
          make_uint2(Element<T>::pack(x.x, x.y), Element<T>::pack(x.z, x.w));
  };
#pragma unroll
  for (int i = 0; i < (kUnits + kThreads - 1) / kThreads; ++i) {
    const int unit = tid + kThreads * i;
    if (kUnits % kThreads && unit >= kUnits) break;
    const int at = unit / (DV / 4) * kRow + unit % (DV / 4) * 4;
    float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll
    for (int w = 0; w < Warps; ++w) {
      const float4 x =
          *reinterpret_cast<const float4 *>(reinterpret_cast<const float *>(shared + w * Shared::kRing) + at);
      sum.x += x.x, sum.y += x.y, sum.z += x.z, sum.w += x.w;
    }
    if (C == 1) store(unit, sum);
    else {
      const int to = unit / Shared::kShare;
      send16(peer_address(base + Shared::outputs + (rank * Shared::kShare + unit % Shared::kShare) * 16, to), sum,
             peer_address(bar_out, to));
    }
  }
  if (C > 1) {
    await(bar_out);
    const float4 *in = reinterpret_cast<const float4 *>(shared + Shared::outputs);
    for (int i = tid; i < Shared::kShare; i += kThreads) {
      const int unit = rank * Shared::kShare + i;
      if (unit >= kUnits) break;
      float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll
      for (int k = 0; k < C; ++k) {
        const float4 x = in[k * Shared::kShare + i];
        sum.x += x.x, sum.y += x.y, sum.z += x.z, sum.w += x.w;
      }
      store(unit, sum);
    }
  }
}

#endif

}  // namespace nsa::core
