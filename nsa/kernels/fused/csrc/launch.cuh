// Three launches, for every size and every GPU from sm_80 on: parts of compressed and window attention; routing;
// parts of selected attention and their sum. A launch whose parts are off does not happen.
#pragma once
#include "launch.h"
#include "route.cuh"
#include "scan.cuh"
#include "select.cuh"

namespace nsa::core {

template <typename... A> cudaError_t start(void (*kernel)(A...), dim3 grid, int threads, int bytes, cudaStream_t stream,
                                           bool overlap, A... a) {
  // Attributes belong to a device's copy of the kernel; setting them again is cheap and needs no lock.
  if (bytes > 40 * 1024)
    if (cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes)) return e;
  cudaLaunchAttribute attribute = overlapping(overlap);
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
  const unsigned B = call.B, G = call.G, threads = kWarps * 32;
  const bool route_on = call.parts & kRoute;
  const int rings = PartShared::kBytes + kWarps * ring_bytes(p.dim, DV);
  const int bytes = rings + (route_on ? p.chunk_blocks * p.cells * kHeadRows * 4 : 0);
  const dim3 grid(p.chunks + p.win_splits, G, B);
  const bool overlap = grid.x > 0 || p.sel_splits <= 1;  // behind the first launch: not behind a memset
  if (grid.x > 0) {
    auto *kernel = p.chunks && p.win_splits ? scan<T, DV, true, true>
                   : p.chunks               ? scan<T, DV, true, false>
                                            : scan<T, DV, false, true>;
    if (cudaError_t e = start(kernel, grid, threads, bytes, stream, true, p, route_on)) return e;
  } else if (p.sel_splits > 1) {
    if (cudaError_t e = cudaMemsetAsync(p.arrived, 0, call.B * call.G * sizeof(*p.arrived), stream)) return e;
  }
  if (route_on) {
    const int blocks = (p.capacity + p.block - 1) / p.block;
    const int shared = p.chunks * kHeadRows * 4 + (blocks <= kSharedKeys ? blocks * 4 : 0);
    if (cudaError_t e = start(route<DV>, dim3(G, B), kRouteThreads, shared, stream, overlap, p)) return e;
  }
  auto *kernel = p.sel_splits ? select<T, DV, true> : select<T, DV, false>;
  return start(kernel, dim3(p.sel_splits ? p.sel_splits : 1, G, B), threads, rings, stream, overlap, p);
}

template <int DV> cudaError_t launch_width(const Call &call, cudaStream_t stream) {
  return call.bf16 ? launch_three<__nv_bfloat16, DV>(call, stream) : launch_three<__half, DV>(call, stream);
}

}  // namespace nsa::core
