// One call of the kernel as the host states it, and the function that plans and launches it.
#pragma once
#include <cstdint>
#include <cuda_runtime_api.h>

namespace nsa {

struct Call {
  const void *q, *k, *v;  // [B, G, h, D], [B, G, S_max, D], [B, G, S_max, Dv]
  void *o;                // [B, G, h, Dv]
  const int32_t *block_indices, *seq_lens;  // [B, G, n], [B]
  bool bf16;
  int64_t B, G, h, D, Dv, n, S_max, block_size;
  void *scratch;  // scratch_bytes of memory, or nullptr
  int64_t q_stride[3], k_stride[3], v_stride[3], o_stride[3], i_stride[2];  // elements; last dimensions are contiguous
};

constexpr bool has_dim(int64_t d) { return d == 32 || d == 64 || d == 96 || d == 128 || d == 192 || d == 256; }

// The workspace that a call needs on this device: none where there are clusters, or where no row is split.
int64_t scratch_bytes(const Call &call, int device);

// Plans the split for this device and launches on the stream; returns nullptr, or what is wrong.
const char *launch(const Call &call, int device, cudaStream_t stream);

}  // namespace nsa
