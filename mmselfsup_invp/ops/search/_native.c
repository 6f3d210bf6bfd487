/* The inner loops of the CPU search: filter, select, sort.

   A few rows of the bank are multiplied with a group of queries in the registers and compared with
   the thresholds there; only what passes is written, not much more than m numbers a query.
   setup.py compiles this file once for each instruction set, and native.py loads the build that
   fits the processor. No header of Python or PyTorch is needed. The threads are those of OpenMP,
   which are PyTorch's own: further threads would compete with PyTorch's, which spin while idle. */

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
/* The checksum of this file, by which native.py recognises a build of another version. */
const int64_t source = SOURCE;

/* One filter pass; the fields are those of Arguments in native.py. */
typedef struct {
    const float *query;         /* (groups, dim, vectors * LANES) */
    const float *threshold;     /* (groups * vectors * LANES,) */
    const int64_t *exclude;     /* (queries,) or NULL: a row that each must not find */
    const int64_t *query_label; /* (queries,) or NULL: a label that each must not find */
    const int64_t *bank_label;  /* (all rows of the bank,) or NULL */
    float *value;               /* (queries, width) */
    int32_t *index;             /* (queries, width) */
    int64_t *count;             /* (queries,) */
    int64_t width, dim, groups, vectors, threads;
} Filter;

/* Rows of the bank that follow one another; `first` is the number of the first of them. */
typedef struct {
    const float *bank;
    int64_t rows, stride, first;
} Block;

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
INLINE void filter_tile(const int rows, const int vectors, const Filter *filter, int64_t group,
                        const float *bank, int64_t stride, int64_t first) {
    const int64_t queries = vectors * LANES, from = group * queries, dim = filter->dim;
    const float *query = filter->query + from * dim;
    Vector sum[MOST_ROWS][MOST_VECTORS];
    UNROLL for (int row = 0; row < rows; row++)
        UNROLL for (int v = 0; v < vectors; v++) sum[row][v] = (Vector){0};
    for (int64_t d = 0; d < dim; d++, query += queries)
        UNROLL for (int row = 0; row < rows; row++)
            UNROLL for (int v = 0; v < vectors; v++)
                sum[row][v] += bank[row * stride + d] * load(query + v * LANES);
    UNROLL for (int row = 0; row < rows; row++) {
        float score[MOST_VECTORS * LANES];
        uint64_t passing = 0;
        memcpy(score, sum[row], vectors * sizeof(Vector));
        UNROLL for (int v = 0; v < vectors; v++)
            passing |= reached(sum[row][v], load(filter->threshold + from + v * LANES))
                       << (v * LANES);
        for (; passing; passing &= passing - 1) {
            const int lane = __builtin_ctzll(passing);
            const int64_t own = from + lane;
            if (filter->exclude && filter->exclude[own] == first + row) continue;
            if (filter->query_label && filter->query_label[own] == filter->bank_label[first + row])
                continue;
            const int64_t place = filter->count[own]++;
            if (place >= filter->width) continue;
            filter->value[own * filter->width + place] = score[lane];
            filter->index[own * filter->width + place] = (int32_t)(first + row);
        }
    }
}

INLINE void filter_groups(const int vectors, const Filter *filter, const Block *block,
                          int64_t first_group, int64_t last_group) {
    const int step = REGISTERS / vectors < MOST_ROWS ? REGISTERS / vectors : MOST_ROWS;
    const int64_t panel = PANEL / (filter->dim + 1) / step * step + step;
    for (int64_t start = 0; start < block->rows; start += panel) {
        const int64_t end = start + panel < block->rows ? start + panel : block->rows;
        for (int64_t group = first_group; group < last_group; group++) {
            int64_t row = start;
            for (; row + step <= end; row += step)
                filter_tile(step, vectors, filter, group, block->bank + row * block->stride,
                            block->stride, block->first + row);
            for (; row < end; row++)
                filter_tile(1, vectors, filter, group, block->bank + row * block->stride,
                            block->stride, block->first + row);
        }
    }
}

void filter_rows(const Filter *filter, const float *bank, int64_t rows, int64_t stride,
                 int64_t first) {
    const Block block = {bank, rows, stride, first};
#pragma omp parallel for num_threads(filter->threads) schedule(static, 1)
    for (int64_t share = 0; share < filter->threads; share++) {
        const int64_t from = filter->groups * share / filter->threads;
        const int64_t to = filter->groups * (share + 1) / filter->threads;
        if (filter->vectors == 4)
            filter_groups(4, filter, &block, from, to);
        else if (filter->vectors == 2)
            filter_groups(2, filter, &block, from, to);
        else
            filter_groups(1, filter, &block, from, to);
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

   Bisects the threshold: each step counts the whole row, which vector instructions do fast. */
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
        /* Without branches, which would be mispredicted. */
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

/* Digits of the radix sort. */
#define DIGITS 3
#define DIGIT_BITS 11
#define DIGIT_VALUES (1 << DIGIT_BITS)

/* Integers whose ascending order is the descending order of the floats, NaN first. */
INLINE uint32_t descending_key(float value) {
    return value == value ? (uint32_t)(INT32_MAX - (int64_t)order_of(value)) : 0;
}

INLINE float value_of_key(uint32_t key) { return float_at((int32_t)(INT32_MAX - (int64_t)key)); }

/* Radix sort of one row; `entry` and `spare` hold a key and a column for each value. */
static void sort_row(const float *value, const int64_t *index, int64_t width, uint64_t *entry,
                     uint64_t *spare, float *sorted_value, int64_t *sorted_index) {
    int32_t place[DIGITS][DIGIT_VALUES] = {0};
    for (int64_t i = 0; i < width; i++) {
        const uint32_t key = descending_key(value[i]);
        entry[i] = (uint64_t)key << 32 | (uint64_t)i;
        for (int digit = 0; digit < DIGITS; digit++)
            place[digit][key >> digit * DIGIT_BITS & (DIGIT_VALUES - 1)]++;
    }
    for (int digit = 0; digit < DIGITS; digit++) {
        const int shift = 32 + digit * DIGIT_BITS;
        for (int32_t each = 0, total = 0; each < DIGIT_VALUES; each++) {
            const int32_t count = place[digit][each];
            place[digit][each] = total;
            total += count;
        }
        for (int64_t i = 0; i < width; i++)
            spare[place[digit][entry[i] >> shift & (DIGIT_VALUES - 1)]++] = entry[i];
        uint64_t *const done = spare;
        spare = entry;
        entry = done;
    }
    for (int64_t i = 0; i < width; i++) {
        sorted_value[i] = value_of_key((uint32_t)(entry[i] >> 32));
        sorted_index[i] = index[(uint32_t)entry[i]];
    }
}

/* Sort each row in descending order; `scratch` holds 2 * width numbers for each thread. */
void sort_descending(int64_t threads, int64_t rows, int64_t width, const float *value,
                     const int64_t *index, uint64_t *scratch, float *sorted_value,
                     int64_t *sorted_index) {
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t share = 0; share < threads; share++) {
        uint64_t *const own = scratch + 2 * width * share;
        for (int64_t row = rows * share / threads; row < rows * (share + 1) / threads; row++)
            sort_row(value + row * width, index + row * width, width, own, own + width,
                     sorted_value + row * width, sorted_index + row * width);
    }
}
