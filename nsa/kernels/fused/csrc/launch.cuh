// Three launches, for every size and every GPU from sm_80 on: parts of compressed attention; parts of window attention,
// routing and parts of selected attention; their sum. A launch whose parts are off does not happen.
#pragma once
#include <algorithm>

#include "combine.cuh"
#include "launch.h"
#include "scan.cuh"
#include "select.cuh"

namespace nsa::core {

constexpr int kSelectBytes = 104 * 1024;   // two thread blocks a multiprocessor where it has 227 KB
constexpr int kSelectReserved = 7 * 1024;  // what the kernel declares beside, and a thread block's 1 KB

inline int most_shared() {
  static const int known = [] {
    int device = 0, bytes = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    return bytes;
  }();
  return known;
}

template <typename... A> cudaError_t start(void (*kernel)(A...), dim3 grid, int threads, int bytes, cudaStream_t stream,
                                           A... a) {
  // Attributes belong to a device's copy of the kernel; setting them again is cheap and needs no lock.
  if (bytes > 40 * 1024)
    if (cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes)) return e;
  cudaLaunchAttribute attribute = overlapping(true);
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, a...);
}

template <typename T, int DV> cudaError_t launch_three(const Call &call, cudaStream_t stream) {
  const Params &p = call.params;
  const unsigned B = call.B, G = call.G;
  const bool route_on = call.parts & kRoute;
  bool ahead = false;  // a launch of this call
  if (p.chunks > 0) {
    const int bytes = part_bytes(p.dim, DV, kScanWarps) + (route_on ? p.chunk_blocks * p.cells * kHeadRows * 4 : 0);
    const dim3 grid(p.chunks, G, B);
    if (cudaError_t e = start(scan<T, DV>, grid, kScanWarps * 32, bytes, stream, p, route_on)) return e;
    ahead = true;
  }
  if (route_on || p.sel_splits || p.win_splits) {
    const int blocks = (p.capacity + p.block - 1) / p.block, warps = call.plan.warps;
    const int rings = warps * ring_bytes(p.dim, DV), before = part_bytes(p.dim, DV, 0);
    const int room = route_on ? route_bytes(p.chunks, blocks <= kSharedKeys ? blocks : 0) : 0;
    const int chunk = (p.chunk_blocks + p.spill) * kHeadRows * 4;
    int staged = 0, bytes = before + (room > rings ? room : rings);
    if (route_on) {
      const int most = bytes > kSelectBytes ? bytes : std::min(kSelectBytes, most_shared() - kSelectReserved);
      staged = std::min((most - before - room) / chunk, p.chunks);
      bytes = std::max(bytes, before + room + staged * chunk);
    }
    const dim3 grid(std::max({p.sel_splits, p.win_splits, 1}), G, B);
    if (cudaError_t e = start(select<T, DV>, grid, warps * 32, bytes, stream, p, route_on, staged, ahead)) return e;
    ahead = true;
  }
  const dim3 grid((p.heads * (DV / 4) + kUnits - 1) / kUnits, G, B);
  return start(combine<T, DV>, grid, kCombineWarps * 32, 0, stream, p, ahead);
}

template <int DV> cudaError_t launch_width(const Call &call, cudaStream_t stream) {
  return call.bf16 ? launch_three<__nv_bfloat16, DV>(call, stream) : launch_three<__half, DV>(call, stream);
}

}  // namespace nsa::core
