// From a call as the host states it to the kernel's parameters and its plan.
#include "call.h"

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>

#include "launch.h"

namespace nsa {

namespace {

// A stride of elements as the kernel takes it: 16-byte units in 32 bits, half the constant memory of 64 (params.h).
// False where it does not fit.
bool wide(uint32_t &to, int64_t stride) {
  if (stride < 0 || stride % 8 || stride / 8 > std::numeric_limits<uint32_t>::max()) return false;
  to = static_cast<uint32_t>(stride / 8);
  return true;
}

// A stride of block_indices, in elements.
bool narrow(uint32_t &to, int64_t stride) {
  if (stride < 0 || stride > std::numeric_limits<uint32_t>::max()) return false;
  to = static_cast<uint32_t>(stride);
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

// The most thread blocks that can share a row. Of the parts with clusters only those for data centres (9.x and 10.x)
// have clusters of more than 8.
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

cudaError_t launch_planned(const Call &call, const Params &p, Plan plan, cudaStream_t stream) {
  switch (call.Dv) {
    case 32: return launch_width<32>(call.bf16, p, call.B, call.G, plan, stream);
    case 64: return launch_width<64>(call.bf16, p, call.B, call.G, plan, stream);
    case 96: return launch_width<96>(call.bf16, p, call.B, call.G, plan, stream);
    case 128: return launch_width<128>(call.bf16, p, call.B, call.G, plan, stream);
    case 192: return launch_width<192>(call.bf16, p, call.B, call.G, plan, stream);
    case 256: return launch_width<256>(call.bf16, p, call.B, call.G, plan, stream);
  }
  return cudaErrorInvalidValue;  // library.cpp refuses other widths
}

}  // namespace

int64_t scratch_bytes(const Call &call, int device) {
  const int splits = has_clusters(device) ? 1 : plan_of(call, device).ctas;
  return splits > 1 ? call.B * call.G * splits * call.h * (call.Dv / 4) * kPartBytes : 0;
}

const char *launch(const Call &call, int device, cudaStream_t stream) {
  if (call.B == 0 || call.G == 0) return nullptr;
  Params p{};
  p.q = call.q, p.k = call.k, p.v = call.v, p.o = call.o;
  p.block_indices = call.block_indices, p.seq_lens = call.seq_lens;
  const bool fits = wide(p.q_b, call.q_stride[0]) && wide(p.q_g, call.q_stride[1]) && wide(p.q_h, call.q_stride[2]) &&
                    wide(p.k_b, call.k_stride[0]) && wide(p.k_g, call.k_stride[1]) && wide(p.k_s, call.k_stride[2]) &&
                    wide(p.v_b, call.v_stride[0]) && wide(p.v_g, call.v_stride[1]) && wide(p.v_s, call.v_stride[2]);
  if (!fits) return "a stride of q, k or v is negative, no multiple of 8 elements, or beyond 32 bits";
  p.o_b = call.o_stride[0] / 4, p.o_g = call.o_stride[1] / 4, p.o_h = call.o_stride[2] / 4;
  if (!narrow(p.i_b, call.i_stride[0]) || !narrow(p.i_g, call.i_stride[1]))
    return "a stride of block_indices is negative or beyond 32 bits";
  p.heads = call.h, p.blocks = call.n, p.capacity = call.S_max, p.dim = call.D;
  p.scale_log2 = 1.4426950408889634f / std::sqrt(static_cast<float>(call.D));
  p.tile_shift = tile_shift(call);
  p.scratch = call.scratch;
  const cudaError_t error = launch_planned(call, p, plan_of(call, device), stream);
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace nsa
