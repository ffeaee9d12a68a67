// From a call as the host states it to the kernel's parameters and its plan.
#include "call.h"

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>

#include "plan.h"

namespace nsa {

cudaError_t select_half(const Params &p, int dv, int batches, int groups, Plan plan, cudaStream_t stream);
cudaError_t select_bfloat16(const Params &p, int dv, int batches, int groups, Plan plan, cudaStream_t stream);

namespace {

// Strides travel as 16-byte units in 32 bits: constants are cold in the kernel, so there are few of them.
bool wide(uint32_t &to, int64_t stride) {
  if (stride < 0 || stride % 8 || stride / 8 > std::numeric_limits<uint32_t>::max()) return false;
  to = static_cast<uint32_t>(stride / 8);
  return true;
}

int attribute(cudaDeviceAttr name, int device) {
  int value = 0;
  cudaDeviceGetAttribute(&value, name, device);
  return value;
}

constexpr bool built_for_clusters() {
  for (const int arch : {__CUDA_ARCH_LIST__})
    if (arch >= 900) return true;
  return false;
}

int capability_major(int device) { return attribute(cudaDevAttrComputeCapabilityMajor, device); }

bool has_clusters(int device) { return built_for_clusters() && capability_major(device) >= 9; }

// Clusters of more than 8 thread blocks are an extra of the data-centre parts.
int max_split(int device) { return has_clusters(device) && capability_major(device) > 10 ? 8 : kMaxCluster; }

int tile_shift(const Call &call) {
  int shift = 0;
  while ((kTileTokens << shift) < call.block_size) ++shift;
  return shift;
}

Plan plan_of(const Call &call, int device) {
  const int multiprocessors = attribute(cudaDevAttrMultiProcessorCount, device);
  return plan(call.B * call.G, call.n << tile_shift(call), call.D, call.Dv, multiprocessors, max_split(device));
}

}  // namespace

int64_t scratch_bytes(const Call &call, int device) {
  const int splits = has_clusters(device) ? 1 : plan_of(call, device).ctas;
  return splits > 1 ? call.B * call.G * splits * call.h * (call.Dv / 4) * kPartBytes : 0;
}

const char *launch(const Call &call, int device, cudaStream_t stream) {
  if (call.n > 64) return "more than 64 selected blocks";
  if (call.B == 0 || call.G == 0) return nullptr;
  Params p{};
  p.q = call.q, p.k = call.k, p.v = call.v, p.o = call.o;
  p.block_indices = call.block_indices, p.seq_lens = call.seq_lens;
  const bool fits = wide(p.q_b, call.q_stride[0]) && wide(p.q_g, call.q_stride[1]) && wide(p.q_h, call.q_stride[2]) &&
                    wide(p.k_b, call.k_stride[0]) && wide(p.k_g, call.k_stride[1]) && wide(p.k_s, call.k_stride[2]) &&
                    wide(p.v_b, call.v_stride[0]) && wide(p.v_g, call.v_stride[1]) && wide(p.v_s, call.v_stride[2]);
  if (!fits) return "a stride of q, k or v is negative, no multiple of 8 elements, or beyond 32 bits";
  p.o_b = call.o_stride[0] / 4, p.o_g = call.o_stride[1] / 4, p.o_h = call.o_stride[2] / 4;
  p.i_b = call.i_stride[0], p.i_g = call.i_stride[1];
  p.heads = call.h, p.blocks = call.n, p.capacity = call.S_max, p.dim = call.D;
  p.scale_log2 = 1.4426950408889634f / std::sqrt(static_cast<float>(call.D));
  p.tile_shift = tile_shift(call);
  p.scratch = call.scratch;
  const auto select = call.bf16 ? select_bfloat16 : select_half;
  const cudaError_t error = select(p, call.Dv, call.B, call.G, plan_of(call, device), stream);
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace nsa
