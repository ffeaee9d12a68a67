#include "launch.cuh"
namespace nsa {
cudaError_t select_half(const Params &p, int dv, int batches, int groups, Plan plan, cudaStream_t stream) {
  return dispatch<__half>(p, dv, batches, groups, plan, stream);
}
} // namespace nsa
