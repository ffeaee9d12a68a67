// From a plan to a launch of one instance of the ring kernel.
#pragma once
#include "resident_launch.cuh"
#include "ring.cuh"
#include "ring.h"

namespace nsa::core {

template <typename T, int D, int Ranks, int Groups> cudaError_t ring_parts(const Call &call, cudaStream_t stream) {
  switch (call.parts) {
#define NSA_CORE_ARM(X) \
  case X: return start_cluster<RingShared<D, Ranks, Groups>>(ring<T, D, Ranks, Groups, X>, call, stream);
    NSA_CORE_ARMS(NSA_CORE_ARM)
#undef NSA_CORE_ARM
  }
  return cudaErrorInvalidValue;  // nsa/kernels/fused/plan.py plans no other
}

template <int D, int Ranks, int Groups, bool Bf16> cudaError_t launch_ring(const Call &call, cudaStream_t stream) {
  return ring_parts<std::conditional_t<Bf16, __nv_bfloat16, __half>, D, Ranks, Groups>(call, stream);
}

}  // namespace nsa::core
