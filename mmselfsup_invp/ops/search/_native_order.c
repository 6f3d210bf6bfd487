/* Orders what the CPU search has found: selects the most similar rows, or sorts them.

   Compiled with _native.c, which says how. */

#include <stdint.h>
#include <string.h>

/* Integers in the order of the floats, which are not NaN; the function is its own inverse. */
static inline int32_t swap_order(int32_t bits) { return bits ^ ((bits >> 31) & INT32_MAX); }

static inline int32_t order_of(float value) {
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return swap_order(bits);
}

static inline float float_at(int32_t order) {
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

/* Find a number that at least m values reach; `reaching` of them do, more than m only where values
   are equal.

   Bisects the values: each step counts the whole row, which vector instructions do fast. */
static float find_cut(const float *value, int64_t count, int64_t m, int64_t *reaching) {
    int32_t lowest = INT32_MAX, top = INT32_MIN;
    for (int64_t i = 0; i < count; i++) {
        const int32_t order = order_of(value[i]);
        lowest = order < lowest ? order : lowest;
        top = order > top ? order : top;
    }
    int64_t from = lowest, to = (int64_t)top + 1;
    *reaching = count;
    while (*reaching > m && to - from > 1) {
        const int64_t middle = from + (to - from) / 2;
        const int64_t reach = count_from(value, count, float_at((int32_t)middle));
        if (reach >= m) {
            from = middle;
            *reaching = reach;
        } else {
            to = middle;
        }
    }
    return float_at((int32_t)from);
}

/* Move the m highest of a row to its front. */
static void select_row(float *value, int32_t *index, int64_t count, int64_t m) {
    int64_t reaching, kept = 0, rest = 0;
    const float cut = find_cut(value, count, m, &reaching);
    /* Without branches, which would be mispredicted. */
    for (int64_t i = 0; i < count; i++) {
        const float each = value[i];
        value[kept] = each;
        index[kept] = index[i];
        kept += each >= cut;
    }
    for (int64_t i = 0, spare = kept - m; i < kept && kept > m; i++) {
        const float each = value[i];
        const int drop = each == cut && spare > 0;
        value[rest] = each;
        index[rest] = index[i];
        spare -= drop;
        rest += !drop;
    }
}

/* Select the highest of each row, m[row] of count[row], and copy the first `copied` entries of the
   row: those selected, and others after them if it has fewer. */
void select_highest(int64_t threads, int64_t rows, int64_t width, int64_t copied, const int64_t *m,
                    float *value, int32_t *index, const int64_t *count, float *first_value,
                    int64_t *first_index) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        float *own_value = value + row * width;
        int32_t *own_index = index + row * width;
        select_row(own_value, own_index, count[row], m[row]);
        memcpy(first_value + row * copied, own_value, copied * sizeof(float));
        for (int64_t i = 0; i < copied; i++) first_index[row * copied + i] = own_index[i];
    }
}

/* Write the m-th highest value of each row. */
void ranked_value(int64_t threads, int64_t rows, int64_t width, int64_t m, const float *value,
                  float *ranked) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        int64_t reaching;
        ranked[row] = find_cut(value + row * width, width, m, &reaching);
    }
}

/* Write the highest values of each row, which are few, in descending order, and their columns. */
void highest_few(int64_t threads, int64_t rows, int64_t width, int64_t few, const float *value,
                 float *highest, int64_t *column) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        float *const top = highest + row * few;
        int64_t *const at = column + row * few;
        for (int64_t i = 0; i < width; i++) {
            const float each = value[row * width + i];
            if (i >= few && !(each > top[few - 1])) continue;
            int64_t place = i < few ? i : few - 1;
            for (; place > 0 && each > top[place - 1]; place--) {
                top[place] = top[place - 1];
                at[place] = at[place - 1];
            }
            top[place] = each;
            at[place] = i;
        }
    }
}

/* Digits of the radix sort. */
#define DIGITS 3
#define DIGIT_BITS 11
#define DIGIT_VALUES (1 << DIGIT_BITS)

/* Integers whose ascending order is the descending order of the floats, NaN first. */
static inline uint32_t descending_key(float value) {
    return value == value ? (uint32_t)(INT32_MAX - (int64_t)order_of(value)) : 0;
}

static inline float value_of_key(uint32_t key) {
    return float_at((int32_t)(INT32_MAX - (int64_t)key));
}

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
