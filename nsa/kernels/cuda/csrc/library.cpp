// Registers the operator nsa::select_attention with torch: it checks a call, allocates the output and launches. Only
// torch's stable ABI is used, so that one build loads in any torch from 2.11 on and in any Python.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <optional>

#include "call.h"

// Weak: a CPU build of torch has no such symbol, and still loads this library for the operator's schema.
#pragma weak aoti_torch_get_current_cuda_stream

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

namespace {

constexpr int64_t kMaxBlocks = 128;  // n

// Elements from one place of a dimension to the next; 0 where there is one place, whose stride means nothing.
int64_t stride_of(const Tensor &t, int dim) { return t.size(dim) > 1 ? t.stride(dim) : 0; }

void check_call(const Tensor &q, const Tensor &k, const Tensor &v, const Tensor &blocks, const Tensor &lens,
                int64_t block_size) {
  STD_TORCH_CHECK(q.dim() == 4 && k.dim() == 4 && v.dim() == 4 && blocks.dim() == 3 && lens.dim() == 1,
                  "nsa::select_attention: expected q, k, v of 4 dimensions, block_indices of 3, seq_lens of 1");
  const int64_t B = q.size(0), G = q.size(1), h = q.size(2), D = q.size(3), S = k.size(2), Dv = v.size(3);
  STD_TORCH_CHECK(k.size(0) == B && k.size(1) == G && k.size(3) == D && v.size(0) == B && v.size(1) == G &&
                      v.size(2) == S && blocks.size(0) == B && blocks.size(1) == G && lens.size(0) == B,
                  "nsa::select_attention: the shapes of q, k, v, block_indices and seq_lens do not fit together");
  STD_TORCH_CHECK(h >= 1 && h <= 16, "nsa::select_attention: got h = ", h, " heads a group, expected 1 to 16");
  STD_TORCH_CHECK(blocks.size(2) <= kMaxBlocks, "nsa::select_attention: got n = ", blocks.size(2),
                  " selected blocks a row, expected at most ", kMaxBlocks);
  STD_TORCH_CHECK(nsa::has_dim(D) && nsa::has_dim(Dv), "nsa::select_attention: got D = ", D, " and Dv = ", Dv,
                  ", expected 32, 64, 96, 128, 192 or 256");
  STD_TORCH_CHECK(block_size == 16 || block_size == 32 || block_size == 64 || block_size == 128,
                  "nsa::select_attention: got block_size = ", block_size, ", expected 16, 32, 64 or 128");
  STD_TORCH_CHECK(q.scalar_type() == k.scalar_type() && q.scalar_type() == v.scalar_type() &&
                      (q.scalar_type() == ScalarType::Half || q.scalar_type() == ScalarType::BFloat16),
                  "nsa::select_attention: expected q, k and v all float16 or all bfloat16");
  STD_TORCH_CHECK(blocks.scalar_type() == ScalarType::Int && lens.scalar_type() == ScalarType::Int,
                  "nsa::select_attention: expected int32 block_indices and seq_lens");
  for (const Tensor *t : {&q, &k, &v}) {
    STD_TORCH_CHECK(t->stride(3) == 1, "nsa::select_attention: expected a contiguous last dimension of q, k and v");
    for (int i = 0; i < 3; ++i)
      STD_TORCH_CHECK(stride_of(*t, i) % 8 == 0, "nsa::select_attention: got a stride of ", t->stride(i),
                      " elements, expected multiples of 8 (16 bytes)");
    STD_TORCH_CHECK(reinterpret_cast<uintptr_t>(t->const_data_ptr()) % 16 == 0,
                    "nsa::select_attention: expected q, k and v to start at a multiple of 16 bytes");
  }
  STD_TORCH_CHECK((blocks.size(2) <= 1 || blocks.stride(2) == 1) && (B <= 1 || lens.stride(0) == 1),
                  "nsa::select_attention: expected a contiguous last dimension of block_indices and seq_lens");
}

Tensor select_attention(const Tensor &q, const Tensor &k, const Tensor &v, const Tensor &blocks, const Tensor &lens,
                        int64_t block_size) {
  check_call(q, k, v, blocks, lens, block_size);
  const int32_t device = q.get_device_index();
  torch::stable::accelerator::DeviceGuard guard(device);
  const int64_t sizes[] = {q.size(0), q.size(1), q.size(2), v.size(3)};
  Tensor o = torch::stable::new_empty(q, {sizes, 4});

  nsa::Call call{};
  call.q = q.const_data_ptr(), call.k = k.const_data_ptr(), call.v = v.const_data_ptr(), call.o = o.mutable_data_ptr();
  call.block_indices = static_cast<const int32_t *>(blocks.const_data_ptr());
  call.seq_lens = static_cast<const int32_t *>(lens.const_data_ptr());
  call.bf16 = q.scalar_type() == ScalarType::BFloat16;
  call.B = q.size(0), call.G = q.size(1), call.h = q.size(2), call.D = q.size(3), call.Dv = v.size(3);
  call.n = blocks.size(2), call.S_max = k.size(2), call.block_size = block_size;
  for (int i = 0; i < 3; ++i)
    call.q_stride[i] = stride_of(q, i), call.k_stride[i] = stride_of(k, i), call.v_stride[i] = stride_of(v, i);
  for (int i = 0; i < 3; ++i) call.o_stride[i] = o.stride(i);
  for (int i = 0; i < 2; ++i) call.i_stride[i] = stride_of(blocks, i);

  std::optional<Tensor> scratch;
  if (const int64_t bytes[] = {nsa::scratch_bytes(call, device)}; bytes[0] > 0) {
    scratch = torch::stable::new_empty(q, {bytes, 1}, ScalarType::Byte);
    call.scratch = scratch->mutable_data_ptr();
  }
  void *stream = nullptr;
  STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream(device, &stream) == AOTI_TORCH_SUCCESS,
                  "nsa::select_attention: torch has no CUDA stream for device ", device);
  const char *fault = nsa::launch(call, device, static_cast<cudaStream_t>(stream));
  STD_TORCH_CHECK(fault == nullptr, "nsa::select_attention: ", fault == nullptr ? "" : fault);
  return o;
}

}  // namespace

STABLE_TORCH_LIBRARY(nsa, m) {
  m.def("select_attention(Tensor q, Tensor k, Tensor v, Tensor block_indices, Tensor seq_lens, int block_size) -> "
        "Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(nsa, CUDA, m) { m.impl("select_attention", TORCH_BOX(&select_attention)); }
