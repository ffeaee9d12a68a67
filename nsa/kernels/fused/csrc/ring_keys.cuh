// The ring kernel's critical path up to routing: scores of keys that pass through a ring of each warp's own, their
// exponentials and sums of blocks, and from these the importance of blocks.
#pragma once
#include "resident_route.cuh"
#include "ring_shared.cuh"

namespace nsa::core {

#if __CUDA_ARCH__ >= 900

// A warp's keys: 8 tokens of each chunk, which no other warp reads. Chunks are asked for, and read, in order.
template <typename Shared> struct KeyRing {
  static constexpr uint32_t kEnd = Shared::k_cmp + Shared::kKeys * Shared::kKeyChunk, kShare = 8 * Shared::kKey;
  const Half<Shared> &me;
  const uint4 *from;  // this lane's of the next chunk
  int left;           // tokens of the slice from this lane's first row of it on
  uint32_t to = Shared::k_cmp, at = Shared::k_cmp;

  NSA_DEVICE KeyRing(const Half<Shared> &me) : me(me) {}
  // A slice that starts at token `first` and has `valid` of them.
  NSA_DEVICE void begin(int first, int valid) {
    const int row = me.warp * 8 + (me.lane >> 3);
    from = me.row.at(me.p.k_cmp, first + row) + (me.lane & 7), left = valid - row, to = Shared::k_cmp;
  }
  NSA_DEVICE void ask() {
    const uint32_t place_ = me.base + to + me.warp * kShare + place<Shared::kD>(me.lane >> 3, me.lane & 7);
    const uint4 *half = from + static_cast<uint64_t>(4) * me.p.k_cmp.s;
    if (left + (me.lane >> 3) > 0) {
#pragma unroll
      for (int j = 0; j < Shared::kD / 64; ++j) copy16(place_ + j * 128, from + j * 8, left > 0);
#pragma unroll
      for (int j = 0; j < Shared::kD / 64; ++j)
        copy16((place_ ^ 64) + 4 * Shared::kKey + j * 128, half + j * 8, left > 4);
    }
    copy_commit();
    from += static_cast<uint64_t>(kChunkTokens) * me.p.k_cmp.s, left -= kChunkTokens;
    to = to + Shared::kKeyChunk == kEnd ? Shared::k_cmp : to + Shared::kKeyChunk;
  }
  NSA_DEVICE uint32_t tile() {
    const uint32_t found = me.base + at + me.warp * kShare;
    at = at + Shared::kKeyChunk == kEnd ? Shared::k_cmp : at + Shared::kKeyChunk;
    return found;
  }
};

// What a warp keeps of its tokens, at a base of its own for each head: a whole exponent, so that every rescaling is
// exact. The base is of the warp's first tile; a score far above it raises it, and what lies in memory with it.
template <typename T, typename Shared, bool Route> struct Exponentials {
  static constexpr float kFar = 12.f;  // exponentials of up to 2^12 are well inside of float16
  static constexpr float kAbove = 16.f, kBack = 65536.f;
  const Half<Shared> &me;
  float base0 = -INFINITY, base1 = -INFINITY, l0 = 0.f, l1 = 0.f;  // of heads lane / 4 and + 8

  NSA_DEVICE Exponentials(const Half<Shared> &me) : me(me) {}
  NSA_DEVICE uint32_t *word(int tile, int half) const {
    return reinterpret_cast<uint32_t *>(me.shared + Shared::p_cmp + ((me.lane >> 2) + 8 * half) * Shared::p_cmp_row +
                                        (tile * 8 + 2 * (me.lane & 3)) * 2);
  }
  NSA_DEVICE float *sums(int block) const { return me.floats(Shared::sums) + block * 16 + (me.lane >> 2); }
  NSA_DEVICE float *last(int tile) const { return me.floats(Shared::last) + tile * 16 + (me.lane >> 2); }

  // Every value was written by the thread that rescales it.
  NSA_DEVICE void raise(int turn, float m0, float m1) {
    m0 = quad_max1(m0), m1 = quad_max1(m1);
    const float to0 = m0 > base0 + kFar ? ceilf(m0) : base0, to1 = m1 > base1 + kFar ? ceilf(m1) : base1;
    const float f0 = exp2_fast(finite(base0) - finite(to0)), f1 = exp2_fast(finite(base1) - finite(to1));
    const uint32_t by0 = Element<T>::pack(f0, f0), by1 = Element<T>::pack(f1, f1);
    const int t = me.lane & 3;
    for (int i = 0; i < turn; ++i) {
      const int tile = i * 8 + me.warp, block = 2 * tile + t / 2;
      *word(tile, 0) = scaled<T>(*word(tile, 0), by0), *word(tile, 1) = scaled<T>(*word(tile, 1), by1);
      if constexpr (Route) {
        if (t % 2 == 0) sums(block)[0] *= f0, sums(block)[8] *= f1;
        if (t == 3) last(tile)[0] *= f0, last(tile)[8] *= f1;
      }
    }
    base0 = to0, base1 = to1, l0 *= f0, l1 *= f1;
  }

  // Scores of the warp's tile in this turn: heads g and g + 8, tokens 2t and 2t + 1.
  NSA_DEVICE void add(int turn, const float (&s)[4], int slice) {
    const int tile = turn * 8 + me.warp, lane = me.lane, t = lane & 3;
    const float m0 = fmaxf(s[0], s[1]), m1 = fmaxf(s[2], s[3]);
    if (turn == 0) base0 = ceilf(quad_max1(m0)), base1 = ceilf(quad_max1(m1));
    else if (__any_sync(~0u, m0 > base0 + kFar || m1 > base1 + kFar)) raise(turn, m0, m1);
    // Through an exponent above all scores: of a positive number exp2_fast() is another one's in the last bit.
    const float b0 = finite(base0) + kAbove, b1 = finite(base1) + kAbove;
    const float p0 = exp2_fast(s[0] - b0) * kBack, p1 = exp2_fast(s[1] - b0) * kBack, p2 = exp2_fast(s[2] - b1) * kBack,
                p3 = exp2_fast(s[3] - b1) * kBack;
    l0 += p0 + p1, l1 += p2 + p3;
    *word(tile, 0) = Element<T>::pack(p0, p1), *word(tile, 1) = Element<T>::pack(p2, p3);
    if constexpr (Route) {
      const float h0 = .5f * p1, h1 = .5f * p3;
      float a0 = p0 + ((t & 1) ? h0 : p1), a1 = p2 + ((t & 1) ? h1 : p3);
      a0 += __shfl_xor_sync(~0u, a0, 1), a1 += __shfl_xor_sync(~0u, a1, 1);
      const float x0 = __shfl_sync(~0u, h0, (lane & ~3) + 1), x1 = __shfl_sync(~0u, h1, (lane & ~3) + 1);
      if (tile * 8 + 2 * t + 1 == slice - 1)
        me.floats(Shared::slice_last)[lane >> 2] = h0, me.floats(Shared::slice_last)[(lane >> 2) + 8] = h1;
      // Lanes 0 and 2 have the sums of the tile's two blocks, lane 3 what it gives to the next tile.
      float *to = t == 3 ? last(tile) : sums(2 * tile + t / 2);
      if (t != 1) to[0] = t == 0 ? a0 : t == 2 ? a0 + x0 : h0, to[8] = t == 0 ? a1 : t == 2 ? a1 + x1 : h1;
    }
  }

  // The slice's (maximum, sum), and what its last token gives to the next slice, to every thread block; the warps'
  // weights at the slice's base to this one's other half.
  NSA_DEVICE void close(int slice, bool route) {
    float *max_w = me.floats(Shared::max_a), *sum_w = me.floats(Shared::sum_a);  // [16 heads][8 warps]
    const int g = me.lane >> 2, warp = me.warp, to = me.tid >> 4, h = me.tid & 15;
    l0 = quad_sum1(l0), l1 = quad_sum1(l1);
    if ((me.lane & 3) == 0) {
      max_w[of_warp(g, warp)] = base0, max_w[of_warp(g + 8, warp)] = base1;
      sum_w[of_warp(g, warp)] = l0, sum_w[of_warp(g + 8, warp)] = l1;
    }
    half_sync<kBarPath>();
    const float top = max8(max_w + h * 8), shift = finite(top);
    if (to < 8) me.floats(Shared::weights)[to * 16 + h] = exp2_fast(max_w[of_warp(h, to)] - shift);
    hand_over<kBarProbabilities>();
    float sum = 0.f;
#pragma unroll
    for (int w = 0; w < 8; ++w) sum += sum_w[h * 8 + w] * exp2_fast(max_w[h * 8 + w] - shift);
    const float given =
        route ? me.floats(Shared::slice_last)[h] * exp2_fast(max_w[of_warp(h, (slice - 1) / 8 % 8)] - shift) : 0.f;
    tell_slice(me, to, h, make_float2(top, sum), given);
    if (route) half_sync<kBarPath>();  // the weights, for this half
  }
};

// The 13 best blocks of a slice, in order, into Shared::key.
template <typename Shared> struct BestBlocks {
  const Half<Shared> &me;
  const int owned, quarter, own;  // four lanes a block
  const float *sums, *last, *weights;
  uint32_t *importance;
  uint64_t *keys;

  NSA_DEVICE BestBlocks(const Half<Shared> &me, int owned)
      : me(me),
        owned(owned),
        quarter(me.tid & 3),
        own(me.tid >> 2),
        sums(me.floats(Shared::sums)),
        last(me.floats(Shared::last)),
        weights(me.floats(Shared::weights)),
        importance(reinterpret_cast<uint32_t *>(me.shared + Shared::importance)),
        keys(reinterpret_cast<uint64_t *>(me.shared + Shared::key)) {}
  NSA_DEVICE float4 four(const float *x) const { return *reinterpret_cast<const float4 *>(x + quarter * 4); }
  NSA_DEVICE uint64_t *room(int offset) const { return reinterpret_cast<uint64_t *>(me.shared + offset); }
  NSA_DEVICE int number(int j) const { return me.rank * owned + j; }

  // Importance of the slice's block j plus one, by four lanes; 0 where it is forced, or none.
  NSA_DEVICE uint32_t weigh(int j, const SliceScale &scale) const {
    float value = 0.f;
    if (j < owned) {
      const int tile = j / 2;
      const float4 w = four(weights + tile % 8 * 16);
      float4 x = four(sums + j * 16), f = scale.factor;
      x = make_float4(x.x * w.x, x.y * w.y, x.z * w.z, x.w * w.w);
      float4 y = make_float4(0.f, 0.f, 0.f, 0.f);  // of the token before the block
      if (j == 0) y = scale.before;
      else if (j % 2 == 0) {
        const float4 a = four(last + (tile - 1) * 16), b = four(weights + (tile + 7) % 8 * 16);
        y = make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w);
      }
      settle(x, y, f);
      value = (x.x + y.x) * f.x + (x.y + y.y) * f.y + (x.z + y.z) * f.z + (x.w + y.w) * f.w;
    }
    value = quad_sum1(value);
    const int mine = number(j), blocks = me.row.blocks;
    return j < owned && mine < blocks && mine != 0 && mine < blocks - 2 ? __float_as_uint(value) + 1 : 0;
  }

  // Of at most 128: each is compared with all.
  NSA_DEVICE void compare(const SliceScale &scale) const {
    uint32_t key[2];
    int above[2] = {};
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      key[r] = weigh(own + 64 * r, scale);
      if (quarter == 0) importance[own + 64 * r] = key[r];
    }
    half_sync<kBarPath>();
#pragma unroll
    for (int k = 0; k < 8; ++k) {  // a quarter of the others each; of equal ones the lower index is above
      const int other = (quarter * 8 + k) * 4;
      const uint4 o = *reinterpret_cast<const uint4 *>(importance + other);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int j = own + 64 * r;
        above[r] += (o.x >= key[r] + (other >= j)) + (o.y >= key[r] + (other + 1 >= j)) +
                    (o.z >= key[r] + (other + 2 >= j)) + (o.w >= key[r] + (other + 3 >= j));
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      above[r] += __shfl_xor_sync(~0u, above[r], 1), above[r] += __shfl_xor_sync(~0u, above[r], 2);
      if (quarter == 0 && own + 64 * r < owned && above[r] < kFree)
        keys[above[r]] = key_of(key[r], number(own + 64 * r));
    }
  }

  // Of more: the 13th greatest maximum of 64 groups is a bound from below, which few of them reach.
  NSA_DEVICE void reach(const SliceScale &scale) const {
    uint64_t *best = room(Shared::best), *candidates = room(Shared::candidates), *bound = room(Shared::found), top = 0;
    int *count = reinterpret_cast<int *>(bound + 1), above = 0;
    for (int j = own; j - own < owned; j += 64) {
      const uint32_t key = weigh(j, scale);
      if (quarter == 0 && j < owned) importance[j] = key;
      top = max(top, key_of(key, number(j)));
    }
    if (quarter == 0) best[own] = top;
    if (me.tid == 0) *bound = 0, *count = 0;
    half_sync<kBarPath>();
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const ulonglong2 x = *reinterpret_cast<const ulonglong2 *>(best + (i * 4 + quarter) * 2);
      above += (x.x > top) + (x.y > top);
    }
    above += __shfl_xor_sync(~0u, above, 1), above += __shfl_xor_sync(~0u, above, 2);
    if (quarter == 0 && top && above == kFree - 1) *bound = top;
    half_sync<kBarPath>();
    const uint64_t least = max(*bound, uint64_t{1});
    for (int first = 0; first < owned; first += kHalf) {
      const int j = first + me.tid;
      const uint64_t key = j < owned ? key_of(importance[j], number(j)) : 0;
      const uint32_t found = __ballot_sync(~0u, key >= least);
      int at = 0;
      if (me.lane == 0 && found) at = atomicAdd(count, __popc(found));
      at = __shfl_sync(~0u, at, 0) + __popc(found & ((1u << me.lane) - 1));
      if (key >= least) candidates[at] = key;
    }
    half_sync<kBarPath>();
    const int all = *count;
    for (int first = 0; first < all; first += 64) {
      const int c = first + own;
      const uint64_t mine = c < all ? candidates[c] : 0;
      int over = 0;
#pragma unroll 4
      for (int i = quarter; i < all; i += 4) over += candidates[i] > mine;
      over += __shfl_xor_sync(~0u, over, 1), over += __shfl_xor_sync(~0u, over, 2);
      if (quarter == 0 && mine && over < kFree) keys[over] = mine;
    }
  }
};

template <typename Shared> NSA_DEVICE void best_of_slice(const Half<Shared> &me, int owned) {
  const BestBlocks<Shared> found(me, owned);
  await(me.bar(kInCmp));
  const SliceScale scale(me);
  if (owned <= 128) found.compare(scale);
  else found.reach(scale);
  half_sync<kBarPath>();
}

#endif

}  // namespace nsa::core
