// From a call as the host states it to the kernel's parameters and its plan.
#include "call.h"

#include <cmath>
#include <cstdint>
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

// Clusters of more than 8 thread blocks are an extra of the data-centre parts.
int max_cluster(int device) {
  const int major = attribute(cudaDevAttrComputeCapabilityMajor, device);
  return major < 9 ? 1 : major <= 10 ? kMaxCluster : 8;
}

}  // namespace

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
  while ((kTileTokens << p.tile_shift) < call.block_size) ++p.tile_shift;
  const int multiprocessors = attribute(cudaDevAttrMultiProcessorCount, device);
  const Plan split = plan(call.B * call.G, call.n << p.tile_shift, call.D, call.Dv, multiprocessors, max_cluster(device));
  const auto select = call.bf16 ? select_bfloat16 : select_half;
  const cudaError_t error = select(p, call.Dv, call.B, call.G, split, stream);
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace nsa
