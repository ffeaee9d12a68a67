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

// For a thread's four heads, from 4 * (lane % 4) on: the factor from this slice's exponents to the row's probabilities,
// and what the slice before gives to this one's first block (see settle). Every warp that needs them computes all 16
// heads', two lanes a head, in the same order everywhere. The slices' (maximum, sum) have arrived.
struct SliceScale {
  float4 factor, before;

  template <typename Shared> NSA_DEVICE explicit SliceScale(const Half<Shared> &me) {
    constexpr int kEach = Shared::kRanks / 2;
    const int h = me.lane & 15, first = (me.lane >> 4) * kEach, rank = me.rank;
    const float2 *in = reinterpret_cast<const float2 *>(me.shared + Shared::in_cmp) + h;
    float2 v[kEach];
    float top = -INFINITY, sum = 0.f;
#pragma unroll
    for (int i = 0; i < kEach; ++i) v[i] = in[(first + i) * 16], top = fmaxf(top, v[i].x);
    const float here = in[rank * 16].x, there = in[max(rank - 1, 0) * 16].x, given = me.floats(Shared::in_given)[h];
    top = finite(fmaxf(top, __shfl_xor_sync(~0u, top, 16)));
    // No branch, and what does not need the sum before it. At this slice's exponent: exact. A slice without a token
    // takes the other's exponent.
    const bool empty = here == -INFINITY && rank > 0;
    const float up = there - here, theirs = exp2_fast(there - top), ours = empty ? theirs : exp2_fast(here - top);
    const float brought = empty ? given : given * exp2_fast(up);
#pragma unroll
    for (int i = 0; i < kEach; ++i) sum += v[i].y * exp2_fast(v[i].x - top);
    sum += __shfl_xor_sync(~0u, sum, 16);
    const float share = h < me.p.heads && sum > 0.f ? reciprocal(sum) : 0.f, scale = ours * share;
    const float far = -given * (theirs * share), from_before = rank == 0 ? 0.f : !empty && up > kFar ? far : brought;
    factor = four(scale, me.lane), before = four(from_before, me.lane);
  }
  static NSA_DEVICE float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }
  static NSA_DEVICE float4 four(float x, int lane) {
    const int h = 4 * (lane & 3);
    return make_float4(__shfl_sync(~0u, x, h), __shfl_sync(~0u, x, h + 1), __shfl_sync(~0u, x, h + 2),
                       __shfl_sync(~0u, x, h + 3));
  }
};

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
  // A warp has two messages for each receiver: of lanes beside each other they are one packet.
  const int tid = me.tid, rank = me.rank, to = me.lane >> 1, unit = me.warp * 2 + (me.lane & 1);
  float four[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) four[i] = __uint_as_float(__shfl_sync(~0u, key, (me.lane & 1) * 16 + i * 4));
  if (unit < kUnits && to < Ranks)
    send16(peer_address(me.base + Shared::in_keys + (rank * kUnits + unit) * 16, to),
           make_float4(four[0], four[1], four[2], four[3]), peer_address(me.bar(kInKeys), to));
  await(me.bar(kInKeys));
  const uint4 *all = reinterpret_cast<const uint4 *>(me.shared + Shared::in_keys);
  const int own = tid >> 4, at = rank * kUnits + own / 4, part = own % 4;  // 16 lanes a block
  const uint32_t mine = reinterpret_cast<const uint32_t *>(all + at)[part];
  const uint4 same = all[at];
  uint32_t of[4] = {0, 0, 0, 0};  // four sums, which do not wait for each other
#pragma unroll
  for (int i = 0; i < (Ranks * kUnits + 15) / 16; ++i) {
    const int from = i * 16 + (tid & 15);
    if (Ranks * kUnits % 16 && from >= Ranks * kUnits) break;
    const uint4 o = all[from];
    const uint32_t least = mine + (from > at);
    of[0] += o.x >= least, of[1] += o.y >= least, of[2] += o.z >= least, of[3] += o.w >= least;
  }
  uint32_t above = (of[0] + of[1]) + (of[2] + of[3]);
  above = __reduce_add_sync(~0u, above << (me.lane & 16)) >> (me.lane & 16) & 0xffffu;
  // Of its own four, what is equal and not before it has been counted, itself included.
  above -= 1 + (part < 1 && same.y == mine) + (part < 2 && same.z == mine) + (part < 3 && same.w == mine);
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

// Selected attention, the exchange of all branches' shares, and their sum.
template <typename T, typename Shared, int Parts>
NSA_DEVICE void attend_selected(const Half<Shared> &me, uint32_t (&q)[Shared::kD / 16][4],
                                const int (&block)[Shared::kShare], const BlockCopies<Shared::kD, Shared> &keys,
                                const uint16_t (&gate_sel)[HeadTurns<Shared>::kTurns]) {
  if constexpr (Parts & kSel) {
    keys.ask(block);
    attend_blocks<T, Shared, Parts>(me, q, block);
  }
  sum_heads<T, Shared, Parts>(me, gate_sel);
}

#endif

}  // namespace nsa::core
