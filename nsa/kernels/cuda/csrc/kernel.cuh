// Selected-attention decode. A row (sequence, group) is split over the warps of a cluster; each warp streams its
// share of 16-token tiles through a private ring of asynchronous copies, so no barrier stands in the main loop.
#pragma once
#include "combine.cuh"

namespace nsa {

// Shared memory of a thread block: control, inbox (clusters only), then one ring a warp.
// Everything starts on a 128-byte line: a copied line that straddles two costs a tenth of the bandwidth.
struct alignas(128) Control {
  uint64_t barrier;
  alignas(16) Stats stats;
};
__host__ __device__ inline int inbox_bytes(int ctas, int unit_shift) {
  return ctas > 1 ? ((ctas << unit_shift) * kPartBytes + 127) & ~127 : 0;
}
__host__ __device__ inline int stage_bytes(int d, int dv) { return kTileTokens * (d + dv) * 2; }
__host__ __device__ inline int ring_bytes(int stages, int heads, int d, int dv) {
  const int ring = stages * stage_bytes(d, dv), partial = heads * (dv + kOutputPad) * 4;
  return ((ring > partial ? ring : partial) + 127) & ~127;
}

// Which tokens a tile covers; valid <= 0 where it has none.
struct Span {
  int start, valid;
};
// Blocks of a row. Lane i holds slots i and i + 32; those from 64 on are few, and are read where they are used.
struct Selection {
  const int32_t *row;
  int index[2], blocks, length, tiles, shift;

  NSA_DEVICE void load(const Params &p, uint32_t batch, uint32_t group, int lane) {
    row = p.block_indices + (static_cast<uint64_t>(batch) * p.i_b + static_cast<uint64_t>(group) * p.i_g);
    blocks = p.blocks;
    index[0] = load_index(row + lane, lane < blocks);
    index[1] = load_index(row + lane + 32, lane + 32 < blocks);
    length = load_index(p.seq_lens + batch, true);
    shift = p.tile_shift;
  }
  NSA_DEVICE void count(int lane) {
    const unsigned lo = __ballot_sync(~0u, index[0] >= 0), hi = __ballot_sync(~0u, index[1] >= 0);
    int named = hi ? 64 - __clz(hi) : 32 - __clz(lo);
    int last = __shfl_sync(~0u, named > 32 ? index[1] : index[0], (named - 1) & 31);
#pragma unroll 1
    for (int first = kHeld; first < blocks; first += 32) {
      const int more = load_index(row + first + lane, first + lane < blocks);
      const unsigned some = __ballot_sync(~0u, more >= 0);
      if (some == 0) break;
      named = first + 32 - __clz(some);
      last = __shfl_sync(~0u, more, 31 - __clz(some));
    }
    const int left = length - ((last << shift) * kTileTokens);  // tokens from the last block's start on
    tiles = named == 0 ? 0 : ((named - 1) << shift) + min(1 << shift, max(0, left + kTileTokens - 1) / kTileTokens);
  }
  NSA_DEVICE Span span(int tile) const {
    const int slot = tile >> shift;
    int block = __shfl_sync(~0u, slot < 32 ? index[0] : index[1], slot & 31);
    load_index_over(block, row + slot, slot >= kHeld && slot < blocks);
    const int start = ((block << shift) + (tile & ((1 << shift) - 1))) * kTileTokens;
    return {start, block < 0 || slot >= blocks ? 0 : min(kTileTokens, length - start)};
  }

 private:
  static constexpr int kHeld = 64;
};

// Thread blocks a multiprocessor must hold: 3 where the registers allow it (measured: 4 with spills is slower).
__host__ __device__ constexpr int min_blocks(int d, int dv) {
  return d == 0 || d + dv > 256 ? 1 : d + dv > 128 ? 3 : 4;
}

#if __CUDA_ARCH__ >= 900
constexpr bool kClusters = true;
#else
constexpr bool kClusters = false;
#endif

template <typename T, int D, int DV, int Stages, bool Upper>
__global__ void __launch_bounds__(kWarps * 32, min_blocks(D, DV)) select_attention(const __grid_constant__ Params p) {
  extern __shared__ __align__(128) unsigned char shared[];
  const uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const uint32_t rank = blockIdx.x, ctas = gridDim.x, group = blockIdx.y, batch = blockIdx.z;
  const auto at = [&](const void *base, uint32_t b, uint32_t g) {
    return static_cast<const uint4 *>(base) + (static_cast<uint64_t>(batch) * b + static_cast<uint64_t>(group) * g);
  };

  Selection sel;  // loaded first: the addresses of K and V depend on it
  sel.load(p, batch, group, lane);
  const uint4 *k = at(p.k, p.k_b, p.k_g), *v = at(p.v, p.v_b, p.v_g);
  uint2 *o = static_cast<uint2 *>(p.o) + (static_cast<uint64_t>(batch) * p.o_b + static_cast<uint64_t>(group) * p.o_g);
  uint32_t o_h = p.o_h;
  // Read these constants here, while the indices are awaited. The compiler would read them at the end, where a constant
  // that nothing has touched before is fetched behind the copies of other thread blocks.
  asm volatile("" : "+l"(o), "+r"(o_h));
  const uint64_t policy = evict_first_policy();
  Query<D, Upper> q;
  q.load(at(p.q, p.q_b, p.q_g), p.q_h, p.heads, p.dim, lane, policy);

  // While these loads are in flight: set up shared memory, and the barrier that counts the bytes that peers send here.
  const int dim = D ? D : p.dim;
  auto &control = *reinterpret_cast<Control *>(shared);
  const uint32_t units = p.heads * (DV / 4), owned = 1u << p.unit_shift;
  const Inbox inbox{reinterpret_cast<float4 *>(shared + sizeof(Control)),
                    reinterpret_cast<float2 *>(shared + sizeof(Control) + (ctas << p.unit_shift) * 16)};
  const uint32_t mine = units > rank * owned ? min(owned, units - rank * owned) : 0;
#if __CUDA_ARCH__ >= 900
  if (ctas > 1) {
    if (threadIdx.x == 0) barrier_init_expect(shared_address(&control.barrier), mine * ctas * kPartBytes);
    __syncwarp();
    cluster_arrive();
  }
#endif
  const int ring_size = ring_bytes(Stages, p.heads, dim, DV);
  unsigned char *rings = shared + sizeof(Control) + inbox_bytes(kClusters ? ctas : 1, p.unit_shift);
  const uint32_t ring = shared_address(rings) + warp * ring_size;
  const int stage_size = stage_bytes(dim, DV), v_offset = kTileTokens * dim * 2;
  const auto copy_k = [&](uint32_t stage, Span s) {
    copy_tile<false, D / 8>(stage, k + static_cast<int64_t>(s.start) * p.k_s, p.k_s, s.valid, dim / 8, lane, policy);
  };
  const auto copy_v = [&](uint32_t stage, Span s) {
    copy_tile<true, DV / 8>(stage + v_offset, v + static_cast<int64_t>(s.start) * p.v_s, p.v_s, s.valid, DV / 8, lane,
                            policy);
  };

  const int step = ctas * kWarps;
  const int slots = p.blocks << sel.shift;
  int tile = rank * kWarps + warp;
  sel.length = min(sel.length, p.capacity);
  int valid[Stages];  // of the tiles in the ring, oldest first
#pragma unroll
  for (int s = 0; s < Stages; ++s) {
    const Span span = sel.span(tile + s * step);
    valid[s] = span.valid;
    if (tile + s * step < slots) copy_k(ring + s * stage_size, span);
    copy_commit();
    if (tile + s * step < slots) copy_v(ring + s * stage_size, span);
    copy_commit();
  }
  sel.count(lane);
#if __CUDA_ARCH__ >= 900
  if (ctas > 1) cluster_wait();  // every peer has set up its barrier; hidden behind the copies
#endif

  State<DV, Upper> state;
  state.clear();
  uint32_t stage = ring;
  // The place of a tile is refilled as soon as it has been read. Both waits of a step let the copies behind the
  // awaited one go on: 2 groups a stage, less one.
#pragma unroll 1
  for (; tile < sel.tiles; tile += step) {
    const bool more = tile + Stages * step < sel.tiles;
    const Span next = sel.span(tile + Stages * step);
    float s[2][4];
    copy_wait<2 * Stages - 1>();
    __syncwarp();
    scores<T, D, Upper>(s, q, stage, dim, lane);
    __syncwarp();  // every lane has read K
    if (more) copy_k(stage, next);
    copy_commit();
    softmax_step<DV, Upper>(s, state, valid[0], p.scale_log2, lane);
    copy_wait<2 * Stages - 1>();
    __syncwarp();
    weigh_values<T, DV, Upper>(state, s, stage + v_offset, lane);
    __syncwarp();
    if (more) copy_v(stage, next);
    copy_commit();
#pragma unroll
    for (int i = 0; i + 1 < Stages; ++i) valid[i] = valid[i + 1];
    valid[Stages - 1] = next.valid;
    if (Stages > 1) stage = stage + stage_size == ring + Stages * stage_size ? ring : stage + stage_size;
  }
  copy_wait<0>();  // padding may have started copies that no step waited for; partial results take the ring's place now
  __syncwarp();

  const int ring_floats = ring_size / 4;
  float *partials = reinterpret_cast<float *>(rings);
  store_partial<DV, Upper>(partials + warp * ring_floats, control.stats, state, warp, p.heads, p.scale_log2, lane);
  __syncthreads();

  const auto place = [&](uint32_t u) {
    return reinterpret_cast<uint32_t *>(o + static_cast<uint64_t>(u / (DV / 4)) * o_h + u % (DV / 4));
  };
  const auto part = [&](uint32_t u) {
    const uint32_t head = u / (DV / 4), column = u % (DV / 4) * 4;
    return sum_warps(partials, ring_floats, control.stats, head, head * (DV + kOutputPad) + column);
  };
  constexpr uint32_t kThreads = kWarps * 32;
  if (ctas == 1) {
    uint32_t u = threadIdx.x;
#pragma unroll 1
    for (; u + kThreads < units; u += 2 * kThreads) {
      const Part<4> x = part(u), y = part(u + kThreads);
      store_output<T, 4>(place(u), x), store_output<T, 4>(place(u + kThreads), y);
    }
    if (u < units) store_output<T, 4>(place(u), part(u));
  } else {
#if __CUDA_ARCH__ >= 900
    const uint32_t bar = shared_address(&control.barrier);
    const auto send = [&](uint32_t u, const Part<4> &x) {
      const uint32_t slot = rank * owned + (u & (owned - 1)), owner = u >> p.unit_shift;
      const uint32_t peer_bar = peer_address(bar, owner);
      send16(peer_address(shared_address(inbox.o), owner) + slot * 16, make_float4(x.o[0], x.o[1], x.o[2], x.o[3]),
             peer_bar);
      send8(peer_address(shared_address(inbox.ml), owner) + slot * 8, make_float2(x.m, x.l), peer_bar);
    };
    uint32_t u = threadIdx.x;
#pragma unroll 1
    for (; u + kThreads < units; u += 2 * kThreads) {  // two at a time: their loads and sums overlap
      const Part<4> x = part(u), y = part(u + kThreads);
      send(u, x), send(u + kThreads, y);
    }
    if (u < units) send(u, part(u));
    if (mine > 0) {
      barrier_wait_first_phase(bar);
      const auto over_peers = [&](auto peers) {
#pragma unroll 1
        for (uint32_t i = threadIdx.x; i < 2 * mine; i += kThreads)
          store_output<T, 2>(place(rank * owned + i / 2) + i % 2,
                             sum_peers<decltype(peers)::value>(inbox, p.unit_shift, i / 2, i % 2));
      };
      if (ctas == 16) over_peers(Count<16>{});
      else if (ctas == 8) over_peers(Count<8>{});
      else if (ctas == 4) over_peers(Count<4>{});
      else over_peers(Count<2>{});
    }
#else
    const Parts parts(p.scratch, gridDim.y * gridDim.z * ctas * units);
    const uint32_t mine_from = ((batch * gridDim.y + group) * ctas + rank) * units;
#pragma unroll 1
    for (uint32_t u = threadIdx.x; u < units; u += kThreads) parts.store(mine_from + u, part(u));
#endif
  }
}

}  // namespace nsa
