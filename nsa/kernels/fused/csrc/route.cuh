// Routing, by each thread block that attends to selected tokens: the importance of a row's blocks from the chunks'
// sums, then the n best.
#pragma once
#include "choose.cuh"
#include "order.cuh"
#include "messages.cuh"
#include "params.h"

namespace nsa::core {

constexpr uint32_t kForced = 0xffffffffu;

// Equal blocks are equally important, to the bit, wherever chunks end: what follows is rounded in one way.

// Adds a head's sum to another, at the higher of their bases; `up`: how far that of x is above. Each has its weight.
NSA_DEVICE void join(float &sum, float &weight, float x, float of_x, float up) {
  sum = __fmaf_rn(sum, exp2_fast(-fmaxf(up, 0.f)), __fmul_rn(x, exp2_fast(fminf(up, 0.f))));
  weight = up > 0.f ? of_x : weight;
}
// Four heads' sums by their factors; `one` and `two` are (base, factor) of two heads each.
NSA_DEVICE float probabilities(const float4 &sum, const float4 &one, const float4 &two) {
  return __fadd_rn(__fmaf_rn(sum.x, one.y, __fmul_rn(sum.y, one.w)), __fmaf_rn(sum.z, two.y, __fmul_rn(sum.w, two.w)));
}

// How chunks compare: [chunks][16 heads] of (the exponent that the chunk's sums are relative to, their factor to
// probabilities). `scales` holds (maximum, sum) of each chunk before, and is there with a barrier. `heads`: [8
// warps][16].
NSA_DEVICE void chunk_scales(const Params &p, float2 *scales, int chunks, float2 (*heads)[kHeadRows]) {
  const int head = threadIdx.x % kHeadRows, warps = blockDim.x / 32;
  float top = -INFINITY, sum = 0.f;
#pragma unroll 1
  for (int i = threadIdx.x; i < chunks * kHeadRows; i += blockDim.x) top = fmaxf(top, ceilf(scales[i].x));
  top = fmaxf(top, __shfl_xor_sync(~0u, top, 16));
#pragma unroll 1
  for (int i = threadIdx.x; i < chunks * kHeadRows; i += blockDim.x)
    sum = fmaf(scales[i].y, exp2_fast(scales[i].x - top), sum);
  sum += __shfl_xor_sync(~0u, sum, 16);
  if ((threadIdx.x & 31) < kHeadRows) heads[threadIdx.x / 32][head] = make_float2(top, sum);
  __syncthreads();
  top = -INFINITY, sum = 0.f;
#pragma unroll 4
  for (int w = 0; w < warps; ++w) top = fmaxf(top, heads[w][head].x);
#pragma unroll 4
  for (int w = 0; w < warps; ++w) sum = fmaf(heads[w][head].y, exp2_fast(heads[w][head].x - top), sum);
  const float unit = head < p.heads ? 1.f / sum : 0.f;
#pragma unroll 1
  for (int i = threadIdx.x; i < chunks * kHeadRows; i += blockDim.x) {
    const float base = ceilf(scales[i].x);
    scales[i] = make_float2(base, exp2_fast(base - top) * unit);
  }
}

// Keys of the blocks of chunks `c0` to `end`, by two threads each. `sums`: [chunks][entries][16], wherever they lie.
// First of blocks that tokens of one chunk reach, then of a chunk's first ones, which the chunk before reaches into.
NSA_DEVICE void block_keys(const Params &p, const float4 *sums, const float2 *scales, int c0, int end, int chunks,
                           int count, uint32_t *keys) {
  const int entries = p.chunk_blocks + p.spill, half = threadIdx.x % 2 * 2, other = threadIdx.x >> 2 & 1;
  const float4 *scale = reinterpret_cast<const float4 *>(scales);  // of two heads each, 8 a chunk
  const auto store = [&](int block, float value) {                 // non-negative floats order as their bits do
    value += __shfl_xor_sync(~0u, value, 1);
    if (half == 0 && block < count) keys[block] = block == 0 || block >= count - 2 ? kForced : __float_as_uint(value);
  };
  const int by = blockDim.x / 2, mine = threadIdx.x / 2;
  const int last = min(count, end * p.chunk_blocks), first = c0 * p.chunk_blocks;
  const int up = by / p.chunk_blocks, over = by % p.chunk_blocks;
  int at = mine % p.chunk_blocks, c = c0 + mine / p.chunk_blocks;
#pragma unroll 1
  for (int turn = first; turn < last; turn += by) {  // whole warps
    const int block = turn + mine;
    float value = 0.f;
    if (block < last && c < chunks) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {  // four heads at a time, neighbours in another order: they read other banks
        const int q = half + (i ^ other);
        const float4 sum = sums[(c * entries + at) * 4 + q], one = scale[c * 8 + q * 2], two = scale[c * 8 + q * 2 + 1];
        value += probabilities(sum, one, two);
      }
    }
    store(block < last ? block : count, value);
    c += up, at += over;
    if (at >= p.chunk_blocks) at -= p.chunk_blocks, ++c;
  }
  __syncthreads();
  const int edges = (min(end, chunks + 1) - c0) * p.spill;
#pragma unroll 1
  for (int turn = 0; turn < edges; turn += by) {
    const int edge = turn + mine, chunk = c0 + edge / p.spill, inside = edge % p.spill;
    const bool there = edge < edges && chunk > 0;
    float value = 0.f;
    if (there) {
#pragma unroll 1
      for (int i = 0; i < 2; ++i) {
        const int q = half + (i ^ other), place = chunk * 8 + q * 2;
        const float4 x = sums[((chunk - 1) * entries + p.chunk_blocks + inside) * 4 + q];
        const float4 a = scale[place - 8], b = scale[place - 7];
        float4 sum = make_float4(0.f, 0.f, 0.f, 0.f), one = a, two = b;
        if (chunk < chunks) sum = sums[(chunk * entries + inside) * 4 + q], one = scale[place], two = scale[place + 1];
        join(sum.x, one.y, x.x, a.y, a.x - one.x), join(sum.y, one.w, x.y, a.w, a.z - one.z);
        join(sum.z, two.y, x.z, b.y, b.x - two.x), join(sum.w, two.w, x.w, b.w, b.z - two.z);
        value += probabilities(sum, one, two);
      }
    }
    store(there ? chunk * p.chunk_blocks + inside : count, value);
  }
}

NSA_DEVICE void copy_across(void *to, const void *from, int units) {
  const uint32_t at = shared_address(to);
#pragma unroll 2
  for (int i = threadIdx.x; i < units; i += blockDim.x) copy16(at + i * 16, static_cast<const uint4 *>(from) + i, true);
  copy_commit();
}

// Shared memory: sums of a head by warp, chunks' scales, keys, then sums of blocks of as many chunks as have room.
__host__ __device__ constexpr int route_bytes(int chunks, int keys) {
  return 1024 + chunks * 128 + (keys * 4 + 127) / 128 * 128;
}

// index[0 .. n), ascending, -1 where the row has no more. `room`: route_bytes, and `staged` chunks; `far`: for more
// keys than fit there.
NSA_DEVICE void route_row(const Params &p, uint64_t row, int S, int *index, unsigned char *room, int staged,
                          uint32_t *far, ChooseShared &sh) {
  const int count = (S + p.block - 1) / p.block;
  if (count <= p.blocks) {  // every block, whatever its importance
    for (int j = threadIdx.x; j < p.blocks; j += blockDim.x) index[j] = j < count ? j : -1;
    __syncthreads();
    return;
  }
  const int tokens = S < p.l ? 0 : (S - p.l) / p.d + 1, size = p.chunk_blocks * p.cells;
  const int chunks = (tokens + size - 1) / size, entries = p.chunk_blocks + p.spill;
  const uint64_t part = row * (p.chunks + p.win_splits + p.sel_splits);
  auto *heads = reinterpret_cast<float2(*)[kHeadRows]>(room);
  auto *scales = reinterpret_cast<float2 *>(room + 1024);
  auto *near = reinterpret_cast<uint32_t *>(scales + p.chunks * kHeadRows);
  const int blocks = (p.capacity + p.block - 1) / p.block;
  unsigned char *stage = room + route_bytes(p.chunks, blocks <= kSharedKeys ? blocks : 0);
  uint32_t *keys = far != nullptr ? far : near;
  const float4 *sums = reinterpret_cast<const float4 *>(p.sums) + row * p.chunks * entries * 4;
#pragma unroll 1
  for (int c = threadIdx.x; c < chunks; c += blockDim.x) await_stored(p.stored + part + c, kScores);
  __syncthreads();
  copy_across(scales, p.parts_ml + part * kHeadRows, chunks * 8);
  copy_across(stage, sums, min(staged, chunks) * entries * 4);
  copy_wait<1>();
  __syncthreads();
  chunk_scales(p, scales, chunks, heads);
  copy_wait<0>();
  __syncthreads();
  const int all = (count + p.chunk_blocks - 1) / p.chunk_blocks;  // chunks that have blocks, if not tokens
  // All at once where they have room or stay in global memory; else piece by piece, each with the chunk before it.
  const bool pieces = staged >= 2 && staged < chunks;
#pragma unroll 1
  for (int c = 0; c < all;) {
    const int before = pieces ? max(c - 1, 0) : 0, end = pieces ? min(before + staged, all) : all;
    if (c > 0) {
      __syncthreads();
      copy_across(stage, sums + before * entries * 4, max(min(end, chunks) - before, 0) * entries * 4);
      copy_wait<0>();
      __syncthreads();
    }
    const float4 *from =
        staged < 2 && staged < chunks ? sums : reinterpret_cast<const float4 *>(stage) - before * entries * 4;
    block_keys(p, from, scales, c, end, chunks, count, keys);
    c = end;
  }
  __syncthreads();
  choose(keys, count, p.blocks, index, sh);
}

}  // namespace nsa::core
