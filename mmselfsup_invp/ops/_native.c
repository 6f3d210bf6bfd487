/* The steps of the CPU search (search.py) that spend its time.

   A few rows of the bank meet a group of queries in the registers, where their products are held
   against the thresholds; only what passes is written, not much more than m numbers a query.
   setup.py compiles this file once for each instruction set, and native.py calls the build that
   fits the processor. No header of Python or PyTorch is needed. The threads are those of OpenMP,
   and so PyTorch's own: threads beside them would wait for processors on which PyTorch's spin. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A vector holds one similarity for each of LANES queries. REGISTERS is how many vectors of sums
   the processor can keep, with room for what is multiplied. */
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
#define REGISTERS 24
#else
#define REGISTERS 12
#endif
typedef float Vector __attribute__((vector_size(16)));
#endif

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 24")
#endif
#define INLINE static inline __attribute__((always_inline))
/* Numbers of the bank that stay in the cache while the groups of queries pass by. */
#define PANEL (1 << 16)
#define MOST_VECTORS 4
#define MOST_ROWS 12

const int64_t lanes = LANES;
#if defined(_OPENMP)
const int64_t threaded = 1;
#else
const int64_t threaded = 0;
#endif
const int64_t most_vectors = REGISTERS / 6;
/* Tells native.py which version of this file was compiled. */
const int64_t source = SOURCE;

typedef struct {
    const float *query;     /* (dim, queries) */
    const float *threshold; /* (queries,) */
    const int64_t *exclude; /* (queries,) or NULL: a row that each must not find */
    const int64_t *own;     /* (queries,) or NULL: a label that each must not find */
    float *value;           /* (queries, width) */
    int32_t *index;         /* (queries, width) */
    int64_t *count;         /* (queries,) */
} Group;

INLINE Vector load(const float *from) {
    Vector vector;
    memcpy(&vector, from, sizeof vector);
    return vector;
}

/* One bit for each query whose threshold is reached; a NaN reaches none. */
INLINE uint64_t reached(Vector sum, Vector threshold) {
#if defined(__AVX512F__)
    return _mm512_cmp_ps_mask(sum, threshold, _CMP_GE_OQ);
#elif defined(__AVX2__)
    return _mm256_movemask_ps(_mm256_cmp_ps(sum, threshold, _CMP_GE_OQ));
#else
    uint64_t bits = 0;
    UNROLL for (int lane = 0; lane < LANES; lane++)
        bits |= (uint64_t)(sum[lane] >= threshold[lane]) << lane;
    return bits;
#endif
}

/* Multiply `rows` rows of the bank with a group of queries and keep what passes. */
INLINE void sift_rows(const int rows, const int vectors, const float *bank, const int64_t *label,
                      int64_t stride, int64_t dim, int64_t first, int64_t width, Group group) {
    Vector sum[MOST_ROWS][MOST_VECTORS];
    UNROLL for (int row = 0; row < rows; row++)
        UNROLL for (int v = 0; v < vectors; v++) sum[row][v] = (Vector){0};
    for (int64_t d = 0; d < dim; d++) {
        const float *query = group.query + d * vectors * LANES;
        UNROLL for (int row = 0; row < rows; row++)
            UNROLL for (int v = 0; v < vectors; v++)
                sum[row][v] += bank[row * stride + d] * load(query + v * LANES);
    }
    UNROLL for (int row = 0; row < rows; row++) {
        float score[MOST_VECTORS * LANES];
        uint64_t passing = 0;
        memcpy(score, sum[row], vectors * sizeof(Vector));
        UNROLL for (int v = 0; v < vectors; v++)
            passing |= reached(sum[row][v], load(group.threshold + v * LANES)) << (v * LANES);
        for (; passing; passing &= passing - 1) {
            const int i = __builtin_ctzll(passing);
            if (group.exclude && group.exclude[i] == first + row) continue;
            if (group.own && group.own[i] == label[first + row]) continue;
            const int64_t place = group.count[i]++;
            if (place >= width) continue;
            group.value[i * width + place] = score[i];
            group.index[i * width + place] = (int32_t)(first + row);
        }
    }
}

INLINE void sift_all(const int vectors, const float *bank, const int64_t *label, int64_t rows,
                     int64_t stride, int64_t dim, int64_t first, int64_t width,
                     int64_t first_group, int64_t last_group, Group all) {
    const int step = REGISTERS / vectors < MOST_ROWS ? REGISTERS / vectors : MOST_ROWS;
    const int64_t queries = vectors * LANES;
    const int64_t panel = PANEL / (dim + 1) / step * step + step;
    for (int64_t start = 0; start < rows; start += panel) {
        const int64_t end = start + panel < rows ? start + panel : rows;
        for (int64_t g = first_group; g < last_group; g++) {
            const int64_t query = g * queries;
            Group group = {all.query + query * dim,
                           all.threshold + query,
                           all.exclude ? all.exclude + query : NULL,
                           all.own ? all.own + query : NULL,
                           all.value + query * width,
                           all.index + query * width,
                           all.count + query};
            int64_t row = start;
            for (; row + step <= end; row += step)
                sift_rows(step, vectors, bank + row * stride, label, stride, dim, first + row,
                          width, group);
            for (; row < end; row++)
                sift_rows(1, vectors, bank + row * stride, label, stride, dim, first + row, width,
                          group);
        }
    }
}

void sift(int64_t threads, int64_t vectors, const float *bank, const int64_t *label, int64_t rows,
          int64_t stride, int64_t dim, int64_t first, int64_t width, int64_t groups,
          const float *query, const float *threshold, const int64_t *exclude, const int64_t *own,
          float *value, int32_t *index, int64_t *count) {
    const Group all = {query, threshold, exclude, own, value, index, count};
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t share = 0; share < threads; share++) {
        const int64_t from = groups * share / threads, to = groups * (share + 1) / threads;
        if (vectors == 4)
            sift_all(4, bank, label, rows, stride, dim, first, width, from, to, all);
        else if (vectors == 2)
            sift_all(2, bank, label, rows, stride, dim, first, width, from, to, all);
        else
            sift_all(1, bank, label, rows, stride, dim, first, width, from, to, all);
    }
}

/* Integers in the order of the floats, which are not NaN; the function is its own inverse. */
INLINE int32_t swap_order(int32_t bits) { return bits ^ ((bits >> 31) & INT32_MAX); }

INLINE int32_t order_of(float value) {
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return swap_order(bits);
}

INLINE float float_at(int32_t order) {
    const int32_t bits = swap_order(order);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static int64_t count_from(const float *value, int64_t count, float low) {
    int32_t found = 0;
    for (int64_t i = 0; i < count; i++) found += value[i] >= low;
    return found;
}

/* Move the m highest of a row to its front.

   Halving the range of the threshold means counting again and again, but counting is what a
   processor does fastest. */
static void select_row(float *value, int32_t *index, int64_t count, int64_t m) {
    int32_t lowest = INT32_MAX, top = INT32_MIN;
    for (int64_t i = 0; i < count; i++) {
        const int32_t order = order_of(value[i]);
        lowest = order < lowest ? order : lowest;
        top = order > top ? order : top;
    }
    /* At least m values reach `from`; `above` of them, at most m, reach `to`. */
    int64_t from = lowest, to = (int64_t)top + 1, above = 0;
    while (to - from > 1 && above < m) {
        const int64_t middle = from + (to - from) / 2;
        const int64_t reach = count_from(value, count, float_at((int32_t)middle));
        if (reach > m) {
            from = middle;
        } else {
            to = middle;
            above = reach;
        }
    }

    const float sure = float_at((int32_t)to), fair = float_at((int32_t)from);
    int64_t spare = m - above;
    for (int64_t i = 0, kept = 0; kept < m && i < count; i++) {
        /* Without branches, which could not be foretold. */
        const float each = value[i];
        const int high = each >= sure, keep = high | ((each >= fair) & (spare > 0));
        value[kept] = each;
        index[kept] = index[i];
        spare -= keep & !high;
        kept += keep;
    }
}

void select_highest(int64_t threads, int64_t rows, int64_t width, const int64_t *m, float *value,
                    int32_t *index, const int64_t *count) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++)
        select_row(value + row * width, index + row * width, count[row], m[row]);
}
