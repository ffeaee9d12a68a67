// A compressed score in powers of two, on a grid.
#pragma once
#include "ptx.cuh"

namespace nsa::core {

// Exponentials of one token are relative to another whole exponent in each slice, tile or chunk. On this grid their
// difference is exact, so that equal tokens have exponentials that differ by a power of two and equal blocks are
// equally important. The steps are 2^-17 for scores below 32, where it moves an exponential by 2.6e-6, and those of
// float32 or finer beyond: exact up to 2^6 below the exponent, and 2^7 for scores below 32.
NSA_DEVICE float scaled_score(float x, float scale) {
  constexpr float kMiddle = 96.f;  // of [64, 128), where float32 has steps of 2^-17
  return fmaf(x, scale, kMiddle) - kMiddle;
}

}  // namespace nsa::core
