// The resident kernel's shared memory, and what both halves of its warps use.
#pragma once
#include "row.cuh"
#include "score.cuh"

namespace nsa::core {

constexpr int kResidentThreads = 512, kHalf = 256;

// D: of queries and keys; values have 128. Groups: of 64 compressed tokens, by capacity.
template <int D, int Ranks, int Groups> struct ResidentShared {
  static constexpr int kD = D, kRanks = Ranks, kGroups = Groups;
  static constexpr int kKey = D * 2;                       // bytes of a key
  static constexpr int kShare = (16 + Ranks - 1) / Ranks;  // selected blocks that it attends to, heads that it sums
  // Compressed tokens, at most. Those that 16 thread blocks need not hold keep two of them from one multiprocessor.
  static constexpr int kTokens = Ranks == 16                 ? D > 128 && Groups < 4 ? 128 : 256
                                 : Ranks == 6 && Groups == 4 ? 192
                                                             : 64 * Groups;
  static constexpr int kCapacity = Ranks * kTokens * 16;        // tokens
  static constexpr int kWindow = (512 / Ranks + 15) / 16 * 16;  // window tokens
  static constexpr int kSelected = kShare * kSelBlock;          // selected tokens
  static constexpr int kOutputs = Ranks * kShare;               // heads that arrive, from all thread blocks
  // Bytes between rows of probabilities: eight rows of one column in eight banks.
  static constexpr int p_cmp_row = kTokens * 2 + 16, p_win_row = kWindow * 2 + 16, p_sel_row = kSelected * 2 + 16;
  // What a thread block tells of its blocks: the importance of all 16 of them, or the keys of the best.
  static constexpr bool kAll = Groups == 1;
  static constexpr int kKeyBytes = kAll ? 64 : kFree * 8;
  // Where the memory has no room beside them, selected values take the place of the window's keys, and the selected
  // branch's share of the outputs, which comes when every thread block has its scores, that of compressed keys.
  static constexpr bool kTight = Groups == 4 && (Ranks < 16 || D > 128) || Ranks == 6 && D > 128, kBehind = false;
  static constexpr bool kOver = Ranks == 16 && Groups == 4 && D > 128;
  // Byte offsets. Selected keys take the place of compressed ones.
  static constexpr int k_cmp = 0, k_sel = 0, v_cmp = (kTokens > kSelected ? kTokens : kSelected) * kKey,
                       v_win = v_cmp + kTokens * 256, k_win = v_win + kWindow * 256,
                       v_sel = k_win + (kTight ? 0 : kWindow * kKey),
                       q = v_sel + (kTight && kWindow * kKey > kSelected * 256 ? kWindow * kKey : kSelected * 256),
                       p_cmp = q + 16 * kKey, p_win = p_cmp + 16 * p_cmp_row, p_sel = p_win + 16 * p_win_row,
                       sums = p_sel + 16 * p_sel_row, last = sums + kTokens / 4 * 64, max_a = last + kTokens / 8 * 64,
                       sum_a = max_a + 512, max_b = sum_a + 512, sum_b = max_b + 512, key = sum_b + 512,
                       scale_cmp = key + 128, scale_win = scale_cmp + 64, slice_last = scale_win + 64,
                       importance = slice_last + 64, in_cmp = importance + 256, in_given = in_cmp + Ranks * 128,
                       in_win = in_given + 64, in_keys = in_win + Ranks * 128, in_side = in_keys + Ranks * kFree * 8,
                       in_sel = kOver ? kSelected * kKey : in_side + kOutputs * 512,
                       in_sel_ml = in_side + (kOver ? 1 : 2) * kOutputs * 512,
                       block = in_sel_ml + (kOutputs * 8 + 15) / 16 * 16, blocks = block + 16, barriers = blocks + 64,
                       bytes = barriers + 64;
  static constexpr int staged =
      v_win;  // rows of the window's and the compressed branch's output, when its values have been read
};

// plan.py has the greatest of each number of thread blocks.
static_assert(ResidentShared<128, 16, 4>::bytes == 211216 && ResidentShared<128, 8, 4>::bytes == 227792);
static_assert(ResidentShared<128, 6, 2>::bytes == 225040 && ResidentShared<128, 6, 4>::bytes == 220432);
static_assert(ResidentShared<192, 16, 4>::bytes == 229648 && ResidentShared<192, 8, 2>::bytes == 198096);
static_assert(ResidentShared<192, 6, 2>::bytes == 227088);

// Scores of 16 heads x 8 tokens: rows g and g + 8, tokens 2t and 2t + 1; scaled.
template <typename T, int Steps> NSA_DEVICE void score8(float (&s)[4], const uint32_t (&q)[Steps][4], uint32_t keys,
                                                        float scale, int lane) {
  float a[4] = {0, 0, 0, 0}, b[4] = {0, 0, 0, 0};
#pragma unroll
  for (int k = 0; k < Steps / 2; ++k) {
    uint32_t f[4];
    load_matrix(f, keys + place<16 * Steps>(lane & 7, 4 * k + (lane >> 3)));
    multiply<T>(a, q[2 * k], f[0], f[1]), multiply<T>(b, q[2 * k + 1], f[2], f[3]);
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) s[i] = scaled_score(a[i] + b[i], scale);
}

// Where a warp's number lies among those of a head: eight heads' halves of 16 bytes are in all banks.
NSA_DEVICE int of_warp(int head, int warp) { return head * 8 + (warp ^ (head & 4)); }
NSA_DEVICE float max8(const float *p) {
  const float4 a = *reinterpret_cast<const float4 *>(p), b = *reinterpret_cast<const float4 *>(p + 4);
  return fmaxf(fmaxf(fmaxf(a.x, a.y), fmaxf(a.z, a.w)), fmaxf(fmaxf(b.x, b.y), fmaxf(b.z, b.w)));
}
NSA_DEVICE float sum8(const float *p) {
  const float4 a = *reinterpret_cast<const float4 *>(p), b = *reinterpret_cast<const float4 *>(p + 4);
  return ((a.x + a.y) + (a.z + a.w)) + ((b.x + b.y) + (b.z + b.w));
}
NSA_DEVICE float finite(float m) { return m == -INFINITY ? 0.f : m; }

// Message barriers, in the order of their waits. kInEarly: the window's and the compressed branch's shares, and the
// selected one's (maximum, sum); kInOut: its shares.
constexpr int kInCmp = 0, kInWin = 1, kInKeys = 2, kInBlock = 3, kInEarly = 4, kInOut = 5, kInBlocks = 6;

// A thread of one half of the warps: its place, and what it copies.
template <typename Shared> struct Half {
  const Params &p;
  const Row &row;
  unsigned char *shared;
  uint32_t base;
  int tid, warp, lane, rank;

  // 256 threads copy `rows` rows of W elements from a token on, those from `valid` on as zeros. Rows advance by a
  // turn's, so that a thread's place in a row does not change.
  template <int W> NSA_DEVICE void load(int offset, const Cache &cache, int token, int rows, int valid) const {
    constexpr int kLanes = W % 128 ? 8 : 16, kRows = kHalf / kLanes;  // of a row, of a turn
    const int r0 = tid / kLanes, c0 = tid % kLanes;
    const uint4 *from = row.at(cache, valid > 0 ? token : 0) + static_cast<uint64_t>(r0) * cache.s + c0;
    const uint64_t step = static_cast<uint64_t>(kRows) * cache.s;
    const uint32_t to = base + place<W>(r0, c0) + offset;
#pragma unroll 4
    for (int r = 0; r < rows; r += kRows, from += step) {
      if (kRows > 16 && r + r0 >= rows) break;
#pragma unroll
      for (int j = 0; j < W / 8 / kLanes; ++j)
        copy16(to + r * W * 2 + j * kLanes * 16, from + j * kLanes, r + r0 < valid);
    }
  }
  // The same of at most 64 rows, without a loop: what comes first has the fewest instructions before it.
  template <int W> NSA_DEVICE void load_group(int offset, const Cache &cache, int token, int rows, int valid) const {
    constexpr int kLanes = W % 128 ? 8 : 16, kRows = kHalf / kLanes;
    const int r0 = tid / kLanes, c0 = tid % kLanes;
    const uint4 *from = row.at(cache, valid > 0 ? token : 0) + static_cast<uint64_t>(r0) * cache.s + c0;
    const uint64_t step = static_cast<uint64_t>(kRows) * cache.s;
    const uint32_t to = base + place<W>(r0, c0) + offset;
#pragma unroll
    for (int r = 0; r < 64; r += kRows, from += step)
      if (r + (kRows > 16 ? r0 : 0) < rows)
#pragma unroll
        for (int j = 0; j < W / 8 / kLanes; ++j)
          copy16(to + r * W * 2 + j * kLanes * 16, from + j * kLanes, r + r0 < valid);
  }
  NSA_DEVICE void load_q(int offset) const { copy_q<Shared::kD, kHalf>(p, row, base + offset, tid); }
  NSA_DEVICE void read_q(uint32_t (&q)[Shared::kD / 16][4], int offset) const {
#pragma unroll
    for (int k = 0; k < Shared::kD / 16; ++k)
      load_matrix(q[k], base + offset + place<Shared::kD>(lane & 15, 2 * k + (lane >> 4)));
  }
  // By one thread: message barriers, and what will arrive at each.
  template <int Parts> NSA_DEVICE void expect_all(int heads, int key_bytes) const {
#if __CUDA_ARCH__ >= 900
    constexpr int Ranks = Shared::kRanks, sel = Parts & kSel ? 1 : 0, side = Parts & (kCmp | kWin) ? 1 : 0;
    expect(bar(kInCmp), Ranks * 16 * 8 + (rank > 0 ? 16 * 4 : 0)), expect(bar(kInWin), Ranks * 16 * 8);
    expect(bar(kInKeys), Ranks * key_bytes), expect(bar(kInBlock), free_slots() * 4);
    expect(bar(kInEarly), Ranks * heads * (side * 512 + sel * 8)), expect(bar(kInOut), Ranks * heads * sel * 512);
    expect(bar(kInBlocks), 16 * 4);
    publish();
#endif
  }
  // Of the chosen blocks those that are not forced ones (slots 0 to 12) and that this thread block attends to.
  NSA_DEVICE int free_slots() const { return (kFree - rank + Shared::kRanks - 1) / Shared::kRanks; }
  NSA_DEVICE float *floats(int offset) const { return reinterpret_cast<float *>(shared + offset); }
  NSA_DEVICE uint32_t bar(int i) const { return base + Shared::barriers + 8 * i; }
};

// Which compressed tokens a thread block holds.
struct Slice {
  int first, padded, valid;  // padded: to whole 16-token tiles
};

// Barriers of half of the thread block, and between the halves.
template <int Id> NSA_DEVICE void half_sync() { asm volatile("bar.sync %0, 256;" ::"n"(Id) : "memory"); }
template <int Id> NSA_DEVICE void hand_over() { asm volatile("bar.arrive %0, 512;" ::"n"(Id) : "memory"); }
template <int Id> NSA_DEVICE void take_over() { asm volatile("bar.sync %0, 512;" ::"n"(Id) : "memory"); }
constexpr int kBarPath = 1, kBarSide = 2, kBarProbabilities = 3, kBarKeys = 4, kBarValues = 5;

// One head's (maximum, sum) of all thread blocks, four lanes a head: M, and 1 / L or 0 where there is no token.
template <int Ranks, int Stride> NSA_DEVICE float2 of_row(const unsigned char *in, int tid, int heads) {
  constexpr int kEach = (Ranks + 3) / 4;
  const int h = tid >> 2, first = (tid & 3) * kEach;
  float m[kEach], l[kEach], top = -INFINITY, sum = 0.f;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    m[i] = -INFINITY, l[i] = 0.f;
    if (first + i < Ranks) {
      const float2 v = *reinterpret_cast<const float2 *>(in + ((first + i) * 16 + h) * Stride);
      m[i] = v.x, l[i] = v.y, top = fmaxf(top, v.x);
    }
  }
  top = finite(quad_max1(top));
#pragma unroll
  for (int i = 0; i < kEach; ++i) sum += l[i] * exp2_fast(m[i] - top);
  sum = quad_sum1(sum);
  return make_float2(top, h < heads && sum > 0.f ? __fdividef(1.f, sum) : 0.f);
}
// 2^(m - M) / L
NSA_DEVICE float factor(float m, const float2 &row) { return row.y > 0.f ? exp2_fast(m - row.x) * row.y : 0.f; }
template <int Ranks, int Stride> NSA_DEVICE float factor(const unsigned char *in, int tid, int rank, int heads) {
  return factor(*reinterpret_cast<const float *>(in + (rank * 16 + (tid >> 2)) * Stride),
                of_row<Ranks, Stride>(in, tid, heads));
}

}  // namespace nsa::core
