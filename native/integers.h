// Registers of 32-bit integers, and the products that processors sum in them.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "vector.h"

namespace nextvlad {

#if defined(__AVX512BW__)
using Ints = __m512i;
inline Ints Broadcast(int32_t x) { return _mm512_set1_epi32(x); }
inline Ints LoadInts(const void* from) { return _mm512_loadu_si512(from); }
inline void StoreInts(void* to, Ints x) { _mm512_storeu_si512(to, x); }
inline Ints AddInts(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
// The sums of two products of 16-bit integers.
inline Ints MultiplyPairs(Ints a, Ints b) { return _mm512_madd_epi16(a, b); }
// The sums, in 16 bits, of two products of an unsigned and a signed byte.
inline Ints MultiplyBytePairs(Ints a, Ints b) { return _mm512_maddubs_epi16(a, b); }
inline Simd ToFloats(Ints x) { return (Simd)_mm512_cvtepi32_ps(x); }
#elif defined(__AVX2__)
using Ints = __m256i;
inline Ints Broadcast(int32_t x) { return _mm256_set1_epi32(x); }
inline Ints LoadInts(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
inline void StoreInts(void* to, Ints x) { _mm256_storeu_si256(static_cast<__m256i*>(to), x); }
inline Ints AddInts(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
inline Ints MultiplyPairs(Ints a, Ints b) { return _mm256_madd_epi16(a, b); }
inline Ints MultiplyBytePairs(Ints a, Ints b) { return _mm256_maddubs_epi16(a, b); }
inline Simd ToFloats(Ints x) { return (Simd)_mm256_cvtepi32_ps(x); }
#else
using Ints = __m128i;
inline Ints Broadcast(int32_t x) { return _mm_set1_epi32(x); }
inline Ints LoadInts(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }
inline void StoreInts(void* to, Ints x) { _mm_storeu_si128(static_cast<__m128i*>(to), x); }
inline Ints AddInts(Ints a, Ints b) { return _mm_add_epi32(a, b); }
inline Ints MultiplyPairs(Ints a, Ints b) { return _mm_madd_epi16(a, b); }
inline Ints MultiplyBytePairs(Ints a, Ints b) { return _mm_maddubs_epi16(a, b); }
inline Simd ToFloats(Ints x) { return (Simd)_mm_cvtepi32_ps(x); }
#endif

// Adds the products of four unsigned and four signed bytes to each sum; in one instruction if kByteInstructions.
#if defined(__AVX512VNNI__)
constexpr bool kByteInstructions = true;
inline Ints AddByteProducts(Ints sums, Ints bytes, Ints weights) { return _mm512_dpbusd_epi32(sums, bytes, weights); }
#elif defined(__AVXVNNI__)
constexpr bool kByteInstructions = true;
inline Ints AddByteProducts(Ints sums, Ints bytes, Ints weights) { return _mm256_dpbusd_avx_epi32(sums, bytes, weights); }
#else
constexpr bool kByteInstructions = false;
#define NEXTVLAD_NO_BYTE_INSTRUCTIONS
// In three instructions. Pairs of products are summed in 16 bits, and saturate.
inline Ints AddByteProducts(Ints sums, Ints bytes, Ints weights) { return AddInts(sums, MultiplyPairs(MultiplyBytePairs(bytes, weights), Broadcast(0x00010001))); }
#endif

// The ratio of the steps of a weight's 8-bit terms (panels.h).
constexpr float kTermRatio = 254.0f;

}  // namespace nextvlad
