// Registers the operator nsa::decode_core with torch: it checks a call, takes a workspace and launches. Only torch's
// stable ABI is used, so that one build loads in any torch from 2.11 on and in any Python.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <cmath>
#include <limits>
#include <vector>

#include "call.h"

// Weak: a CPU build of torch has no such symbol, and still loads this library for the operator's schema.
#pragma weak aoti_torch_get_current_cuda_stream

using nsa::core::Cache;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

namespace {

// A stride of elements in units of `unit` of them.
uint32_t stride(const Tensor &t, int axis, int64_t unit, const char *name) {
  const int64_t s = t.stride(axis);
  STD_TORCH_CHECK(s >= 0 && s % unit == 0 && s / unit <= std::numeric_limits<uint32_t>::max(),
                  "nsa::decode_core: ", name, " has a stride of ", s, " elements, expected a multiple of ", unit);
  return static_cast<uint32_t>(s / unit);
}

void check(const Tensor &t, ScalarType dtype, const std::vector<int64_t> &shape, const char *name) {
  bool fits = t.dim() == static_cast<int64_t>(shape.size()) && t.scalar_type() == dtype;
  for (size_t i = 0; fits && i < shape.size(); ++i) fits = t.size(i) == shape[i];
  STD_TORCH_CHECK(fits && (t.size(t.dim() - 1) <= 1 || t.stride(t.dim() - 1) == 1), "nsa::decode_core: ", name,
                  " has the wrong shape or dtype, or no contiguous last dimension");
}

void aligned(const Tensor &t, const char *name) {
  STD_TORCH_CHECK(reinterpret_cast<uintptr_t>(t.const_data_ptr()) % 16 == 0, "nsa::decode_core: expected ", name,
                  " to start at a multiple of 16 bytes");
}

Cache cache(const Tensor &t, ScalarType dtype, const std::vector<int64_t> &shape, const char *name) {
  check(t, dtype, shape, name), aligned(t, name);
  return {t.const_data_ptr(), stride(t, 0, 8, name), stride(t, 1, 8, name), stride(t, 2, 8, name)};
}

// sizes: l, d, l', n, w. plan: see nsa::core::Plan.
void decode_core(const Tensor &q, const Tensor &gates, const Tensor &k_sel, const Tensor &v_sel, const Tensor &k_win,
                 const Tensor &v_win, const Tensor &k_cmp, const Tensor &v_cmp, const Tensor &seq_lens, Tensor blocks,
                 Tensor out, std::vector<int64_t> sizes, std::vector<int64_t> plan, int64_t parts) {
  STD_TORCH_CHECK(
      q.dim() == 4 && k_sel.dim() == 4 && v_sel.dim() == 4 && k_cmp.dim() == 4 && sizes.size() == 5 && plan.size() == 6,
      "nsa::decode_core: expected q and caches of 4 dimensions, 5 sizes and 6 numbers of a plan");
  const int64_t B = q.size(0), G = q.size(1), h = q.size(2), D = q.size(3), S = k_sel.size(2), Dv = v_sel.size(3),
                M = k_cmp.size(2), n = sizes[3];
  const ScalarType dtype = q.scalar_type();
  STD_TORCH_CHECK(h >= 1 && h <= 16 && nsa::has_dim(D) && nsa::has_dim(Dv), "nsa::decode_core: got h = ", h,
                  ", D = ", D, ", Dv = ", Dv, ", expected 1 to 16 heads and widths of 32, 64, 96, 128, 192 or 256");
  STD_TORCH_CHECK(dtype == ScalarType::Half || dtype == ScalarType::BFloat16,
                  "nsa::decode_core: expected float16 or bfloat16");
  STD_TORCH_CHECK(sizes[1] >= 1 && sizes[0] % sizes[1] == 0 && sizes[2] % sizes[1] == 0 && sizes[0] > 0 &&
                      sizes[2] > 0 && n >= 1 && n <= 128 && sizes[4] >= 0,
                  "nsa::decode_core: impossible sizes");
  STD_TORCH_CHECK(S < sizes[0] || (S - sizes[0]) / sizes[1] < M, "nsa::decode_core: no room for the compressed tokens");

  nsa::core::Call call{};
  nsa::core::Params &p = call.params;
  check(q, dtype, {B, G, h, D}, "q"), aligned(q, "q");
  check(gates, dtype, {B, G, h, 3}, "gates"), check(out, dtype, {B, G, h, Dv}, "out"), aligned(out, "out");
  check(seq_lens, ScalarType::Int, {B}, "seq_lens"), check(blocks, ScalarType::Int, {B, G, n}, "block_indices");
  p.k_cmp = cache(k_cmp, dtype, {B, G, M, D}, "k_cmp"), p.v_cmp = cache(v_cmp, dtype, {B, G, M, Dv}, "v_cmp");
  p.k_sel = cache(k_sel, dtype, {B, G, S, D}, "k[1]"), p.v_sel = cache(v_sel, dtype, {B, G, S, Dv}, "v[1]");
  p.k_win = cache(k_win, dtype, {B, G, S, D}, "k[2]"), p.v_win = cache(v_win, dtype, {B, G, S, Dv}, "v[2]");
  p.seq_lens = static_cast<const int32_t *>(seq_lens.const_data_ptr());
  p.q = q.const_data_ptr(), p.gates = gates.const_data_ptr(), p.o = out.mutable_data_ptr();
  p.block_indices = static_cast<int32_t *>(blocks.mutable_data_ptr());
  p.q_b = stride(q, 0, 8, "q"), p.q_g = stride(q, 1, 8, "q"), p.q_h = stride(q, 2, 8, "q");
  p.gates_b = stride(gates, 0, 1, "gates"), p.gates_g = stride(gates, 1, 1, "gates");
  p.gates_h = stride(gates, 2, 1, "gates");
  p.o_b = stride(out, 0, 4, "out"), p.o_g = stride(out, 1, 4, "out"), p.o_h = stride(out, 2, 4, "out");
  p.i_b = stride(blocks, 0, 1, "block_indices"), p.i_g = stride(blocks, 1, 1, "block_indices");
  p.heads = h, p.dim = D, p.capacity = S;
  p.scale_log2 = 1.4426950408889634f / std::sqrt(static_cast<float>(D));
  p.l = sizes[0], p.d = sizes[1], p.block = sizes[2], p.blocks = n, p.window = sizes[4];
  call.B = B, call.G = G, call.Dv = Dv, call.parts = static_cast<int>(parts), call.bf16 = dtype == ScalarType::BFloat16;
  call.plan = {plan[0], plan[1], plan[2], plan[3], plan[4], plan[5]};

  const int32_t device = q.get_device_index();
  torch::stable::accelerator::DeviceGuard guard(device);
  const char *fault = nsa::core::split(call);
  STD_TORCH_CHECK(fault == nullptr, "nsa::decode_core: ", fault == nullptr ? "" : fault);
  const int64_t bytes[] = {nsa::core::workspace(call, nullptr)};
  Tensor scratch = torch::stable::new_empty(q, {bytes, 1}, ScalarType::Byte);
  nsa::core::workspace(call, scratch.mutable_data_ptr());
  void *stream = nullptr;
  STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream(device, &stream) == AOTI_TORCH_SUCCESS,
                  "nsa::decode_core: torch has no CUDA stream for device ", device);
  fault = nsa::core::launch(call, static_cast<cudaStream_t>(stream));
  STD_TORCH_CHECK(fault == nullptr, "nsa::decode_core: ", fault == nullptr ? "" : fault);
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(nsa, m) {
  m.def("decode_core(Tensor q, Tensor gates, Tensor k_sel, Tensor v_sel, Tensor k_win, Tensor v_win, Tensor k_cmp, "
        "Tensor v_cmp, Tensor seq_lens, Tensor(a!) block_indices, Tensor(b!) out, int[] sizes, int[] plan, int parts) "
        "-> ()");
}

STABLE_TORCH_LIBRARY_IMPL(nsa, CUDA, m) { m.impl("decode_core", TORCH_BOX(&decode_core)); }
