// In place of stream_c3w8_bf16.cu: every arm of D = 128, and the arm of all parts of each other width; of
// chunks_c2w8_bf16.cu that arm.
#include "stream_launch.cuh"

namespace nsa::core {

constexpr int kAll = kCmp | kRoute | kSel | kWin;

template <> cudaError_t launch_stream<3, 8, true>(const Call &call, cudaStream_t stream) {
  switch (call.params.dim) {
    case 32: return start_stream<__nv_bfloat16, 32, 32, 3, 8, 1, kAll>(call, stream);
    case 64: return start_stream<__nv_bfloat16, 64, 64, 3, 8, 1, kAll>(call, stream);
    case 192: return start_stream<__nv_bfloat16, 192, 128, 3, 8, 1, kAll>(call, stream);
  }
  return stream_parts<__nv_bfloat16, 128, 3, 8, 1>(call, stream);
}

template <> cudaError_t launch_chunks<2, 8, true>(const Call &call, cudaStream_t stream) {
  return start_stream<__nv_bfloat16, 128, 128, 2, 8, kChunk, kAll>(call, stream);
}

}  // namespace nsa::core
