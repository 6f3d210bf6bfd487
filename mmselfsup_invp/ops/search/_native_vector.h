/* Vectors of the instruction set that a build is compiled for. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A vector holds LANES numbers. REGISTERS is how many vectors of sums the processor can keep, with
   room for what is multiplied. */
#if defined(__AVX512F__)
#include <immintrin.h>
#define LANES 16
#define REGISTERS 24
typedef __m512 Vector;
#elif defined(__AVX2__)
#include <immintrin.h>
#define LANES 8
#define REGISTERS 12
typedef __m256 Vector;
#else
#define LANES 4
#if defined(__aarch64__)
#define REGISTERS 20
#else
#define REGISTERS 12
#endif
typedef float Vector __attribute__((vector_size(16)));
#endif
/* The bits of a vector; a comparison of vectors gives all bits or none of each number. */
typedef int32_t Bits __attribute__((vector_size(4 * LANES)));
typedef uint8_t Bytes __attribute__((vector_size(LANES)));

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 24")
#endif
#define INLINE static inline __attribute__((always_inline))

INLINE Vector load(const float *from) {
    Vector vector;
    memcpy(&vector, from, sizeof vector);
    return vector;
}
