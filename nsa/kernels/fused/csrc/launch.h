// The launch of one call whose values are DV wide. instantiate_dv32.cu and its like hold one width each, so that widths
// compile in parallel and none of them includes another's kernels.
#pragma once
#include "call.h"

namespace nsa::core {

template <int DV> cudaError_t launch_width(const Call &call, cudaStream_t stream);

}  // namespace nsa::core
