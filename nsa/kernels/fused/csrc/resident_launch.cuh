// From a plan to a launch of one instance of the resident kernel.
#pragma once
#include "resident.cuh"
#include "resident.h"

#include <type_traits>

namespace nsa::core {

// A kernel whose thread blocks have the memory of `Shared`, a cluster a row.
template <typename Shared> cudaError_t start_cluster(void (*kernel)(Params), const Call &call, cudaStream_t stream) {
  constexpr int Ranks = Shared::kRanks, bytes = Shared::bytes;
  if (call.params.capacity > Shared::kCapacity) return cudaErrorInvalidValue;  // no plan leads here
  if (cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes)) return e;
  if (Ranks > 8)
    if (cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1)) return e;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(Ranks, call.G, call.B);
  config.blockDim = dim3(kResidentThreads);
  config.dynamicSmemBytes = bytes;
  config.stream = stream;
  cudaLaunchAttribute attributes[2] = {overlapping(true)};
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = Ranks;
  attributes[1].val.clusterDim.y = attributes[1].val.clusterDim.z = 1;
  config.attrs = attributes;
  config.numAttrs = 2;
  return cudaLaunchKernelEx(&config, kernel, call.params);
}

template <typename T, int D, int Ranks, int Groups> cudaError_t resident_parts(const Call &call, cudaStream_t stream) {
  switch (call.parts) {
#define NSA_CORE_ARM(X) \
  case X: return start_cluster<ResidentShared<D, Ranks, Groups>>(resident<T, D, Ranks, Groups, X>, call, stream);
    NSA_CORE_ARMS(NSA_CORE_ARM)
#undef NSA_CORE_ARM
  }
  return cudaErrorInvalidValue;  // nsa/kernels/fused/plan.py plans no other
}

template <int D, int Ranks, int Groups, bool Bf16> cudaError_t launch_resident(const Call &call, cudaStream_t stream) {
  return resident_parts<std::conditional_t<Bf16, __nv_bfloat16, __half>, D, Ranks, Groups>(call, stream);
}

}  // namespace nsa::core
