// From a plan to a launch of one instance of the kernel. One launch a call and no workspace where there are clusters;
// elsewhere a split row's parts meet in a workspace and a second launch. No synchronisation.
#pragma once
#include "kernel.cuh"
#include "launch.h"

namespace nsa {

template <typename T, int DV>
cudaError_t launch_combine(const Params &p, int batches, int groups, int splits, cudaStream_t stream) {
  const dim3 grid((p.heads * (DV / 4) + 127) / 128, groups, batches);
  switch (splits) {
#define NSA_SPLITS(X) \
  case X: combine_splits<T, DV, X><<<grid, 128, 0, stream>>>(p); break;
    NSA_SPLITS(2)
    NSA_SPLITS(4)
    NSA_SPLITS(8)
    NSA_SPLITS(16)
#undef NSA_SPLITS
  }
  return cudaGetLastError();
}

template <typename T, int D, int DV, int Stages, bool Upper>
cudaError_t launch_instance(Params p, int batches, int groups, int ctas, cudaStream_t stream) {
  auto *kernel = select_attention<T, D, DV, Stages, Upper>;
  const int units = p.heads * (DV / 4);
  for (p.unit_shift = 0; (ctas << p.unit_shift) < units;) ++p.unit_shift;
  const bool cluster = ctas > 1 && p.scratch == nullptr;
  const int bytes =
      sizeof(Control) + inbox_bytes(cluster ? ctas : 1, p.unit_shift) + kWarps * ring_bytes(Stages, p.heads, p.dim, DV);
  // Attributes belong to a device's copy of the kernel; setting them again is cheap and needs no lock.
  if (bytes > 48 * 1024)
    if (cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes)) return e;
  if (cluster && ctas > 8)
    if (cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1)) return e;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(ctas, groups, batches);
  config.blockDim = dim3(kWarps * 32);
  config.dynamicSmemBytes = bytes;
  config.stream = stream;
  cudaLaunchAttribute together{};
  together.id = cudaLaunchAttributeClusterDimension;
  together.val.clusterDim.x = ctas;
  together.val.clusterDim.y = together.val.clusterDim.z = 1;
  config.attrs = &together;
  config.numAttrs = cluster ? 1 : 0;
  if (cudaError_t e = cudaLaunchKernelEx(&config, kernel, p); e || cluster || ctas == 1) return e;
  return launch_combine<T, DV>(p, batches, groups, ctas, stream);
}

template <typename T, int D, int DV, int Stages>
cudaError_t launch_heads(const Params &p, int batches, int groups, int ctas, cudaStream_t stream) {
  return p.heads > 8 ? launch_instance<T, D, DV, Stages, true>(p, batches, groups, ctas, stream)
                     : launch_instance<T, D, DV, Stages, false>(p, batches, groups, ctas, stream);
}

// D == 0: any query width, known at run time.
template <typename T, int D, int DV>
cudaError_t launch(const Params &p, int batches, int groups, Plan plan, cudaStream_t stream) {
  constexpr int kDeep = D == 0 ? 1 : ring_stages(D, DV);
  if (kDeep > 1 && plan.stages == 1) return launch_heads<T, D, DV, 1>(p, batches, groups, plan.ctas, stream);
  return launch_heads<T, D, DV, kDeep>(p, batches, groups, plan.ctas, stream);
}

// D = DV has instances of its own; every other D shares one per DV, which knows D at run time only.
template <typename T, int DV>
cudaError_t launch_dtype(const Params &p, int batches, int groups, Plan plan, cudaStream_t stream) {
  return p.dim == DV ? launch<T, DV, DV>(p, batches, groups, plan, stream)
                     : launch<T, 0, DV>(p, batches, groups, plan, stream);
}

template <int DV>
cudaError_t launch_width(bool bf16, const Params &p, int batches, int groups, Plan plan, cudaStream_t stream) {
  return bf16 ? launch_dtype<__nv_bfloat16, DV>(p, batches, groups, plan, stream)
              : launch_dtype<__half, DV>(p, batches, groups, plan, stream);
}

}  // namespace nsa
