// Routing in the streaming kernel: importance of a thread block's selection blocks, and the best of them.
#pragma once
#include "stream_tile.cuh"

namespace nsa::core {

// The `wanted` greatest of `count` distinct keys (0: none), in order, into out; all threads of the block.
template <int Threads> NSA_DEVICE void rank_keys(const uint64_t *keys, int count, int wanted, uint64_t *out) {
  constexpr int kPer = Threads / 64;  // threads a key
  for (int first = 0; first < count; first += 64) {
    const int c = first + static_cast<int>(threadIdx.x) / kPer;
    const uint64_t mine = c < count ? keys[c] : 0;
    int above = 0;
#pragma unroll 4
    for (int i = threadIdx.x % kPer; i < count; i += kPer) above += keys[i] > mine;
#pragma unroll
    for (int step = 1; step < kPer; step *= 2) above += __shfl_xor_sync(~0u, above, step);
    if (threadIdx.x % kPer == 0 && mine && above < wanted) out[above] = mine;
  }
}

// Importance of `count` of the row's blocks: the sums, brought from each tile's exponents to the row's probabilities
// (whole: maximum and 1 / sum of each head; the exponents are whole, so that equal blocks have equal importance). A
// thread takes four heads of a tile's four blocks. 0 where a block is forced, or none; number(i): a block's number.
template <int C, int Threads, int Together, typename Number>
NSA_DEVICE void weigh_blocks(const OfTiles<Together> &of, const float2 *whole, int count, int blocks, Number number) {
  const int inner = blocks - 2;  // blocks from here on are forced
  for (int i = threadIdx.x; i < (count + 31) / 32 * 32; i += Threads) {
    const int tile = i >> 2, h0 = (i & 3) * 4, block = number(tile * 4);
    float value[4] = {};
    if (block < inner) {  // then the tile has all of their tokens
      const short4 m = *reinterpret_cast<const short4 *>(of.exponent + tile / Together * 16 + h0);
      const float e[4] = {static_cast<float>(m.x), static_cast<float>(m.y), static_cast<float>(m.z),
                          static_cast<float>(m.w)};
      float4 y = make_float4(0.f, 0.f, 0.f, 0.f);  // what the token before the tile gives to its first block
      float n[4] = {e[0], e[1], e[2], e[3]}, w[4];
      if (C > 1 && tile % kChunk == 0) {
        if (block > 0) {
          const float2 *x = of.halo + tile / kChunk * 16 + h0;
          y = make_float4(x[0].x, x[1].x, x[2].x, x[3].x);
          n[0] = x[0].y, n[1] = x[1].y, n[2] = x[2].y, n[3] = x[3].y;
        }
      } else if (tile > 0 && tile % Together == 0) {
        const int before = (tile - 1) / Together * 16 + h0;
        y = *reinterpret_cast<const float4 *>(of.last + before);
        const short4 x = *reinterpret_cast<const short4 *>(of.exponent + before);
        n[0] = x.x, n[1] = x.y, n[2] = x.z, n[3] = x.w;
      }
      const auto weigh = [](float4 x, const float (&w)[4]) {  // one order, so that equal sums stay equal
        return fmaf(x.x, w[0], x.y * w[1]) + fmaf(x.z, w[2], x.w * w[3]);
      };
      const auto sums = [&](int k) { return *reinterpret_cast<const float4 *>(of.sums + (tile * 4 + k) * 16 + h0); };
      float first[4], own[4], other[4];  // the first block's weight, and what brings its two sums to one exponent
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const float2 all = whole[h0 + k];
        const float top = fmaxf(e[k], n[k]);
        w[k] = exp2_fast(e[k] - all.x) * all.y, first[k] = exp2_fast(top - all.x) * all.y;
        own[k] = exp2_fast(e[k] - top), other[k] = exp2_fast(n[k] - top);
      }
      const float4 x = sums(0);
      value[0] = weigh(make_float4(x.x * own[0] + y.x * other[0], x.y * own[1] + y.y * other[1],
                                   x.z * own[2] + y.z * other[2], x.w * own[3] + y.w * other[3]),
                       first);
#pragma unroll
      for (int k = 1; k < 4; ++k) value[k] = weigh(sums(k), w);
    }
    const bool odd = i & 1, high = i & 2;  // each of four lanes sums one block over all heads
    const float a = (odd ? value[1] : value[0]) + __shfl_xor_sync(~0u, odd ? value[0] : value[1], 1);
    const float b = (odd ? value[3] : value[2]) + __shfl_xor_sync(~0u, odd ? value[2] : value[3], 1);
    const float sum = (high ? b : a) + __shfl_xor_sync(~0u, high ? a : b, 2);
    const int j = block + (i & 3);
    if (i < count) of.importance[i] = j != 0 && j < inner ? __float_as_uint(sum) + 1 : 0;
  }
}

// Few of many can be among the best: of at most 64 groups, the 13th greatest maximum is a bound from below.
// importance: [count], a multiple of 4. Into keys, which have room for all of them: those that reach the bound, in any
// order; returns how many.
template <int Threads, typename Number>
NSA_DEVICE int reach(const uint32_t *importance, int count, Number number, uint32_t *most, int *found, uint64_t *keys) {
  constexpr int kPer = Threads / 64;
  const int tid = threadIdx.x, quads = (count / 4 + 63) / 64;  // of a group
  if (tid == 0) found[0] = 1, found[1] = 0;
  if (tid < 64) {
    uint32_t top = 0;
    for (int i = 0; i < quads; ++i) {
      const int at = (tid * quads + i) * 4;
      if (at >= count) break;
      const uint4 x = *reinterpret_cast<const uint4 *>(importance + at);
      top = max(max(max(x.x, x.y), max(x.z, x.w)), top);
    }
    most[tid] = top;
  }
  __syncthreads();
  {
    const int group = tid / kPer;
    const uint32_t mine = most[group];
    int above = 0;
#pragma unroll
    for (int i = 0; i < 16 / kPer; ++i) {
      const int at = (tid % kPer * (16 / kPer) + i) * 4;
      const uint4 x = *reinterpret_cast<const uint4 *>(most + at);
      above += (x.x >= mine + (at >= group)) + (x.y >= mine + (at + 1 >= group)) + (x.z >= mine + (at + 2 >= group)) +
               (x.w >= mine + (at + 3 >= group));
    }
#pragma unroll
    for (int step = 1; step < kPer; step *= 2) above += __shfl_xor_sync(~0u, above, step);
    if (tid % kPer == 0 && above == kFree - 1 && mine) found[0] = static_cast<int>(mine);
  }
  __syncthreads();
  const uint32_t bound = static_cast<uint32_t>(found[0]);
  for (int i = tid; i < count; i += Threads) {
    const uint32_t x = importance[i];
    if (x >= bound) keys[atomicAdd(found + 1, 1)] = key_of(x, number(i));
  }
  __syncthreads();
  return found[1];
}

// Keys of the best of `count` blocks, in order; most: [64], found: [2] and keys: [count] are room.
template <int Threads, typename Number>
NSA_DEVICE void best_blocks(const uint32_t *importance, int count, Number number, uint32_t *most, int *found,
                            uint64_t *keys, uint64_t *best) {
  if (count <= 64) {
    if (static_cast<int>(threadIdx.x) < count) keys[threadIdx.x] = key_of(importance[threadIdx.x], number(threadIdx.x));
    __syncthreads();
  } else {
    count = reach<Threads>(importance, count, number, most, found, keys);
  }
  rank_keys<Threads>(keys, count, kFree, best);
}

}  // namespace nsa::core
