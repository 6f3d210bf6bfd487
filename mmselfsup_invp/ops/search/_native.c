/* The passes over a bank on the CPU: the filter of a search, and the sum of chosen rows.

   A few rows of the bank are multiplied with a group of queries in the registers and compared with
   the thresholds there; only what passes is kept, not much more than m numbers a query.
   setup.py compiles this file, _native_order.c and _native_losses.c once for each instruction set,
   and native.py loads the build that fits the processor. No header of Python or PyTorch is needed.
   The threads are those of OpenMP, which are PyTorch's own: further threads would compete with
   PyTorch's, which spin while idle. */

#include "_native_vector.h"

/* Numbers of the bank that stay in the cache while the groups of queries pass by. */
#define PANEL (1 << 16)
/* The same while the chosen rows of a query are summed, which takes no other memory. */
#define SUM_PANEL (1 << 18)
/* Rows whose products are compared with the thresholds before those that pass are kept; each step
   of filter_group divides it. */
#define BATCH 120
#define MOST_VECTORS 4
#define MOST_ROWS 12
#define MOST_QUERIES (MOST_VECTORS * LANES)
/* Entries that are written together; a branch for each would be mispredicted. */
#define WRITTEN 4
/* Numbers that are fetched together. */
#define CACHE_LINE 16
/* How far ahead of the last candidate of a query the memory is fetched. */
#define AHEAD 24

const int64_t lanes = LANES;
#if defined(_OPENMP)
const int64_t threaded = 1;
#else
const int64_t threaded = 0;
#endif
const int64_t most_vectors = MOST_VECTORS;
/* The checksum of the source files, by which native.py recognises a build of another version. */
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

/* One bit for each query whose threshold is reached; a NaN reaches none. */
INLINE uint64_t reached(Vector sum, Vector threshold) {
#if defined(__AVX512F__)
    return _mm512_cmp_ps_mask(sum, threshold, _CMP_GE_OQ);
#elif defined(__AVX2__)
    return _mm256_movemask_ps(_mm256_cmp_ps(sum, threshold, _CMP_GE_OQ));
#else
    const Bits bits = (sum >= threshold) & (Bits){1, 2, 4, 8};
    return (uint64_t)(bits[0] + bits[1] + bits[2] + bits[3]);
#endif
}

/* The products of a batch of rows with a group of queries, and the positions of those in `score`
   that reach their threshold. */
typedef struct {
    float score[BATCH * MOST_QUERIES];
    int16_t position[BATCH * MOST_QUERIES + WRITTEN];
    int64_t count;
} Passing;

/* Multiply `rows` rows of the bank with a group of queries; the first product is at `position`. */
INLINE void filter_tile(const int rows, const int vectors, const float *query,
                        const float *threshold, int64_t dim, const float *bank, int64_t stride,
                        int position, Passing *passing) {
    const int queries = vectors * LANES;
    Vector sum[MOST_ROWS][MOST_VECTORS];
    UNROLL for (int row = 0; row < rows; row++)
        UNROLL for (int v = 0; v < vectors; v++) sum[row][v] = (Vector){0};
    /* The rows of the next tile. */
    for (int64_t d = 0; d < dim; d += CACHE_LINE)
        UNROLL for (int row = rows; row < 2 * rows; row++)
            __builtin_prefetch(bank + row * stride + d);
    for (int64_t d = 0; d < dim; d++, query += queries)
        UNROLL for (int row = 0; row < rows; row++)
            UNROLL for (int v = 0; v < vectors; v++)
                sum[row][v] += bank[row * stride + d] * load(query + v * LANES);
    UNROLL for (int row = 0; row < rows; row++, position += queries) {
        uint64_t bits = 0;
        UNROLL for (int v = 0; v < vectors; v++)
            bits |= reached(sum[row][v], load(threshold + v * LANES)) << (v * LANES);
        memcpy(passing->score + position, sum[row], vectors * sizeof(Vector));
        int16_t *entry = passing->position + passing->count;
        passing->count += __builtin_popcountll(bits);
        for (; bits; entry += WRITTEN)
            UNROLL for (int i = 0; i < WRITTEN; i++, bits &= bits - 1)
                /* The highest bit gives a defined number where none is left. */
                entry[i] = (int16_t)(position + __builtin_ctzll(bits | 1ull << 63));
    }
}

/* Add what has passed to the candidates of its query; `first` is the first row of the batch. */
INLINE void keep(const int queries, const Filter *filter, int64_t group, int64_t first,
                 const Passing *passing) {
    for (int64_t i = 0; i < passing->count; i++) {
        const int position = passing->position[i];
        const int64_t own = group * queries + position % queries, row = first + position / queries;
        if (filter->exclude && filter->exclude[own] == row) continue;
        if (filter->query_label && filter->query_label[own] == filter->bank_label[row]) continue;
        const int64_t place = filter->count[own]++;
        if (place >= filter->width) continue;
        float *const value = filter->value + own * filter->width + place;
        int32_t *const index = filter->index + own * filter->width + place;
        *value = passing->score[position];
        *index = (int32_t)row;
        __builtin_prefetch(value + AHEAD, 1);
        __builtin_prefetch(index + AHEAD, 1);
    }
}

INLINE void filter_group(const int vectors, const Filter *filter, const Block *block, int64_t group,
                         int64_t start, int64_t end) {
    const int step = REGISTERS / vectors < MOST_ROWS ? REGISTERS / vectors : MOST_ROWS;
    const int queries = vectors * LANES;
    const float *query = filter->query + group * queries * filter->dim;
    const float *threshold = filter->threshold + group * queries;
    Passing passing;
    for (int64_t first = start; first < end; first += BATCH) {
        const int rows = end - first < BATCH ? (int)(end - first) : BATCH;
        const float *bank = block->bank + first * block->stride;
        int row = 0;
        passing.count = 0;
        for (; row + step <= rows; row += step)
            filter_tile(step, vectors, query, threshold, filter->dim, bank + row * block->stride,
                        block->stride, row * queries, &passing);
        for (; row < rows; row++)
            filter_tile(1, vectors, query, threshold, filter->dim, bank + row * block->stride,
                        block->stride, row * queries, &passing);
        keep(queries, filter, group, block->first + first, &passing);
    }
}

INLINE void filter_groups(const int vectors, const Filter *filter, const Block *block,
                          int64_t first_group, int64_t last_group) {
    const int64_t panel = (PANEL / (filter->dim + 1) / BATCH + 1) * BATCH;
    for (int64_t start = 0; start < block->rows; start += panel) {
        const int64_t end = start + panel < block->rows ? start + panel : block->rows;
        for (int64_t group = first_group; group < last_group; group++)
            filter_group(vectors, filter, block, group, start, end);
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

/* Chosen rows that are added to a sum in one pass over it. */
#define TOGETHER 8

static void add_rows(const float *bank, int64_t stride, int64_t dim, const float *weight,
                     const int64_t *index, int64_t count, float *restrict sum) {
    for (int64_t i = 0; i < count; i += TOGETHER) {
        const float *row[TOGETHER];
        float factor[TOGETHER];
        UNROLL for (int j = 0; j < TOGETHER; j++) {
            const int inside = i + j < count;
            row[j] = bank + index[inside ? i + j : i] * stride;
            factor[j] = inside ? weight[i + j] : 0;
        }
        for (int64_t d = 0; d < dim; d++) {
            float total = sum[d];
            UNROLL for (int j = 0; j < TOGETHER; j++) total += factor[j] * row[j][d];
            sum[d] = total;
        }
    }
}

/* Sum the chosen rows of each query, each times its weight; `sum` and `done` begin with zeros.

   A panel of the bank stays in the cache while the queries pass by, if the rows of a query ascend.
   The result is the same for any order: what was left out is added with a later panel. Rows that
   the bank does not have are never done. */
void weighted_rows(int64_t threads, int64_t queries, int64_t chosen, int64_t dim, int64_t rows,
                   int64_t stride, const float *bank, const float *weight, const int64_t *index,
                   float *sum, int64_t *done) {
    /* Not so small that a query has no rows in most panels. */
    const int64_t cached = SUM_PANEL / (dim + 1) + 1, least = rows * TOGETHER / (chosen + 1) + 1;
    const int64_t panel = cached > least ? cached : least;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t share = 0; share < threads; share++)
        for (int64_t start = 0; start < rows; start += panel) {
            const uint64_t end = start + panel < rows ? start + panel : rows;
            for (int64_t own = queries * share / threads; own < queries * (share + 1) / threads;
                 own++) {
                const int64_t from = own * chosen + done[own], left = chosen - done[own];
                int64_t count = 0;
                while (count < left && (uint64_t)index[from + count] < end) count++;
                add_rows(bank, stride, dim, weight + from, index + from, count, sum + own * dim);
                done[own] += count;
            }
        }
}
