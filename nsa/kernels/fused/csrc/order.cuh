// Launches that overlap: a kernel may start while the one ahead of it still runs, and waits for it by itself.
#pragma once
#include <cuda_runtime_api.h>

#include "ptx.cuh"

namespace nsa::core {

// First in every kernel: whatever follows may start, and what was launched ahead has ended, its writes included.
NSA_DEVICE void in_order() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

inline bool can_overlap() {
  static const bool known = [] {
    int device = 0, major = 0;
    cudaGetDevice(&device);
    return cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess && major >= 9;
  }();
  return known;
}

inline cudaLaunchAttribute overlapping(bool on) {
  cudaLaunchAttribute made{};
  made.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  made.val.programmaticStreamSerializationAllowed = on && can_overlap();
  return made;
}

}  // namespace nsa::core
