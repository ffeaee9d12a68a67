// The chosen blocks of a thread block that holds a part of a row, and messages of few bytes: what both halves of its
// warps use.
#pragma once
#include "resident_shared.cuh"

namespace nsa::core {

#if __CUDA_ARCH__ >= 900

// The blocks that this thread block attends to; -1: none. `route`: they are told by the thread blocks that rank them.
template <typename Shared, int Parts>
NSA_DEVICE void take_blocks(const Half<Shared> &me, bool route, int (&block)[Shared::kShare]) {
  const Params &p = me.p;
  const Row &row = me.row;
  const int current = row.blocks - 1;
  if (route && me.free_slots()) await(me.bar(kInBlock));
#pragma unroll
  for (int i = 0; i < Shared::kShare; ++i) {
    const int slot = i * Shared::kRanks + me.rank;
    if (!(Parts & kRoute))
      block[i] = slot < kMostBlocks ? p.block_indices[static_cast<uint64_t>(row.batch) * p.i_b +
                                                      static_cast<uint64_t>(row.group) * p.i_g + slot]
                                    : -1;
    else if (!route) block[i] = slot < min(row.blocks, kMostBlocks) ? slot : -1;
    else if (slot < kFree) block[i] = reinterpret_cast<const int *>(me.shared + Shared::block)[i];
    else block[i] = slot == kFree ? 0 : slot <= kFree + 2 ? current - (kFree + 2 - slot) : -1;
  }
}

// Tokens of a chosen block.
NSA_DEVICE int tokens_of(int block, int length) {
  return block < 0 ? 0 : min(max(length - block * kSelBlock, 0), kSelBlock);
}

// Copies blocks of rows of W elements. Made before the blocks are known, so that what does not depend on them has been
// computed by then.
template <int W, typename Shared> struct BlockCopies {
  static constexpr int kLanes = W % 128 ? 8 : 16, kRows = kHalf / kLanes;  // of a row, of a turn
  const Half<Shared> &me;
  const uint4 *from;
  uint64_t turn, block;
  uint32_t to;

  NSA_DEVICE BlockCopies(const Half<Shared> &me, int offset, const Cache &cache) : me(me) {
    const int r0 = me.tid / kLanes, c0 = me.tid % kLanes;
    from = me.row.at(cache, 0) + static_cast<uint64_t>(r0) * cache.s + c0, to = me.base + offset + place<W>(r0, c0);
    turn = static_cast<uint64_t>(kRows) * cache.s, block = static_cast<uint64_t>(kSelBlock) * cache.s;
    asm volatile("" : "+l"(from), "+l"(turn), "+l"(block), "+r"(to));
  }
  NSA_DEVICE void ask(const int (&blocks)[Shared::kShare]) const {
#pragma unroll
    for (int i = 0; i < Shared::kShare; ++i) {
      const int here = tokens_of(blocks[i], me.row.length) - me.tid / kLanes;
      const uint4 *row = from + block * static_cast<uint32_t>(max(blocks[i], 0));
#pragma unroll
      for (int r = 0; r < kSelBlock; r += kRows, row += turn)
#pragma unroll
        for (int j = 0; j < W / 8 / kLanes; ++j)
          copy16(to + (i * kSelBlock + r) * W * 2 + j * kLanes * 16, row + j * kLanes, r < here);
    }
    copy_commit();
  }
};

// By one thread: which blocks these are, to the thread block that puts them in order.
template <typename Shared> NSA_DEVICE void tell_chosen(const Half<Shared> &me, const int (&block)[Shared::kShare]) {
#pragma unroll
  for (int i = 0; i < Shared::kShare; ++i)
    if (i * Shared::kRanks + me.rank < kMostBlocks)
      send_word(peer_address(me.base + Shared::blocks + (i * Shared::kRanks + me.rank) * 4, 0), block[i],
                peer_address(me.bar(kInBlocks), 0));
}

// A head's (maximum, sum) over a slice of compressed tokens to every thread block, and what its last token gives to the
// next slice to that one's. By one thread of each receiver and head.
template <typename Shared>
NSA_DEVICE void tell_slice(const Half<Shared> &me, int to, int h, float2 ml, float given) {
  if (to < Shared::kRanks)
    send8(peer_address(me.base + Shared::in_cmp + (me.rank * 16 + h) * 8, to), ml, peer_address(me.bar(kInCmp), to));
  if (to < Shared::kRanks && to == me.rank + 1)
    send_word(peer_address(me.base + Shared::in_given + h * 4, to), __float_as_uint(given),
              peer_address(me.bar(kInCmp), to));
}

// Where a column of a share of 16 thread blocks' lies: the two halves of them are summed by lanes beside each other.
template <typename Shared> NSA_DEVICE int column_of(int rank, int column) {
  return Shared::kRanks == 16 && (rank & 8) ? column ^ 16 : column;
}

// Where a head's share of the selected branch lies at the thread block that sums it.
template <typename Shared> NSA_DEVICE int place_of(const Half<Shared> &me, int head) {
  return me.rank * Shared::kShare + head % Shared::kShare;
}

// A head's (maximum, sum) over the selected tokens here, to the thread block that sums it.
template <typename Shared> NSA_DEVICE void tell_selected(const Half<Shared> &me, int h) {
  const int to = h / Shared::kShare;
  send8(peer_address(me.base + Shared::in_sel_ml + place_of(me, h) * 8, to),
        make_float2(max8(me.floats(Shared::max_a) + h * 8), sum8(me.floats(Shared::sum_a) + h * 8)),
        peer_address(me.bar(kInEarly), to));
}

#endif

}  // namespace nsa::core
