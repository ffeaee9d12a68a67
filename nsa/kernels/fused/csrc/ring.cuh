// One launch for few long rows: a cluster of 6, 8 or 16 thread blocks holds the exponentials of a row's compressed
// scores in shared memory, while keys and values pass through rings. Halves, messages and what follows the importance
// of blocks are those of the resident kernel.
#pragma once
#include "order.cuh"
#include "ring_keys.cuh"
#include "ring_side.cuh"

namespace nsa::core {

// Grid: (Ranks, G, B), clusters of Ranks.
template <typename T, int D, int Ranks, int Groups, int Parts>
__global__ void __launch_bounds__(kResidentThreads, 1) ring(const __grid_constant__ Params p) {
#if __CUDA_ARCH__ >= 900  // elsewhere no plan leads here
  in_order();
  using Shared = RingShared<D, Ranks, Groups>;
  using Turns = HeadTurns<Shared>;
  constexpr bool kHasCmp = Parts & kCmp, kHasRoute = Parts & kRoute, kHasSel = Parts & kSel, kHasWin = Parts & kWin;
  constexpr int kShare = Shared::kShare, kGuessed = 2;
  extern __shared__ __align__(128) unsigned char shared[];
  const int lane = threadIdx.x & 31, t = lane & 3, tid = threadIdx.x & (kHalf - 1), warp = tid >> 5;
  const bool path = threadIdx.x < kHalf;
  const int rank = blockIdx.x, heads = min(max(16 - rank * kShare, 0), kShare);  // that this thread block sums
  const int asked = load_length(p, blockIdx.z);
  Row row(blockIdx.z, blockIdx.y);
  const Half<Shared> me{p, row, shared, shared_address(shared), tid, warp, lane, rank};
  // Slices are whole selection blocks; by capacity where that is not far off, so that the first keys are asked for
  // before the length is known.
  const int most = (p.capacity + kSelBlock * Ranks - 1) / (kSelBlock * Ranks);
  const int room = p.capacity < kCmpBlock ? 0 : (p.capacity - kCmpBlock) / kCmpStride + 1;
  KeyRing<Shared> keys(me);
  if (path && kHasCmp) {
    me.load_q(Shared::q);
    keys.begin(rank * most * 4, min(most * 4, room - rank * most * 4));
#pragma unroll
    for (int i = 0; i < kGuessed; ++i) keys.ask();
  }
  if (path && tid == 0) me.template expect_all<Parts>(heads, kFree * 8);
  if (path && tid < kFree) reinterpret_cast<uint64_t *>(shared + Shared::key)[tid] = 0;
  __syncwarp();
  cluster_arrive();
  uint16_t gate_sel[Turns::kTurns] = {};
  if (kHasSel && path)
#pragma unroll
    for (int i = 0; i < Turns::kTurns; ++i)
      gate_sel[i] = load_gate(p, row, rank * kShare + (i * kHalf + tid) / Turns::kLanes / 128, 1);
  if (!path && kHasWin)
    me.load_q(Shared::in_side);  // a copy of its own, where results arrive only after it has been read
  row.measure(p, asked);
  const int width = kHasWin ? min(p.window, row.length) : 0;
  const int fair = (row.blocks + Ranks - 1) / Ranks, owned = 4 * row.blocks >= 3 * most * Ranks ? most : fair;
  const int slice = owned * 4, first = rank * slice, padded = (slice + 15) & ~15;
  const int valid = kHasCmp ? min(max(row.compressed - first, 0), slice) : 0;
  const bool route = kHasRoute && row.blocks > p.blocks;

  if (!path) return beside_ring<T, Shared, Parts>(me, width, {first, padded, valid}, route);

  // -------------------------------------------------------------------------------- the critical path
  const int chunks = (padded + kChunkTokens - 1) / kChunkTokens;
  if (kHasSel && !kHasCmp) me.load_q(Shared::q);
  if constexpr (kHasCmp) {
    if (owned != most) {  // the length has another slicing: the copies above are void
      copy_wait<0>();
      __syncwarp();
      keys.begin(first, valid);
#pragma unroll
      for (int i = 0; i < kGuessed; ++i) keys.ask();
    } else {
      keys.left += valid - min(most * 4, room - rank * most * 4);
    }
#pragma unroll
    for (int i = kGuessed; i < Shared::kKeys; ++i) keys.ask();
    for (int i = chunks; i < Shared::kKeys; ++i) hand_over_keys(Shared::kKeys - 1 - i);
  }
  int block[kShare];
  if (!route) take_blocks<Shared, Parts>(me, false, block);
  cluster_wait();
  uint32_t q[D / 16][4];
  if constexpr (kHasCmp) {
    Exponentials<T, Shared, kHasRoute> held(me);
    copy_wait<Shared::kKeys - 1>();
    half_sync<kBarPath>();
    me.read_q(q, Shared::q);
#pragma unroll 1
    for (int i = 0; i < chunks; ++i) {
      const int tile = i * 8 + warp, c = tile * 8 + 2 * t;
      copy_wait<Shared::kKeys - 1>();
      __syncwarp();
      float s[4];
      score8<T>(s, q, keys.tile(), p.scale_log2, lane);
      __syncwarp();
      if (i + Shared::kKeys >= chunks) hand_over_keys(i + Shared::kKeys - chunks);
      keys.ask();
      if (tile * 8 >= padded) break;  // nothing is left to ask for either: this was the last turn
      if (c >= valid) s[0] = s[2] = -INFINITY;
      if (c + 1 >= valid) s[1] = s[3] = -INFINITY;
      held.add(i, s, slice);
    }
    held.close(slice, route);
    if (!route) await(me.bar(kInCmp));  // nobody leaves before every message to it has arrived
  }
  const BlockCopies<D, Shared> selected(me, Shared::k_sel, p.k_sel);
  if (route) best_of_slice(me, owned), exchange_keys(me), take_blocks<Shared, Parts>(me, true, block);
  attend_selected<T, Shared, Parts>(me, q, block, selected, gate_sel);
#endif
}

}  // namespace nsa::core
