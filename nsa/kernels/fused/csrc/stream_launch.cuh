// From a plan to a launch of one instance of the streaming kernel.
#pragma once
#include "stream.cuh"
#include "stream.h"

#include <type_traits>

namespace nsa::core {

constexpr int kStages = 2;

template <typename T, int D, int DV, int C, int Warps, int Together, int Parts> cudaError_t start_stream(
    const Call &call, cudaStream_t stream) {
  const Params &p = call.params;
  auto *kernel = nsa::core::stream<T, D, DV, C, kStages, Warps, Together, Parts>;
  constexpr int kTurn = kSelBlock * 4 * kChunk * C;  // tokens whose compressed ones are a chunk of each thread block
  const int chunks = (p.capacity + kTurn - 1) / kTurn;
  const int bytes = StreamShared<D, DV, C, kStages, Warps, Together>::bytes(chunks);
  if (cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes)) return e;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(C, call.G, call.B);
  config.blockDim = dim3(Warps * 32);
  config.dynamicSmemBytes = bytes;
  config.stream = stream;
  cudaLaunchAttribute attributes[2] = {overlapping(true)};
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = C;
  attributes[1].val.clusterDim.y = attributes[1].val.clusterDim.z = 1;
  config.attrs = attributes;
  config.numAttrs = C > 1 ? 2 : 1;
  return cudaLaunchKernelEx(&config, kernel, p, chunks);
}

template <typename T, int D, int C, int Warps, int Together>
cudaError_t stream_parts(const Call &call, cudaStream_t stream) {
  constexpr int kValues = D < 128 ? D : 128;
  switch (call.parts) {
#define NSA_CORE_ARM(X) \
  case X: return start_stream<T, D, kValues, C, Warps, Together, X>(call, stream);
    NSA_CORE_ARMS(NSA_CORE_ARM)
#undef NSA_CORE_ARM
  }
  return cudaErrorInvalidValue;  // nsa/kernels/fused/plan.py plans no other
}

template <int C, int Warps, bool Bf16> cudaError_t launch_stream(const Call &call, cudaStream_t stream) {
  using T = std::conditional_t<Bf16, __nv_bfloat16, __half>;
  switch (call.params.dim) {
    case 32: return stream_parts<T, 32, C, Warps, 1>(call, stream);
    case 64: return stream_parts<T, 64, C, Warps, 1>(call, stream);
    case 128: return stream_parts<T, 128, C, Warps, 1>(call, stream);
    case 192: return stream_parts<T, 192, C, Warps, 1>(call, stream);
  }
  return cudaErrorInvalidValue;  // fits_one() refuses other widths
}

template <int C, int Warps, bool Bf16> cudaError_t launch_chunks(const Call &call, cudaStream_t stream) {
  using T = std::conditional_t<Bf16, __nv_bfloat16, __half>;
  return stream_parts<T, 128, C, Warps, kChunk>(call, stream);
}

}  // namespace nsa::core
