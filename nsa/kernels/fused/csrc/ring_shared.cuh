// The ring kernel's shared memory: exponentials of a row's compressed scores stay, keys and values pass through.
#pragma once
#include "resident_shared.cuh"

namespace nsa::core {

constexpr int kChunkTokens = 64, kChunkBytes = kChunkTokens * 256;  // of a place of the values' ring

// D: of queries and keys; values have 128. Groups: of 64 compressed tokens, by capacity.
template <int D, int Ranks, int Groups> struct RingShared {
  static constexpr int kD = D, kRanks = Ranks, kTokens = 64 * Groups, kCapacity = Ranks * kTokens * 16;
  static constexpr int kKey = D * 2, kKeyChunk = kChunkTokens * kKey;  // bytes of a key, of a place of the keys' ring
  static constexpr int kShare = (16 + Ranks - 1) / Ranks;  // selected blocks that it attends to, heads that it sums
  // Places of the rings: as many as there is room for.
  static constexpr int kKeys = Groups > 16 || D > 128 ? 3 : 4;
  static constexpr int kValues = Ranks == 6 && Groups <= 11 || Groups <= 8 && D > 128 ? 5 : Groups > 8 ? 4 : 6;
  static constexpr int kWindow = (512 / Ranks + 15) / 16 * 16;  // window tokens
  static constexpr int kWindowPlaces =
      (kWindow * (kKey + 256) + kChunkBytes - 1) / kChunkBytes;          // last ones of the values' ring
  static constexpr int kSelected = kShare * kSelBlock;                   // selected tokens
  static constexpr int kOutputs = Ranks * kShare;                        // heads that arrive, from all thread blocks
  static constexpr int kCandidates = kFree * ((kTokens / 4 + 63) / 64);  // for the best blocks of a slice
  static constexpr bool kTight = false;                                  // as in ResidentShared
  static constexpr bool kBehind =
      kSelected * (kKey + 256) > kKeys *kKeyChunk;  // selected values wait for the values' ring
  static constexpr int p_cmp_row = kTokens * 2 + 16, p_win_row = kWindow * 2 + 16, p_sel_row = kSelected * 2 + 16;
  // Byte offsets. Selected keys take the place of compressed ones; selected values, too, or that of compressed values.
  // Exponentials of selected scores take that of the sums of blocks.
  static constexpr int k_cmp = 0, k_sel = 0, v_cmp = kKeys * kKeyChunk,
                       k_win = v_cmp + (kValues - kWindowPlaces) * kChunkBytes, v_win = k_win + kWindow * kKey,
                       v_sel = kBehind ? v_cmp : kSelected * kKey, q = v_cmp + kValues * kChunkBytes,
                       p_cmp = q + 16 * kKey, staged = p_cmp, p_win = p_cmp + 16 * p_cmp_row,
                       sums = p_win + 16 * p_win_row, p_sel = sums, last = sums + kTokens / 4 * 64,
                       max_a = last + kTokens / 8 * 64, sum_a = max_a + 512, max_b = sum_a + 512, sum_b = max_b + 512,
                       key = sum_b + 512, scale_cmp = key + 128, scale_win = scale_cmp + 64,
                       slice_last = scale_win + 64, weights = slice_last + 64, best = weights + 512,
                       candidates = best + 512, found = candidates + (kCandidates * 8 + 15) / 16 * 16,
                       importance = found + 16, in_cmp = importance + kTokens, in_given = in_cmp + Ranks * 128,
                       in_win = in_given + 64, in_keys = in_win + Ranks * 128, in_side = in_keys + Ranks * kFree * 8,
                       in_sel = in_side + kOutputs * 512, in_sel_ml = in_sel + kOutputs * 512,
                       block = in_sel_ml + (kOutputs * 8 + 15) / 16 * 16, blocks = block + 16, barriers = blocks + 64,
                       bytes = barriers + 64;
  static_assert(kSelected <= kKeys * kChunkTokens && (!kBehind || kSelected <= kValues * kChunkTokens));
};

// plan.py has the greatest of each number of thread blocks.
static_assert(RingShared<128, 16, 8>::bytes == 224752);
static_assert(RingShared<128, 8, 8>::bytes == 222896 && RingShared<128, 8, 16>::bytes == 219520);
static_assert(RingShared<128, 6, 11>::bytes == 219936 && RingShared<128, 6, 22>::bytes == 227600);

static_assert(RingShared<192, 16, 8>::bytes == 218608 && RingShared<192, 8, 16>::bytes == 229760);
static_assert(RingShared<192, 6, 11>::bytes == 230176);

// The last chunks of keys have been read, one after the other: as many as the keys' ring has places.
NSA_DEVICE void hand_over_keys(int step) {
  asm volatile("bar.arrive %0, 512;" ::"r"(kBarValues + 1 + step) : "memory");
}
NSA_DEVICE void take_over_keys(int step) { asm volatile("bar.sync %0, 512;" ::"r"(kBarValues + 1 + step) : "memory"); }

// Two numbers times two powers of two.
template <typename T> NSA_DEVICE uint32_t scaled(uint32_t x, uint32_t by);
template <> NSA_DEVICE uint32_t scaled<__half>(uint32_t x, uint32_t by) {
  asm("mul.rn.f16x2 %0, %0, %1;" : "+r"(x) : "r"(by));
  return x;
}
#if __CUDA_ARCH__ >= 900
template <> NSA_DEVICE uint32_t scaled<__nv_bfloat16>(uint32_t x, uint32_t by) {
  asm("mul.rn.bf16x2 %0, %0, %1;" : "+r"(x) : "r"(by));
  return x;
}
#endif

}  // namespace nsa::core
