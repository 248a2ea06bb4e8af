/* The fused passes on the CPU. Memory is read and written once; sums are kept in double precision.

   Tensors come as arrays of addresses, one for each parameter, and are cut into chunks of CHUNK
   elements. Each thread does the chunks that begin in its part of all elements, and leaves their
   sums at their places: what the numbers add up to does not depend on how many threads there were.

   Built without Python's headers and loaded by ctypes (dog/kernels/compiled.py). */

#include <stdint.h>
#include <string.h>

#define VERSION 1 /* of what is exported, and of the structs: raised when they change */
#define CHUNK 65536 /* elements that a thread does at once */
#define PIECE 512   /* elements whose squares are added up together */
#define BLOCK 128   /* elements of a piece that are done at once, held as float32 in buffers */
#define LANES 32    /* sums that are kept side by side, for the vector unit */
#define STREAMS 4   /* places of a chunk, at most, that are read in turns */

enum type { FLOAT32 = 1, BFLOAT16 = 2, ONE_FLOAT32 = 3, ONE_BFLOAT16 = 4 /* one for all */ };

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

/* One library serves every x86-64 processor: the loader picks the widest that it has. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__linux__)
#define WIDEST __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#define INLINE static inline __attribute__((always_inline))
#else
#define WIDEST
#define INLINE static inline
#endif

struct arrays {
    const int64_t *numels; /* elements of each parameter */
    const int64_t *params, *grads, *starts, *averages, *compensations; /* addresses, or NULL */
    const int32_t *start_types;
    int32_t type; /* of params, grads and compensations */
};

struct numbers {
    double scale, weight_decay; /* of the gradients, and of the parameters that join them */
    const double *eta, *average_weight; /* for each parameter */
    int32_t averages_previous_iterate;
};

/* Return n elements from `start` on as float32, in place or in `buffer`. */
INLINE const float *load(int64_t address, int32_t type, int64_t start, int64_t n, float *buffer)
{
    if (type == FLOAT32)
        return (const float *)(intptr_t)address + start;
    if (type == ONE_FLOAT32) {
        float value = *(const float *)(intptr_t)address;
        for (int64_t i = 0; i < n; i++)
            buffer[i] = value;
        return buffer;
    }
    /* A bfloat16 is the upper half of a float32. */
    uint32_t *bits = (uint32_t *)buffer;
    const uint16_t *source = (const uint16_t *)(intptr_t)address;
    if (type == ONE_BFLOAT16)
        for (int64_t i = 0; i < n; i++)
            bits[i] = (uint32_t)*source << 16;
    else
        for (int64_t i = 0; i < n; i++)
            bits[i] = (uint32_t)source[start + i] << 16;
    return buffer;
}

/* Round float32 to bfloat16, to nearest even; not-a-number stays that. */
INLINE void store_bfloat16(uint16_t *target, const float *source, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &source[i], 4);
        uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
        target[i] = (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
    }
}

/* Add squares to the sums of a piece. */
INLINE void add_squares(double *restrict lanes, const float *restrict x, int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++)
            lanes[l] += (double)x[i + l] * (double)x[i + l];
    for (; i < n; i++)
        lanes[i % LANES] += (double)x[i] * (double)x[i];
}

INLINE const float *exact(const struct arrays *a, int64_t t, int64_t start, int64_t n,
                          float *buffer, float *other)
{
    const float *x = load(a->params[t], a->type, start, n, buffer);
    if (!a->compensations)
        return x;
    const float *rest = load(a->compensations[t], a->type, start, n, other);
    for (int64_t i = 0; i < n; i++)
        buffer[i] = x[i] + rest[i];
    return buffer;
}

/* The gradient times the scale, with weight decay; x may be NULL where nothing decays. */
INLINE const float *gradient(const struct arrays *a, const struct numbers *k, int64_t t,
                             int64_t start, int64_t n, const float *x, float *buffer)
{
    const float *g = load(a->grads[t], a->type, start, n, buffer);
    float scale = (float)k->scale, decay = (float)k->weight_decay;
    if (scale == 1 && decay == 0)
        return g;
    if (decay == 0)
        for (int64_t i = 0; i < n; i++)
            buffer[i] = scale * g[i];
    else
        for (int64_t i = 0; i < n; i++)
            buffer[i] = scale * g[i] + decay * x[i];
    return buffer;
}

INLINE void average_in(float *average, const float *x, int64_t n, float w)
{
    if (w < 0.5f)
        for (int64_t i = 0; i < n; i++)
            average[i] += w * (x[i] - average[i]);
    else /* w = 1 copies exactly */
        for (int64_t i = 0; i < n; i++)
            average[i] = x[i] - (1 - w) * (x[i] - average[i]);
}

/* Add (x - x_0)^2; x - x_0 is exact although both may be large, so that comes first. */
INLINE void distance_block(const struct arrays *a, int64_t t, int64_t start, int64_t n,
                           double *lanes)
{
    float p_buffer[BLOCK], x0_buffer[BLOCK], apart[BLOCK];
    const float *p = load(a->params[t], a->type, start, n, p_buffer);
    const float *x0 = load(a->starts[t], a->start_types[t], start, n, x0_buffer);
    for (int64_t i = 0; i < n; i++)
        apart[i] = p[i] - x0[i];
    if (a->compensations) {
        const float *rest = load(a->compensations[t], a->type, start, n, p_buffer);
        for (int64_t i = 0; i < n; i++)
            apart[i] += rest[i];
    }
    add_squares(lanes, apart, n);
}

/* Make the step on bfloat16 parameters. With compensations, what is small is added to what is
   small first, so that the parameter does not swallow it, and what rounding takes is kept. */
INLINE void move_rounded(const struct arrays *a, int64_t t, int64_t start, int64_t n, float eta,
                         const float *g)
{
    float p_buffer[BLOCK], move[BLOCK], rounded_buffer[BLOCK];
    const float *p = load(a->params[t], BFLOAT16, start, n, p_buffer);
    for (int64_t i = 0; i < n; i++)
        move[i] = -eta * g[i];
    if (a->compensations) {
        const float *rest = load(a->compensations[t], BFLOAT16, start, n, rounded_buffer);
        for (int64_t i = 0; i < n; i++)
            move[i] += rest[i];
    }
    for (int64_t i = 0; i < n; i++)
        rounded_buffer[i] = p[i] + move[i];
    store_bfloat16((uint16_t *)(intptr_t)a->params[t] + start, rounded_buffer, n);
    if (a->compensations) {
        const float *rounded = load(a->params[t], BFLOAT16, start, n, rounded_buffer);
        for (int64_t i = 0; i < n; i++)
            move[i] += p[i] - rounded[i];
        store_bfloat16((uint16_t *)(intptr_t)a->compensations[t] + start, move, n);
    }
}

/* The common case in one loop: all of it float32. The average, which may be NULL, takes the new
   weights, and no more than half of each. */
INLINE void update_plain(float *restrict p, const float *restrict g, const float *restrict x0,
                         float *restrict average, int64_t n, float eta, float w,
                         double *restrict lanes)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) {
            float y = p[i + l] - eta * g[i + l];
            float apart = y - x0[i + l];
            p[i + l] = y;
            lanes[l] += (double)apart * (double)apart;
            if (average)
                average[i + l] += w * (y - average[i + l]);
        }
    for (; i < n; i++) {
        p[i] -= eta * g[i];
        lanes[i % LANES] += (double)(p[i] - x0[i]) * (double)(p[i] - x0[i]);
        if (average)
            average[i] += w * (p[i] - average[i]);
    }
}

INLINE void update_block(const struct arrays *a, const struct numbers *k, int64_t t,
                         int64_t start, int64_t n, double *lanes)
{
    float old[BLOCK], g_buffer[BLOCK], other[BLOCK];
    const float *x = exact(a, t, start, n, old, other);
    const float *g = gradient(a, k, t, start, n, x, g_buffer);
    float eta = (float)k->eta[t], w = (float)k->average_weight[t];
    float *average = a->averages ? (float *)(intptr_t)a->averages[t] + start : NULL;
    if (a->type == FLOAT32 && a->start_types[t] == FLOAT32 &&
        (!average || (!k->averages_previous_iterate && w < 0.5f))) {
        const float *x0 = (const float *)(intptr_t)a->starts[t] + start;
        float *p = (float *)(intptr_t)a->params[t] + start;
        update_plain(p, g, x0, average, n, eta, w, lanes);
        return;
    }
    if (average && k->averages_previous_iterate)
        average_in(average, x, n, w);
    if (a->type == FLOAT32) {
        float *y = (float *)(intptr_t)a->params[t] + start;
        for (int64_t i = 0; i < n; i++)
            y[i] = x[i] - eta * g[i];
    } else
        move_rounded(a, t, start, n, eta, g);
    if (average && !k->averages_previous_iterate) {
        x = exact(a, t, start, n, old, other);
        average_in(average, x, n, w);
    }
    distance_block(a, t, start, n, lanes);
}

INLINE void gradient_block(const struct arrays *a, const struct numbers *k, int64_t t,
                           int64_t start, int64_t n, double *lanes)
{
    float buffer[BLOCK], other[BLOCK], g_buffer[BLOCK];
    const float *x = k->weight_decay != 0 ? exact(a, t, start, n, buffer, other) : NULL;
    add_squares(lanes, gradient(a, k, t, start, n, x, g_buffer), n);
}

enum pass { GRADIENT2 = 0, DISTANCE2 = 1, UPDATE = 2 };

/* One call: which pass, over what, and where each chunk's sum goes. */
struct work {
    const struct arrays *arrays;
    const struct numbers *numbers;
    double *partials;
    int64_t tensors;
    int (*thread_number)(void), (*thread_count)(void); /* of OpenMP; NULL: one thread */
    int32_t pass;
};

/* Do n elements of a parameter, at most a chunk, and return their sum, added up piece by piece.

   Memory gives most when it is read in several places at once, as each of them is fetched ahead:
   one array in four, the several of an update in two each. */
INLINE double do_chunk(const struct work *w, int64_t t, int64_t start, int64_t n)
{
    double sums[CHUNK / PIECE], sum = 0;
    int64_t streams = w->pass == GRADIENT2 ? STREAMS : w->arrays->averages ? 1 : 2;
    int64_t pieces = (n + PIECE - 1) / PIECE, stride = n / PIECE / streams;
    int64_t turns = pieces - (streams - 1) * stride; /* the last ones are of what is left over */
    for (int64_t turn = 0; turn < turns; turn++) {
        double lanes[STREAMS][LANES] = {{0}};
        int64_t first = turn < stride ? turn : turn + (streams - 1) * stride;
        int64_t count = turn < stride ? streams : 1;
        for (int64_t from = 0; from < PIECE; from += BLOCK)
            for (int64_t s = 0; s < count; s++) {
                int64_t begin = (first + s * stride) * PIECE + from;
                int64_t size = n - begin < BLOCK ? n - begin : BLOCK;
                if (size <= 0)
                    break;
                if (w->pass == UPDATE)
                    update_block(w->arrays, w->numbers, t, start + begin, size, lanes[s]);
                else if (w->pass == DISTANCE2)
                    distance_block(w->arrays, t, start + begin, size, lanes[s]);
                else
                    gradient_block(w->arrays, w->numbers, t, start + begin, size, lanes[s]);
            }
        for (int64_t s = 0; s < count; s++) {
            double of_piece = 0;
            for (int l = 0; l < LANES; l++)
                of_piece += lanes[s][l];
            sums[first + s * stride] = of_piece;
        }
    }
    for (int64_t i = 0; i < pieces; i++)
        sum += sums[i];
    return sum;
}

/* Return how many chunks of a parameter begin before its element `place`. */
INLINE int64_t chunks_before(int64_t place, int64_t numel)
{
    int64_t end = place < 0 ? 0 : place < numel ? place : numel;
    return (end + CHUNK - 1) / CHUNK;
}

/* Do this thread's share: the chunks that begin in its part of all elements. */
static WIDEST void do_share(void *data)
{
    const struct work *w = data;
    const int64_t *numels = w->arrays->numels;
    int64_t number = w->thread_number ? w->thread_number() : 0;
    int64_t count = w->thread_count ? w->thread_count() : 1;
    int64_t elements = 0, chunk = 0;
    for (int64_t t = 0; t < w->tensors; t++)
        elements += numels[t];
    /* Counted from the parameter that the loop is at. */
    int64_t begin = elements * number / count, end = elements * (number + 1) / count;
    for (int64_t t = 0; t < w->tensors; t++) {
        int64_t last = chunks_before(end, numels[t]);
        for (int64_t c = chunks_before(begin, numels[t]); c < last; c++) {
            int64_t start = c * CHUNK, left = numels[t] - start;
            w->partials[chunk + c] = do_chunk(w, t, start, left < CHUNK ? left : CHUNK);
        }
        chunk += chunks_before(numels[t], numels[t]);
        begin -= numels[t];
        end -= numels[t];
    }
}

/* Do a pass with the threads of the OpenMP that torch has brought (`parallel` is its
   GOMP_parallel): threads of our own would have to wait until torch's stop spinning. */
EXPORT void dog_pass(struct work *work, int32_t threads,
                     void (*parallel)(void (*)(void *), void *, unsigned, unsigned))
{
    if (parallel && threads > 1)
        parallel(do_share, work, (unsigned)threads, 0);
    else {
        work->thread_number = work->thread_count = 0;
        do_share(work);
    }
}

/* Add up the partial sums of each parameter. */
EXPORT void dog_totals(const int64_t *numels, int64_t tensors, const double *partials,
                       double *totals)
{
    for (int64_t t = 0; t < tensors; t++) {
        totals[t] = 0;
        for (int64_t c = chunks_before(numels[t], numels[t]); c > 0; c--)
            totals[t] += *partials++;
    }
}

/* Python asks which version was built, as the sources may be newer. */
EXPORT int32_t dog_version(void) { return VERSION; }

/* Windows wants a module's name exported; nobody calls it. */
EXPORT void *PyInit__cpu(void) { return 0; }
