// The launch of one call whose values are DV wide. instantiate_dv32.cu and its like hold one width each, so that widths
// compile in parallel and none of them includes another's kernels.
#pragma once
#include <cuda_runtime_api.h>

#include "params.h"
#include "plan.h"

namespace nsa {

template <int DV>
cudaError_t launch_width(bool bf16, const Params &p, int batches, int groups, Plan plan, cudaStream_t stream);

}  // namespace nsa
