/* Similarities with chosen rows, and their exponentials, for the losses.

   Compiled with _native.c, which says how. */

#include <float.h>
#include <math.h>

#include "_native_vector.h"

/* One of two numbers in each place. */
INLINE Vector choose(Bits where, Vector one, Vector other) {
    return (Vector)((where & (Bits)one) | (~where & (Bits)other));
}

/* exp(x) for x <= 0, or NaN; 0 below -87, where the result is hardly a normal number. As expf of
   Cephes: the series of exp(x - n ln(2)), times 2^n. */
INLINE Vector exponential(Vector x) {
    /* A number of this size has no fraction, and the integer is in its low bits. */
    const float rounding = 0x1.8p23f;
    const Vector rounded = x * 0x1.715476p0f + rounding, n = rounded - rounding;
    const Vector r = (x - n * 0x1.63p-1f) + n * 0x1.bd0106p-13f;
    Vector series = r * 1.9875691500e-4f + 1.3981999507e-3f;
    series = series * r + 8.3334519073e-3f;
    series = series * r + 4.1665795894e-2f;
    series = series * r + 1.6666665459e-1f;
    series = series * r + 5.0000001201e-1f;
    series = series * r * r + r + 1;
    const Vector power = (Vector)(((Bits)rounded << 23) + (127 << 23));
    return choose((Bits)(x < -87.0f), (Vector){0}, series * power);
}

/* Load LANES numbers, or as many as are left; the others are `rest`. */
INLINE Vector load_left(const float *from, int64_t left, float rest) {
    Vector vector = (Vector){0} + rest;
    if (left >= LANES) return load(from);
    memcpy(&vector, from, left * sizeof(float));
    return vector;
}

INLINE void store_left(Vector vector, float *to, int64_t left) {
    if (left >= LANES)
        memcpy(to, &vector, sizeof vector);
    else
        memcpy(to, &vector, left * sizeof(float));
}

/* Write the values, -inf where they are masked, and return the highest, at least -FLT_MAX. */
INLINE float mask_row(int64_t width, const float *value, const uint8_t *masked, float *out) {
    float top = -FLT_MAX;
    Vector highest = (Vector){0} + top;
    for (int64_t i = 0; i < width; i += LANES) {
        Vector each = load_left(value + i, width - i, -INFINITY);
        Bytes hide = {0};
        if (masked) memcpy(&hide, masked + i, width - i < LANES ? width - i : LANES);
        each = choose(__builtin_convertvector(hide, Bits) != 0, (Vector){0} - INFINITY, each);
        highest = choose(each > highest, each, highest);
        store_left(each, out + i, width - i);
    }
    for (int lane = 0; lane < LANES; lane++) top = highest[lane] > top ? highest[lane] : top;
    return top;
}

/* Replace the values by exp((value - highest) / temperature) and return their sum. */
INLINE float exponentiate_row(int64_t width, float highest, float temperature, float *value) {
    Vector sums = {0};
    float sum = 0;
    for (int64_t i = 0; i < width; i += LANES) {
        const Vector each = load_left(value + i, width - i, -INFINITY);
        const Vector exps = exponential((each - highest) / temperature);
        store_left(exps, value + i, width - i);
        sums += exps;
    }
    for (int lane = 0; lane < LANES; lane++) sum += sums[lane];
    return sum;
}

/* Write exp((value - highest) / temperature), 0 where it is masked, and for each row their sum and
   the highest value that is not masked; -FLT_MAX if all are. `masked` may be NULL. */
void masked_exponentials(int64_t threads, int64_t rows, int64_t width, float temperature,
                         const float *value, const uint8_t *masked, float *exps, float *highest,
                         float *total) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const int64_t from = row * width;
        highest[row] = mask_row(width, value + from, masked ? masked + from : NULL, exps + from);
        total[row] = exponentiate_row(width, highest[row], temperature, exps + from);
    }
}

INLINE float product(int64_t dim, const float *one, const float *other) {
    Vector sums = {0};
    float sum = 0;
    for (int64_t d = 0; d < dim; d += LANES)
        sums += load_left(one + d, dim - d, 0) * load_left(other + d, dim - d, 0);
    for (int lane = 0; lane < LANES; lane++) sum += sums[lane];
    return sum;
}

/* Multiply each query with its chosen rows of the bank; `outside` becomes 1 if the bank does not
   have one of them. */
void gathered_products(int64_t threads, int64_t queries, int64_t chosen, int64_t dim, int64_t rows,
                       int64_t stride, const float *query, const float *bank, const int64_t *index,
                       float *out, int64_t *outside) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t own = 0; own < queries; own++)
        for (int64_t i = own * chosen; i < (own + 1) * chosen; i++)
            if ((uint64_t)index[i] < (uint64_t)rows) {
                out[i] = product(dim, query + own * dim, bank + index[i] * stride);
            } else {
#pragma omp atomic write
                *outside = 1;
            }
}
