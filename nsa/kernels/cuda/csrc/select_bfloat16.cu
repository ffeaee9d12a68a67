#include "launch.cuh"
namespace nsa {
cudaError_t select_bfloat16(const Params &p, int dv, int batches, int groups, Plan plan, cudaStream_t stream) {
  return dispatch<__nv_bfloat16>(p, dv, batches, groups, plan, stream);
}
} // namespace nsa
