// Messages between the thread blocks of a cluster, beyond those of ptx.cuh, and the matrix loads of the fast kernels.
#pragma once
#include "ptx.cuh"

namespace nsa::core {

// 16 bytes, or zeros without reading. No cache policy: where a loop's offsets lie in uniform registers, ptxas 13.0
// overwrites that of the policy, and the kernel ends with an illegal instruction.
NSA_DEVICE void copy16(uint32_t dst, const void *src, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst), "l"(src), "r"(there ? 16 : 0) : "memory");
}
NSA_DEVICE void load_matrix(uint32_t (&r)[4], uint32_t addr) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(addr)
               : "memory");
}
NSA_DEVICE void load_matrix_trans(uint32_t (&r)[4], uint32_t addr) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(addr)
               : "memory");
}
template <typename T> NSA_DEVICE void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  Element<T>::mma(c, a[0], a[1], a[2], a[3], b0, b1);
}
NSA_DEVICE float quad_max1(float v) {
  v = fmaxf(v, __shfl_xor_sync(~0u, v, 1));
  return fmaxf(v, __shfl_xor_sync(~0u, v, 2));
}
NSA_DEVICE float quad_sum1(float v) {
  v += __shfl_xor_sync(~0u, v, 1);
  return v + __shfl_xor_sync(~0u, v, 2);
}
// A row of a product's fragments, columns 2t, 2t + 1 of 8 (low) and of the next 8 (high), t the lane in a quad: a lane
// then has four columns in a row, from column_of_four(t) on.
NSA_DEVICE float4 four_columns(float2 low, float2 high, int t) {
  const bool odd = t & 1;
  const float x = __shfl_xor_sync(~0u, odd ? low.x : high.x, 1), y = __shfl_xor_sync(~0u, odd ? low.y : high.y, 1);
  return odd ? make_float4(x, y, high.x, high.y) : make_float4(low.x, low.y, x, y);
}
NSA_DEVICE int column_of_four(int t) { return 8 * (t & 1) + 2 * (t & 2); }

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
// A barrier whose first phase ends when `bytes` have arrived; publish() makes it known to peers.
NSA_DEVICE void expect(uint32_t bar, uint32_t bytes) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(bar) : "memory");
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}
// The same where the bytes become known later, by arrive().
NSA_DEVICE void begin(uint32_t bar) { asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(bar) : "memory"); }
NSA_DEVICE void arrive(uint32_t bar, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}
NSA_DEVICE void publish() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
NSA_DEVICE void await(uint32_t bar) { barrier_wait_first_phase(bar); }
NSA_DEVICE void send_key(uint32_t dst, uint64_t x, uint32_t bar) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b64 [%0], %1, [%2];" ::"r"(dst), "l"(x), "r"(bar)
               : "memory");
}
NSA_DEVICE void send_word(uint32_t dst, uint32_t x, uint32_t bar) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(dst), "r"(x), "r"(bar)
               : "memory");
}
#endif

}  // namespace nsa::core
