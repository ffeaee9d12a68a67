// A thread block's attention over a list of ascending tokens of one row: every warp streams 16-token tiles through a
// place of its own, then the warps' results are summed in order and stored as one part.
#pragma once
#include "attend.cuh"
#include "messages.cuh"
#include "params.h"
#include "sizes.h"

namespace nsa::core {

constexpr int kPad = 8;        // floats between rows of a warp's output
constexpr int kMostWarps = 8;  // of a thread block: 4 or 8

// A thread block's shared memory: (maximum, sum) of each warp, q, then a place for each warp.
struct PartShared {
  static constexpr int kMl = kHeadRows * kMostWarps * 8;
  float2 (*ml)[kMostWarps];  // [16 heads][warps]: maximum (scaled) and sum
  unsigned char *q;          // fragments: [D / 32][2][32 lanes] of 16 bytes
  unsigned char *rings;
  NSA_DEVICE PartShared(unsigned char *base, int dim)
      : ml(reinterpret_cast<float2 (*)[kMostWarps]>(base)), q(base + kMl), rings(q + dim * kHeadRows * 2) {}
};

__host__ __device__ constexpr int ring_bytes(int dim, int dv) {
  const int tile = kTileTokens * (dim + dv) * 2, output = kHeadRows * (dv + kPad) * 4;
  return ((tile > output ? tile : output) + 127) & ~127;
}
__host__ __device__ constexpr int part_bytes(int dim, int dv, int warps) {
  return PartShared::kMl + dim * kHeadRows * 2 + warps * ring_bytes(dim, dv);
}

NSA_DEVICE float part_maximum(const PartShared &sh, int head) {
  float m = -INFINITY;
#pragma unroll
  for (int w = 0; w < kMostWarps; w += 2) {
    const float4 two = *reinterpret_cast<const float4 *>(&sh.ml[head][w]);
    m = fmaxf(m, fmaxf(two.x, two.z));
  }
  return m;
}

NSA_DEVICE const uint4 *row_of(const void *base, uint32_t b, uint32_t g, int batch, int group) {
  return static_cast<const uint4 *>(base) + (static_cast<uint64_t>(batch) * b + static_cast<uint64_t>(group) * g);
}

// Most of this code runs once a thread block, and what runs for the first time takes about three cycles an instruction:
// hence loops that are not unrolled, and addresses that change by little.

// Asks for q, in the order of the tensor-core fragments (as attend.cuh's Query has it); rows beyond the last head
// repeat it. Whoever reads it waits for the copies of all threads.
NSA_DEVICE void copy_query(const Params &p, int batch, int group, const PartShared &sh) {
  const uint4 *q = row_of(p.q, p.q_b, p.q_g, batch, group);
  const uint32_t to = shared_address(sh.q);
#pragma unroll 1
  for (int i = threadIdx.x; i < p.dim * 2; i += blockDim.x) {
    const int lane = i & 31, head = min((lane >> 2) + 8 * (i >> 5 & 1), p.heads - 1);
    copy16(to + i * 16, q + static_cast<uint64_t>(head) * p.q_h + (i >> 6) * 4 + (lane & 3), true);
  }
}

// A lane's way through a tile of 16 rows: it copies 16 bytes of every 64 of rows lane / 4 and lane / 4 + 8, to where
// swizzle_k or swizzle_v has them. Both exchange neighbouring 64 bytes (`flip`), or 16 bytes within.
struct Copier {
  const uint4 *from;  // the row's first token
  uint32_t stride, to, flip;
  int steps;  // 64 bytes each

  template <bool IsV> NSA_DEVICE void begin(const uint4 *row, uint32_t token_stride, uint32_t tile, int width,
                                            int lane) {
    const int r = lane >> 2, c = lane & 3;
    const bool wide = width % 64 == 0;
    from = row + c, stride = token_stride, steps = width / 32;
    flip = !wide ? 0 : IsV ? r >> 2 : r & 1;
    to = tile + r * width * 2 + (!IsV ? c : wide ? c ^ (r & 3) : c ^ ((r >> 1) & 3)) * 16;
  }
  NSA_DEVICE void copy(const int (&token)[2], int valid, int lane) const {
    const bool one = (lane >> 2) < valid, two = (lane >> 2) + 8 < valid;
    const uint4 *a = from + static_cast<uint64_t>(one ? token[0] : 0) * stride;
    const uint4 *b = from + static_cast<uint64_t>(two ? token[1] : 0) * stride;
#pragma unroll 1
    for (int i = 0; i < steps; ++i, a += 4, b += 4) {
      const uint32_t at = to + ((i ^ flip) << 6);
      copy16(at, a, one), copy16(at + steps * 512, b, two);
    }
  }
};

// s[i]: heads g, g + 8 x tokens 8i + 2t, 8i + 2t + 1.
template <typename T> NSA_DEVICE void tile_scores(float (&s)[2][4], uint32_t q, uint32_t k_tile, int dim, int lane) {
  const int g = lane >> 2, flip = dim % 64 == 0 ? g & 1 : 0;
  const uint32_t k_row = k_tile + g * dim * 2 + (lane & 3) * 16;
  float odd[2][4];
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int e = 0; e < 4; ++e) s[i][e] = odd[i][e] = 0.f;
  q += lane * 16;
#pragma unroll 2
  for (int j = 0; j < dim / 32; ++j, q += 1024) {
    const uint32_t at = k_row + ((j ^ flip) << 6);
    const uint4 a = load_shared16(q), b = load_shared16(q + 512);
    const uint4 k0 = load_shared16(at), k1 = load_shared16(at + dim * 16);
    Element<T>::mma(s[0], a.x, b.x, a.y, b.y, k0.x, k0.y);
    Element<T>::mma(s[1], a.x, b.x, a.y, b.y, k1.x, k1.y);
    Element<T>::mma(odd[0], a.z, b.z, a.w, b.w, k0.z, k0.w);  // into sums of their own: no wait for the ones above
    Element<T>::mma(odd[1], a.z, b.z, a.w, b.w, k1.z, k1.w);
  }
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int e = 0; e < 4; ++e) s[i][e] += odd[i][e];
}

// Attention over token(i), i < count, ascending. Keys of a warp's first tile are asked for before length() says the
// count, where they are among the `early` first ones; beyond the count they may hold anything. q has been asked for
// before. `asked` is called where the first copies are on their way, whatever the count; with no token that is all, and
// the result is false. `scores`, if given, receives raw scores [count, 16 heads]; `scored`, called by all threads
// behind a barrier, finds them and sh.ml there. Values of a warp's last tile are weighed after it; `late`: and asked
// for after it where that is the only one, so that keys which somebody waits for come first. A warp without a tile runs
// the loop once on nothing while the others wait for keys: then its instructions are there.
template <typename T, int DV, typename Length, typename Token, typename Asked, typename Scored>
NSA_DEVICE bool attend_part(const Params &p, const Cache &k, const Cache &v, int batch, int group, int early, bool late,
                            Length length, Token token, const PartShared &sh, float *scores, uint64_t part, Asked asked,
                            Scored scored) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  const int turn = blockDim.x / 32 * kTileTokens, ring_size = ring_bytes(p.dim, DV);
  const uint32_t ring = shared_address(sh.rings) + warp * ring_size, v_tile = ring + kTileTokens * p.dim * 2;
  Copier keys, values;
  keys.begin<false>(row_of(k.base, k.b, k.g, batch, group), k.s, ring, p.dim, lane);
  values.begin<true>(row_of(v.base, v.b, v.g, batch, group), v.s, v_tile, DV, lane);
  int tile = warp * kTileTokens, rows[2];
  if (tile < early) {
    token(tile + g, rows);
    keys.copy(rows, early - tile, lane);
  }
  const int count = length();
  if (tile < count) {
    token(tile + g, rows);
    if (early <= 0) keys.copy(rows, count - tile, lane);
  }
  copy_commit();
  late = late && count <= turn;
  if (tile < count && !late) values.copy(rows, count - tile, lane);
  copy_commit();
  asked();
  if (count <= 0) {
    copy_wait<0>();
    return false;
  }
  if (blockDim.x < kMostWarps * 32 && threadIdx.x < kHeadRows * 4)  // warps that are not there
    sh.ml[threadIdx.x / 4][4 + threadIdx.x % 4] = make_float2(-INFINITY, 0.f);
  State<DV, true> state;
  state.clear();
  bool nothing = tile >= count, first = true, last;
#pragma unroll 1
  do {
    const int next = tile + turn;
    last = next >= count && !nothing;
    float s[2][4];
    if (!nothing) {
      copy_wait<1>();
      if (first) __syncthreads();  // q is there
      else __syncwarp();
    }
    if (tile < count || nothing) {
      tile_scores<T>(s, shared_address(sh.q), ring, p.dim, lane);
      __syncwarp();
      if (next < count) {
        token(next + g, rows);
        keys.copy(rows, count - next, lane);
      }
      copy_commit();
      if (scores != nullptr) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int at = tile + (i >> 1) * 8 + t * 2 + (i & 1);
          if (at < count)
            scores[at * kHeadRows + g] = s[i >> 1][i & 1], scores[at * kHeadRows + g + 8] = s[i >> 1][2 + (i & 1)];
        }
      }
      float keep[2];
      softmax_weights(s, state, count - tile, p.scale_log2, lane, keep);
      if (!first) rescale(state, keep);  // else there is nothing
    }
    if (last) {
      quad_sum(state.l);
      if (t == 0) {
        sh.ml[g][warp] = make_float2(state.m[0] * p.scale_log2, state.l[0]);
        sh.ml[g + 8][warp] = make_float2(state.m[1] * p.scale_log2, state.l[1]);
      }
      __syncthreads();
      scored();
      if (late) {
        if (tile < count) values.copy(rows, count - tile, lane);
        copy_commit();
      }
      // Relative to the part's maximum, which is finite: there is a token.
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float f = exp2_fast(state.m[r] * p.scale_log2 - part_maximum(sh, g + 8 * r));
        s[0][2 * r] *= f, s[0][2 * r + 1] *= f, s[1][2 * r] *= f, s[1][2 * r + 1] *= f;
        if (!first)
#pragma unroll
          for (int i = 0; i < DV / 8; ++i) state.o[i][2 * r] *= f, state.o[i][2 * r + 1] *= f;
      }
    }
    if (tile < count || nothing) {
      if (late) copy_wait<0>();
      else if (!nothing) copy_wait<1>();
      __syncwarp();
      weigh_values<T, DV, true>(state, s, v_tile, lane);
      __syncwarp();
      if (next < count) values.copy(rows, count - next, lane);
      copy_commit();
    }
    if (!nothing) tile = next, first = false;
    nothing = false;
  } while (!last);
  const int active = min((count + kTileTokens - 1) / kTileTokens, static_cast<int>(blockDim.x / 32));
  if (warp < active) {
    float *mine = reinterpret_cast<float *>(sh.rings + warp * ring_size) + g * (DV + kPad) + t * 2;
#pragma unroll
    for (int r = 0; r < 2; ++r, mine += 8 * (DV + kPad))
#pragma unroll
      for (int i = 0; i < DV / 8; ++i)
        *reinterpret_cast<float2 *>(mine + i * 8) = make_float2(state.o[i][2 * r], state.o[i][2 * r + 1]);
  }
  __syncthreads();
#pragma unroll 1
  for (int i = threadIdx.x; i < p.heads * (DV / 4); i += blockDim.x) {
    const unsigned char *from = sh.rings + (i / (DV / 4) * (DV + kPad) + i % (DV / 4) * 4) * 4;
    float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll 1
    for (int w = 0; w < active; ++w, from += ring_size) {
      const float4 o = *reinterpret_cast<const float4 *>(from);
      sum.x += o.x, sum.y += o.y, sum.z += o.z, sum.w += o.w;
    }
    reinterpret_cast<float4 *>(p.parts_o)[part * p.heads * (DV / 4) + i] = sum;
  }
  return true;
}

// By all threads, where sh.ml is there: the part's (maximum, sum), by the last warp, which has the least to do.
NSA_DEVICE void store_sums(const Params &p, const PartShared &sh, uint64_t part) {
  const int head = threadIdx.x - (blockDim.x - 32);
  if (head >= 0 && head < kHeadRows) {
    const float m = part_maximum(sh, head);
    float l = 0.f;
#pragma unroll
    for (int w = 0; w < kMostWarps; ++w) l = fmaf(exp2_fast(sh.ml[head][w].x - m), sh.ml[head][w].y, l);
    p.parts_ml[part * kHeadRows + head] = make_float2(m, l);
  }
}

}  // namespace nsa::core
