// In place of instantiate_dv32.cu and its like but instantiate_dv64.cu: every instance of D = DV = 128, and one of each
// other width, which is the same text with other numbers.
#include "launch.cuh"

#define NSA_FEW(DV, ONE)                                                                                               \
  template <>                                                                                                          \
  cudaError_t nsa::launch_width<DV>(bool bf16, const Params &p, int batches, int groups, Plan plan, cudaStream_t at) { \
    return ONE;                                                                                                        \
  }

NSA_FEW(32, (launch_instance<__half, 32, 32, 2, true>(p, batches, groups, plan.ctas, at)))
NSA_FEW(96, (launch_instance<__nv_bfloat16, 0, 96, 1, true>(p, batches, groups, plan.ctas, at)))
NSA_FEW(128, (bf16 ? launch<__nv_bfloat16, 128, 128>(p, batches, groups, plan, at)
                   : launch<__half, 128, 128>(p, batches, groups, plan, at)))
NSA_FEW(192, (launch_instance<__half, 0, 192, 1, false>(p, batches, groups, plan.ctas, at)))
NSA_FEW(256, (launch_instance<__nv_bfloat16, 256, 256, 1, false>(p, batches, groups, plan.ctas, at)))
