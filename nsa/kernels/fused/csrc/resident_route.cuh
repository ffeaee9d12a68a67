// What follows the importance of blocks on the critical path: a cluster's thread blocks rank their best, one of them
// attends to each winner.
#pragma once
#include "resident_end.cuh"

namespace nsa::core {

#if __CUDA_ARCH__ >= 900

constexpr float kFar = 64.f;  // exponents of two slices that are further apart are not brought to one

// A head's part of a block's importance is (x + y) * f: its own sum, what the token before gives, the factor. Where
// that token's slice has exponents far above this one's, y is minus a probability: the rest is made one, too.
NSA_DEVICE void settle(float &x, float &y, float &f) {
  if (y < 0.f) x *= f, y = -y, f = 1.f;
}
NSA_DEVICE void settle(float4 &x, float4 &y, float4 &f) {
  settle(x.x, y.x, f.x), settle(x.y, y.y, f.y), settle(x.z, y.z, f.z), settle(x.w, y.w, f.w);
}

// Each head's factor from this slice's exponents to the row's probabilities (scale), and what the slice before gives to
// this one's first block (before; see settle).
template <typename Shared> NSA_DEVICE void scale_slice(const Half<Shared> &me) {
  constexpr int Ranks = Shared::kRanks;
  const Params &p = me.p;
  const unsigned char *shared = me.shared;
  const int tid = me.tid, rank = me.rank;
  float *scale = me.floats(Shared::scale), *before = me.floats(Shared::before);
  await(me.bar(kInCmp));
  if (tid < 64) {
    // What the last token of the slice before gives to this slice's first block, at this slice's exponent: exact. A
    // slice without a token takes the other's exponent.
    const int h = tid >> 2;
    const float2 here = *reinterpret_cast<const float2 *>(shared + Shared::in_cmp + (rank * 16 + h) * 16);
    const float4 there = *reinterpret_cast<const float4 *>(shared + Shared::in_cmp + (max(rank - 1, 0) * 16 + h) * 16);
    const bool empty = here.x == -INFINITY && rank > 0;
    const float2 whole = of_row<Ranks, 16>(shared + Shared::in_cmp, tid, p.heads);
    if ((tid & 3) == 0) {
      const float up = there.x - here.x;
      scale[h] = factor(empty ? there.x : here.x, whole);
      before[h] = rank == 0   ? 0.f
                  : empty     ? there.z
                  : up > kFar ? -there.z * factor(there.x, whole)
                              : there.z * exp2_fast(up);
    }
  }
  half_sync<kBarPath>();
}

// The block of a rank, to the thread block that will attend to it.
template <typename Shared> NSA_DEVICE void tell_block(const Half<Shared> &me, uint32_t place, int block) {
  constexpr int Ranks = Shared::kRanks;
  send_word(peer_address(me.base + Shared::block + place / Ranks * 4, place % Ranks), block,
            peer_address(me.bar(kInBlock), place % Ranks));
}

// Every thread block gets every importance, four blocks a message, and ranks its own blocks among all: of equal ones
// the lower is above. key: of the slice's block tid / 4, 0 where that is none or forced.
template <typename Shared> NSA_DEVICE void exchange_importance(const Half<Shared> &me, uint32_t key, int owned) {
  constexpr int Ranks = Shared::kRanks, kUnits = Shared::kKeyBytes / 16;  // messages a slice
  const int tid = me.tid, rank = me.rank, to = tid & 15, unit = tid >> 4;
  float4 four;
  four.x = __uint_as_float(__shfl_sync(~0u, key, me.lane & 16));
  four.y = __uint_as_float(__shfl_sync(~0u, key, (me.lane & 16) + 4));
  four.z = __uint_as_float(__shfl_sync(~0u, key, (me.lane & 16) + 8));
  four.w = __uint_as_float(__shfl_sync(~0u, key, (me.lane & 16) + 12));
  if (unit < kUnits && to < Ranks)
    send16(peer_address(me.base + Shared::in_keys + (rank * kUnits + unit) * 16, to), four,
           peer_address(me.bar(kInKeys), to));
  await(me.bar(kInKeys));
  const uint4 *all = reinterpret_cast<const uint4 *>(me.shared + Shared::in_keys);
  const int own = tid >> 4, at = rank * kUnits * 4 + own;  // 16 lanes a block
  const uint32_t mine = reinterpret_cast<const uint32_t *>(all)[at];
  uint32_t above = 0;
#pragma unroll
  for (int i = 0; i < (Ranks * kUnits + 15) / 16; ++i) {
    const int from = i * 16 + (tid & 15), other = from * 4;
    if (Ranks * kUnits % 16 && from >= Ranks * kUnits) break;
    const uint4 o = all[from];
    above += (o.x >= mine + (other >= at)) + (o.y >= mine + (other + 1 >= at)) + (o.z >= mine + (other + 2 >= at)) +
             (o.w >= mine + (other + 3 >= at));
  }
#pragma unroll
  for (int step = 1; step < 16; step *= 2) above += __shfl_xor_sync(~0u, above, step);
  if ((tid & 15) == 0 && mine && above < kFree) tell_block(me, above, rank * owned + own);
}

// The same from the best of each slice, in order (Shared::key).
template <typename Shared> NSA_DEVICE void exchange_keys(const Half<Shared> &me) {
  constexpr int Ranks = Shared::kRanks;
  const unsigned char *shared = me.shared;
  const uint32_t base = me.base;
  const int tid = me.tid, lane = me.lane, rank = me.rank;
  const uint64_t *keys = reinterpret_cast<const uint64_t *>(shared + Shared::key);
  const uint64_t *in_keys = reinterpret_cast<const uint64_t *>(shared + Shared::in_keys);
  {
    const int to = tid >> 4, k = tid & 15;
    if (k < kFree && to < Ranks)
      send_key(peer_address(base + Shared::in_keys + (rank * kFree + k) * 8, to), keys[k],
               peer_address(me.bar(kInKeys), to));
  }
  await(me.bar(kInKeys));
  {  // each block ranks its own candidates among all, and tells the thread block that will attend to the winner
    const int c = tid >> 4, from = tid & 15;
    uint32_t count = 0;
    uint64_t my = 0;
    if (c < kFree) {
      my = in_keys[rank * kFree + c];
      if (from < Ranks)
#pragma unroll
        for (int k = 0; k < kFree; ++k) count += in_keys[from * kFree + k] > my;
    }
    count = __reduce_add_sync(~0u, count << (lane & 16)) >> (lane & 16) & 0xffffu;
    if (from == 0 && c < kFree && count < kFree && my) tell_block(me, count, block_of(my));
  }
}

// The blocks that this thread block attends to; -1: none.
template <typename Shared> NSA_DEVICE void take_blocks(const Half<Shared> &me, int (&block)[Shared::kShare]) {
  constexpr int Ranks = Shared::kRanks, kShare = Shared::kShare;
  const unsigned char *shared = me.shared;
  const int rank = me.rank, current = me.row.blocks - 1;
  if (me.free_slots()) await(me.bar(kInBlock));
#pragma unroll
  for (int i = 0; i < kShare; ++i) {
    const int slot = i * Ranks + rank;
    block[i] = slot < kFree        ? reinterpret_cast<const int *>(shared + Shared::block)[i]
               : slot == kFree     ? 0
               : slot <= kFree + 2 ? current - (kFree + 2 - slot)
                                   : -1;
  }
}

// Selected attention, the exchange of all branches' shares, and their sum.
template <typename T, typename Shared, int Parts>
NSA_DEVICE void attend_selected(const Half<Shared> &me, uint32_t (&q)[Shared::kD / 16][4],
                                const int (&block)[Shared::kShare],
                                const uint16_t (&gate_sel)[HeadTurns<Shared>::kTurns]) {
  constexpr bool kHasRoute = Parts & kRoute, kHasSel = Parts & kSel, kHasWin = Parts & kWin,
                 kSide = Parts & (kCmp | kWin);
  constexpr int Ranks = Shared::kRanks, kShare = Shared::kShare;
  const Params &p = me.p;
  const uint32_t base = me.base;
  const int tid = me.tid, rank = me.rank, S = me.row.length;
  int here[kShare];
#pragma unroll
  for (int i = 0; i < kShare; ++i) here[i] = block[i] < 0 ? 0 : min(max(S - block[i] * kSelBlock, 0), kSelBlock);
  const auto ask_values = [&] {
#pragma unroll
    for (int i = 0; i < kShare; ++i)
      me.template load<128>(Shared::v_sel + i * kSelBlock * 256, p.v_sel, block[i] * kSelBlock, kSelBlock, here[i]);
    copy_commit();
  };
  if constexpr (kHasSel) {
#pragma unroll
    for (int i = 0; i < kShare; ++i)
      me.template load<Shared::kD>(Shared::k_sel + i * kSelBlock * Shared::kKey, p.k_sel, block[i] * kSelBlock,
                                   kSelBlock, here[i]);
    copy_commit();
    if (Shared::kTight && kHasWin) take_over<kBarWindow>();  // the window's keys have been read
    if (Shared::kBehind) copy_commit();
    else ask_values();
  }
  if (kHasRoute && tid == 0)
#pragma unroll
    for (int i = 0; i < kShare; ++i)
      if (i * Ranks + rank < kMostBlocks)
        send_word(peer_address(base + Shared::blocks + (i * Ranks + rank) * 4, 0), block[i],
                  peer_address(me.bar(kInBlocks), 0));
  if constexpr (kHasSel)
    attend_blocks<T, Shared, Parts>(me, q, here, [&] {
      if (!Shared::kBehind) return;
      if (kSide) take_over<kBarWindow>();  // the compressed values have been read
      ask_values();
    });
  if (kSide || kHasSel) await(me.bar(kInOut));
  sum_heads<T, Shared, Parts>(me, gate_sel);
}

#endif

}  // namespace nsa::core
