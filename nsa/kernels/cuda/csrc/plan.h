// How a call is split. Measured on an H200 (docs/kernels_log.md): about eight warps a multiprocessor keep the memory
// busy, so a row gets that many warps' share, in powers of two; more only adds a combine, fewer leaves the chip idle.
#pragma once
#include "params.h"

namespace nsa {

struct Plan {
  int ctas;    // thread blocks that share a row: a cluster where there are clusters
  int stages;  // depth of each warp's ring
};

// Ring depth: 8 KiB in flight a warp is enough with 12 to 16 warps a multiprocessor.
constexpr int ring_stages(int d, int dv) { return d + dv <= 128 ? 2 : 1; }

inline Plan plan(int64_t rows, int tiles, int d, int dv, int multiprocessors, int max_split) {
  int ctas = 1;
  while (2 * ctas <= max_split && 2 * ctas * kWarps <= tiles && rows * 2 * ctas * kWarps <= 8 * multiprocessors)
    ctas *= 2;
  return {ctas, ctas > 1 ? 1 : ring_stages(d, dv)};  // a split row has few tiles a warp: the shorter start wins
}

}  // namespace nsa
