// One call of a decode core as the host states it, and the function that launches it.
#pragma once
#include <cstdint>
#include <cuda_runtime_api.h>

#include "params.h"
#include "sizes.h"

namespace nsa::core {

enum Part : int { kCmp = 1, kRoute = 2, kSel = 4, kWin = 8 };  // nsa.kernels.fused.operator has the same

// How a call is split (nsa/kernels/fused/plan.py).
// Three launches; one, in which `cluster` thread blocks stream a row; one, in which they hold it; one, in which they
// hold its exponentials alone; one, in which they stream a long row, a warp whole chunks of it.
enum Kind : int64_t { kThree = 0, kStream = 1, kResident = 2, kRing = 3, kChunks = 4 };
struct Plan {
  int64_t kind, chunk_blocks, win_tokens, sel_tokens, cluster, warps;
};

struct Call {
  Params params;  // but for the split and the workspace
  int64_t B, G, Dv;
  int parts;  // Part
  bool bf16;
  Plan plan;
};

// Fills in how the call is split; nullptr, or what is wrong with the plan.
const char *split(Call &call);

// Bytes of the workspace of a call that has been split, and where its pieces lie in it.
int64_t workspace(Call &call, void *base);

// Launches on the stream; nullptr, or what is wrong.
const char *launch(const Call &call, cudaStream_t stream);

}  // namespace nsa::core
