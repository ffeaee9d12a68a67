// From a call as the host states it to the kernels' parameters.
#include "call.h"

#include <type_traits>

#include "launch.h"
#include "resident.h"
#include "ring.h"
#include "stream.h"

namespace nsa::core {

namespace {

int64_t divided(int64_t a, int64_t b) { return (a + b - 1) / b; }

cudaError_t launch_dtype(const Call &call, cudaStream_t stream) {
  switch (call.Dv) {
    case 32: return launch_width<32>(call, stream);
    case 64: return launch_width<64>(call, stream);
    case 96: return launch_width<96>(call, stream);
    case 128: return launch_width<128>(call, stream);
    case 192: return launch_width<192>(call, stream);
    case 256: return launch_width<256>(call, stream);
  }
  return cudaErrorInvalidValue;  // library.cpp refuses other widths
}

template <int C, int Warps> cudaError_t stream_dtype(const Call &call, cudaStream_t stream) {
  return call.bf16 ? launch_stream<C, Warps, true>(call, stream) : launch_stream<C, Warps, false>(call, stream);
}

template <int D, int Ranks, int Groups> cudaError_t resident_dtype(const Call &call, cudaStream_t stream) {
  return call.bf16 ? launch_resident<D, Ranks, Groups, true>(call, stream)
                   : launch_resident<D, Ranks, Groups, false>(call, stream);
}

template <int D, int Ranks, int Groups> cudaError_t ring_dtype(const Call &call, cudaStream_t stream) {
  return call.bf16 ? launch_ring<D, Ranks, Groups, true>(call, stream)
                   : launch_ring<D, Ranks, Groups, false>(call, stream);
}

// The least of what is built that holds a row; it refuses one that is too long.
cudaError_t launch_resident_128(const Call &call, int64_t tokens, cudaStream_t stream) {
  switch (call.plan.cluster) {
    case 6: return tokens <= 128 ? resident_dtype<128, 6, 2>(call, stream) : resident_dtype<128, 6, 4>(call, stream);
    case 8:
      return tokens <= 64    ? resident_dtype<128, 8, 1>(call, stream)
             : tokens <= 128 ? resident_dtype<128, 8, 2>(call, stream)
                             : resident_dtype<128, 8, 4>(call, stream);
    case 16:
      return tokens <= 64    ? resident_dtype<128, 16, 1>(call, stream)
             : tokens <= 128 ? resident_dtype<128, 16, 2>(call, stream)
                             : resident_dtype<128, 16, 4>(call, stream);
  }
  return cudaErrorInvalidValue;
}

cudaError_t launch_resident_192(const Call &call, int64_t tokens, cudaStream_t stream) {
  switch (call.plan.cluster) {
    case 6: return resident_dtype<192, 6, 2>(call, stream);
    case 8: return resident_dtype<192, 8, 2>(call, stream);
    case 16:
      return tokens <= 64    ? resident_dtype<192, 16, 1>(call, stream)
             : tokens <= 128 ? resident_dtype<192, 16, 2>(call, stream)
                             : resident_dtype<192, 16, 4>(call, stream);
  }
  return cudaErrorInvalidValue;
}

cudaError_t launch_held(const Call &call, cudaStream_t stream) {
  const bool wide = call.params.dim == 192;
  const int64_t tokens = 4 * divided(call.params.capacity, 64 * call.plan.cluster);  // compressed ones a thread block
  if (call.plan.kind == kResident)
    return wide ? launch_resident_192(call, tokens, stream) : launch_resident_128(call, tokens, stream);
  switch (call.plan.cluster) {
    case 6:
      return wide            ? ring_dtype<192, 6, 11>(call, stream)
             : tokens <= 704 ? ring_dtype<128, 6, 11>(call, stream)
                             : ring_dtype<128, 6, 22>(call, stream);
    case 8:
      return wide            ? ring_dtype<192, 8, 16>(call, stream)
             : tokens <= 512 ? ring_dtype<128, 8, 8>(call, stream)
                             : ring_dtype<128, 8, 16>(call, stream);
    case 16: return wide ? ring_dtype<192, 16, 8>(call, stream) : ring_dtype<128, 16, 8>(call, stream);
  }
  return cudaErrorInvalidValue;
}

cudaError_t launch_one(const Call &call, cudaStream_t stream) {
  if (call.plan.kind == kResident || call.plan.kind == kRing) return launch_held(call, stream);
  if (call.plan.kind == kChunks)
    return call.bf16 ? launch_chunks<2, 8, true>(call, stream) : launch_chunks<2, 8, false>(call, stream);
  const bool half = call.plan.warps == 4;  // two thread blocks a multiprocessor
  switch (call.plan.cluster) {
    case 1: return half ? stream_dtype<1, 4>(call, stream) : stream_dtype<1, 8>(call, stream);
    case 2: return half ? stream_dtype<2, 4>(call, stream) : stream_dtype<2, 8>(call, stream);
    case 3: return stream_dtype<3, 8>(call, stream);
    case 4: return stream_dtype<4, 8>(call, stream);
    case 8: return stream_dtype<8, 8>(call, stream);
  }
  return cudaErrorInvalidValue;
}

bool fits_one(const Call &call) {
  const Params &p = call.params;
  const bool wide = call.Dv == 128 && (p.dim == 128 || p.dim == 192);
  const bool narrow = p.dim == call.Dv && (p.dim == 32 || p.dim == 64);
  const bool held = call.plan.kind == kResident || call.plan.kind == kRing;
  if (held && (!wide || p.blocks != 16 || p.window > 512)) return false;
  if (call.plan.kind == kChunks && p.dim != 128) return false;
  return p.l == 32 && p.d == 16 && p.block == 64 && p.blocks >= 3 && p.blocks <= 16 && (wide || narrow);
}

}  // namespace

const char *split(Call &call) {
  Params &p = call.params;
  const Plan &plan = call.plan;
  p.cover = p.l / p.d, p.cells = p.block / p.d;
  const int64_t blocks = divided(p.capacity, p.block), tokens = p.capacity < p.l ? 0 : (p.capacity - p.l) / p.d + 1;
  p.spill = divided(p.cover - 1, p.cells);
  if (plan.chunk_blocks < 1 || plan.win_tokens < 1 || plan.sel_tokens < 1) return "a plan of no tokens";
  if (plan.kind == kThree && plan.warps != 4 && plan.warps != 8) return "a plan of neither 4 nor 8 warps";
  if ((call.parts & kRoute) && p.spill > plan.chunk_blocks) return "chunks shorter than a compression block";
  p.chunk_blocks = plan.chunk_blocks, p.win_tokens = plan.win_tokens, p.sel_tokens = plan.sel_tokens;
  const int64_t width = p.window < p.capacity ? p.window : p.capacity;
  const int64_t selected = blocks < p.blocks ? blocks : p.blocks;
  p.chunks = call.parts & kCmp ? divided(tokens, plan.chunk_blocks * p.cells) : 0;
  p.win_splits = call.parts & kWin ? divided(width, plan.win_tokens) : 0;
  p.sel_splits = call.parts & kSel ? divided(selected * p.block, plan.sel_tokens) : 0;
  return nullptr;
}

int64_t workspace(Call &call, void *base) {
  if (call.plan.kind != kThree) return 0;
  Params &p = call.params;
  const int64_t rows = call.B * call.G, parts = p.chunks + p.win_splits + p.sel_splits;
  const bool route = call.parts & kRoute;
  int64_t used = 0;
  const auto take = [&](auto *&piece, int64_t count) {
    piece = reinterpret_cast<std::remove_reference_t<decltype(piece)>>(static_cast<char *>(base) + used);
    used += (count * static_cast<int64_t>(sizeof(*piece)) + 255) / 256 * 256;
  };
  take(p.parts_o, rows * parts * p.heads * call.Dv);
  take(p.parts_ml, rows * parts * kHeadRows);
  take(p.sums, route ? rows * p.chunks * (p.chunk_blocks + p.spill) * kHeadRows : 0);
  const int64_t blocks = divided(p.capacity, p.block);
  take(p.keys, route && blocks > kSharedKeys ? rows * (p.sel_splits ? p.sel_splits : 1) * blocks : 0);
  take(p.stored, rows * parts);
  return used;
}

const char *launch(const Call &call, cudaStream_t stream) {
  if (call.B == 0 || call.G == 0) return nullptr;
  if (call.plan.kind != kThree && !fits_one(call)) return "a plan of one launch for sizes that it is not built for";
  const cudaError_t error = call.plan.kind == kThree ? launch_dtype(call, stream) : launch_one(call, stream);
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace nsa::core
