// Launches that overlap: a kernel may start while the one ahead of it still runs, and waits for it by itself.
#pragma once
#include <cuda_runtime_api.h>

#include "ptx.cuh"

namespace nsa::core {

// What was launched ahead has ended, its writes included.
NSA_DEVICE void wait_ahead() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// What follows may start as soon as every thread block of this launch has said so, or has ended.
NSA_DEVICE void let_follow() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
// First in every kernel of one launch.
NSA_DEVICE void in_order() { let_follow(), wait_ahead(); }

// Between the three launches a part says by a flag how much of it is stored, so that the launch behind need not wait
// for the end of the one ahead. A thread block takes its own flag down before it lets the next launch start; hence who
// waits for a flag finds the old value gone, and all who will raise one at work: no wait is for what has not started.
enum Stored : uint32_t { kNothing = 0, kScores = 1, kPart = 2 };  // kScores: what routing needs of a part

// By one thread of each thread block: take_down() its flags, then let_follow_behind() what the last call gave. An
// atomic operation whose result is here has been performed, for whoever comes later; `word` in shared memory makes it
// wait.
NSA_DEVICE uint32_t take_down(uint32_t *flag) {
  uint32_t before;
  asm volatile("atom.relaxed.gpu.global.exch.b32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(flag), "r"(static_cast<uint32_t>(kNothing))
               : "memory");
  return before;
}
NSA_DEVICE void let_follow_behind(uint32_t before, volatile uint32_t *word) {
  *word = before;
  let_follow();
}
// By one thread, behind a barrier after the stores.
NSA_DEVICE void raise(uint32_t *flag, Stored level) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(flag), "r"(static_cast<uint32_t>(level)) : "memory");
}
NSA_DEVICE void await_stored(const uint32_t *flag, Stored level) {
  uint32_t found;
  do {
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(found) : "l"(flag) : "memory");
  } while (found < level);
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
