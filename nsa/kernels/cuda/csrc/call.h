// One call of the kernel as the host states it, and the function that plans and launches it.
#pragma once
#include <cstdint>
#include <cuda_runtime_api.h>

#include "sizes.h"

namespace nsa {

struct Call {
  const void *q;                                  // [B, G, h, D], float16 or bfloat16
  const void *k;                                  // [B, G, S_max, D]
  const void *v;                                  // [B, G, S_max, Dv]
  void *o;                                        // [B, G, h, Dv]
  const int32_t *block_indices;                   // [B, G, n]
  const int32_t *seq_lens;                        // [B], contiguous
  bool bf16;                                      // q, k, v and o are bfloat16
  int64_t B, G, h, D, Dv, n, S_max, block_size;   // block_size is l' tokens
  void *scratch;                                  // scratch_bytes of memory, or nullptr
  int64_t q_stride[3], k_stride[3], v_stride[3];  // elements, of all but the last dimension, which is contiguous
  int64_t o_stride[3], i_stride[2];               // the same of o and of block_indices
};

// The workspace that a call needs on this device: none where there are clusters, or where no row is split.
int64_t scratch_bytes(const Call &call, int device);

// Plans the split for this device and launches on the stream; returns nullptr, or what is wrong.
const char *launch(const Call &call, int device, cudaStream_t stream);

}  // namespace nsa
