/* Whole networks of 3x3 convolutions on a CPU, by Winograd's F(4x4,3x3) in single precision, and in int16.
 *
 * A 3x3 convolution computes a tile of 4x4 outputs from 6x6 inputs. Winograd's algorithm turns both into 36 values, in
 * which the convolution is 36 products instead of 144 (Lavin and Gray, "Fast Algorithms for Convolutional Neural
 * Networks", CVPR 2016). Over many tiles and channels these products are 36 matrix products:
 *
 *     transform_input:  V[f][tile][channel in]   =  B' d B    of each tile d of the input
 *     multiply:         M[f][tile][channel out]  =  V[f] U[f], U being the weights, transformed beforehand in Python
 *     transform_output: 4x4 outputs              =  A' m A    of each tile m of M, then bias, PReLU and residuals
 *
 * All three run on a few tiles at a time, a task, so that V and M stay in the cache of one core.
 *
 * Memory. Channels lie in groups of 16, each in a plane of its own, a cache line a pixel. A plane is a ring of rows: row
 * y takes the place of row y - ring, and where the ring holds the whole picture nothing is overwritten. Before the ring
 * lies a row of zeros, number -1, which stands for all rows outside the picture. Each row begins with a pixel of zeros,
 * is extended by zeros to whole tiles, and ends with one more pixel of zeros. Channels that a network does not have are
 * zero. Rows are the picture's own or, if the picture is `turned`, its columns: the longer side rolls, so that the
 * rings are short. Tiles are transformed as they lie in the picture, so that turning it changes no bit.
 *
 * Order. Rows roll through the network in waves. A program is a list of segments, each a list of steps. In a wave each
 * step of a segment computes some more rows of tiles, its job: `lag` rows behind the picture's, where those that it
 * reads are there. A job is cut into tasks. Tasks are numbered, wave by wave and in a wave step by step, and every
 * thread takes the next number (a ticket) when it is free. A task waits until done are
 *     its step's job in the wave before, so that a step that has done some rows has done all above them;
 *     the rows that it reads, in the columns that it reads;
 *     those rows of other steps that read what it overwrites.
 * All of them have lower tickets (`realesrgan/engines/rolling.py` sees to it). So the lowest ticket that is not done
 * waits for none, and nobody waits forever.
 *
 * int16. Processors with VNNI multiply pairs of int16, and add both products to an int32, as fast as they multiply
 * floats. A step in int16 differs in the middle only; planes and all else are floats. V is rounded to 15.5 bits, by a
 * scale of its own for each tile and chunk of channels, which is the largest that fits; so nothing is ever cut off. U is
 * rounded in Python, by a scale for each chunk, frequency and output channel, so small that no sum can overflow,
 * whatever the picture. A tile's result does not depend on the tiles beside it.
 *
 * Kept V. Where several steps in int16 read the same chunk of channels, as in a dense block, the first one also writes
 * its V to memory, a ring of rows of tiles, which the others multiply as it lies there. Their jobs begin at different
 * rows, so in all of them a block of tiles is a run of tiles of one row instead of some tiles of a band.
 *
 * The file needs no C library, allocates nothing and starts no thread. The vector width comes from the compiler's
 * target: 16 floats with AVX-512, 8 with AVX2, else 4 (NEON).
 */
#include <stdint.h>

#if defined(__AVX512F__)
enum { VECTOR = 16, TILES = 14, PANEL_VECTORS = 2 };
#elif defined(__AVX__)
enum { VECTOR = 8, TILES = 6, PANEL_VECTORS = 2 };
#else
enum { VECTOR = 4, TILES = 6, PANEL_VECTORS = 4 };
#endif

enum {
    GROUP = 16,                      /* channels that lie together */
    PANEL = PANEL_VECTORS * VECTOR,  /* output channels that `multiply` computes at a time, for TILES tiles */
    CHUNK_GROUPS = 4,                /* the most input groups that are transformed and multiplied at a time */
    MOST_GROUPS = 64,                /* of a step's input */
    MOST_CHUNKS = MOST_GROUPS / CHUNK_GROUPS,
    MOST_BLOCK = 16,                 /* pixels, see load_rows */
    MOST_RUNS = 64,                  /* blocks of tiles in a task */
    PADDING = 16,                    /* floats between the 36 parts of V and M, against cache lines that collide */
    /* Values from one part to the next, and from one block of TILES tiles to the next: constants, or 36 addresses would
     * be computed for every tile. */
    V_PART = TILES * CHUNK_GROUPS * GROUP + PADDING, V_BLOCK = 36 * V_PART,
    V_INT_PART = TILES * CHUNK_GROUPS * GROUP + 2 * PADDING,
    V_INT_SCALES = 36 * V_INT_PART, V_INT_BLOCK = V_INT_SCALES + 2 * GROUP,  /* behind its parts the tiles' scales */
    M_PART = TILES * PANEL + PADDING, M_BLOCK = 36 * M_PART,
    SPINS = 2000,                    /* looks at a condition before the processor is given to somebody else */
};

typedef float vector __attribute__((vector_size(4 * VECTOR)));
typedef int32_t ints __attribute__((vector_size(4 * VECTOR)));

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 64")
#endif

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
#define HAS_INTS
#endif
#define LARGEST_VALUE 23169  /* of V in int16: 2^14.5 */

enum { LOAD, CONVOLVE, STORE };  /* kinds of steps */

/* Rows of tiles of another step that must be done before a task begins. With `end` the row of tiles after the task's last,
 * they are the first ((end - behind) << up >> down) + more; none if end <= behind, all if there are not so many. */
typedef struct {
    int32_t step, behind, up, down, more;
    int32_t columns;                 /* 1: only those tasks that compute the columns that this one sees */
} Wait;

typedef struct {
    int32_t kind;
    int32_t height, width;           /* of what a LOAD or CONVOLVE writes and a STORE reads, in rows and columns */
    int32_t turned;                  /* 1 if its rows are the picture's columns */
    int32_t advance, lag;            /* rows of tiles in a wave, and by which it is behind */
    int32_t groups_in, groups_out;   /* STORE: groups_in; LOAD: groups_out */
    int32_t doubled;                 /* CONVOLVE: 1 if the input is first enlarged twice, by nearest neighbour */
    int32_t band_rows;               /* CONVOLVE: rows of tiles in a band of a job */
    int32_t task_tiles;              /* CONVOLVE: the most tiles of a task, a multiple of TILES */
    int32_t run, task_runs;          /* CONVOLVE: tiles of one row that stay together, see `Tiles`; runs of a task */
    int32_t wait_count;
    const Wait *waits;
    int32_t *done;                   /* for each task of a job, in how many waves it is done; 0 at first */

    const float *in[MOST_GROUPS];    /* pixel (0, 0) of each input plane */
    int32_t in_ring[MOST_GROUPS];    /* rows of its ring */
    int64_t in_row;                  /* floats from row to row */
    float *out;                      /* pixel (0, 0) of the first output plane */
    int64_t out_row, out_plane;      /* floats from row to row, from plane to plane */
    int32_t out_ring;                /* a multiple of 4 */

    int16_t *kept[MOST_CHUNKS];      /* where V of a chunk is kept, block after block of each row of tiles, or null */
    int32_t kept_ring[MOST_CHUNKS];  /* rows of tiles of its ring */
    int32_t is_there[MOST_CHUNKS];   /* 1 if another step has transformed it, 0 if this one does */

    int32_t is_float;                /* of `pixels` */
    const void *weights;             /* U: chunk x panel x 36 x channels of the chunk x PANEL; float or, in pairs, int16 */
    const float *scales;             /* what an int16 of U stands for: chunk x panel x 36 x PANEL; null for floats */
    const float *bias, *slope;       /* of each output channel; a slope of 1 is no activation */
    const float *residual[2];        /* like `out`, or null: out = r1 + s1 * (r0 + s0 * out) */
    int64_t residual_plane[2];
    int32_t residual_ring[2];
    float residual_scale[2];

    void *pixels;                    /* LOAD, STORE: the picture, BGR, uint8 or float in 0..1 */
    int64_t line;                    /* values in a row of it */
    int32_t block;                   /* side of the square of pixels that is folded into the channels of one */
    int32_t base_ring;
    const float *base;               /* STORE: RGB to add, in the first three channels of a plane, or null */
    int64_t base_row;
} Step;

typedef struct {
    int32_t first, end;              /* its steps */
    int32_t waves;
} Segment;

typedef struct {
    const Step *steps;
    const Segment *segments;
    int32_t segment_count;
    int32_t not_finite;              /* set to 1 if a value of the result is NaN or infinite before it is clamped */
    int64_t next_ticket;             /* 0 at first */
    int32_t stop;                    /* set to 1 from outside, it makes all threads return after their tasks */
    void (*yield)(void);             /* gives the processor to another thread or process */
} Program;

/* ---- vectors ---- */

INLINE vector load(const float *p) { return *(const vector *)p; }
INLINE void store(float *p, vector v) { *(vector *)p = v; }

/* Writes a cache line past the caches: it is needed again only when much else has been written, and a normal store
 * would first read what it replaces. A line must be written whole (half lines take fifteen times as long), and
 * `finish_stores` called before other threads are told. */
INLINE void stream(float *line, const vector *values) {
    UNROLL for (int i = 0; i < GROUP / VECTOR; i++) {
#if defined(__clang__)
        __builtin_nontemporal_store(values[i], (vector *)line + i);
#elif defined(__AVX512F__)
        __builtin_ia32_movntps512(line + i * VECTOR, values[i]);
#elif defined(__AVX__)
        __builtin_ia32_movntps256(line + i * VECTOR, values[i]);
#else
        store(line + i * VECTOR, values[i]);
#endif
    }
}

INLINE void finish_stores(void) {
#if defined(__x86_64__)
    __builtin_ia32_sfence();
#endif
}

INLINE void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* v where it is positive, else slope * v. NaN stays NaN. */
INLINE vector leak(vector v, vector slope) {
    vector positive = (vector)((ints)v & (v > (vector){}));
    return positive + slope * (v - positive);
}

/* ---- Winograd's transforms ---- */

/* The points are 0, p, -p, q, -q and infinity. */
typedef struct {
    float p, q;
} Points;

static const Points POINTS = {1, 2};

/* out = B' in */
INLINE void apply_b(const vector in[6], vector out[6], Points at) {
    const float p2 = at.p * at.p, q2 = at.q * at.q;
    vector even = in[4] - q2 * in[2], odd = in[3] - q2 * in[1];
    vector even2 = in[4] - p2 * in[2], odd2 = in[3] - p2 * in[1];
    out[0] = p2 * q2 * in[0] - (p2 + q2) * in[2] + in[4];
    out[1] = even + at.p * odd;
    out[2] = even - at.p * odd;
    out[3] = even2 + at.q * odd2;
    out[4] = even2 - at.q * odd2;
    out[5] = p2 * q2 * in[1] - (p2 + q2) * in[3] + in[5];
}

/* out = A' in */
INLINE void apply_a(const vector in[6], vector out[4], Points at) {
    const float p2 = at.p * at.p, q2 = at.q * at.q;
    vector sum = in[1] + in[2], difference = in[1] - in[2];
    vector sum2 = in[3] + in[4], difference2 = in[3] - in[4];
    out[0] = in[0] + sum + sum2;
    out[1] = at.p * difference + at.q * difference2;
    out[2] = p2 * sum + q2 * sum2;
    out[3] = p2 * at.p * difference + q2 * at.q * difference2 + in[5];
}

/* Transforms VECTOR channels of one tile. rows and columns: offsets of its 6 rows and columns from `plane`. The 36
 * frequencies lie `stride` floats apart in v. */
INLINE void transform_input(const float *plane, const int64_t rows[6], const int64_t columns[6], float *v,
                            int64_t stride, Points at) {
    vector half[6][6];
    UNROLL for (int x = 0; x < 6; x++) {
        vector column[6], turned[6];
        UNROLL for (int y = 0; y < 6; y++) column[y] = load(plane + rows[y] + columns[x]);
        apply_b(column, turned, at);
        UNROLL for (int y = 0; y < 6; y++) half[y][x] = turned[y];
    }
    UNROLL for (int y = 0; y < 6; y++) {
        vector turned[6];
        apply_b(half[y], turned, at);
        UNROLL for (int x = 0; x < 6; x++) store(v + (6 * y + x) * stride, turned[x]);
    }
}

/* A tile of the output: where its first group begins in memory, and those of residuals; how many of its 4 rows and
 * columns are in the picture; and floats from one to the next. Rows and columns are those of the picture. */
typedef struct {
    float *out;
    const float *residual[2];
    int rows, columns;
    int64_t down, right;
} Place;

/* Computes one group of one tile, and finishes and writes it. m: its first frequency; scale: what a 1 in m stands
 * for. */
INLINE void transform_output(const Step *s, const float *m, int group, const Place *place, int rows, int columns,
                             Points points, float scale) {
    vector results[16][GROUP / VECTOR];
    float *out = place->out + group * s->out_plane;
    const float *first = place->residual[0] ? place->residual[0] + group * s->residual_plane[0] : 0;
    const float *second = place->residual[1] ? place->residual[1] + group * s->residual_plane[1] : 0;
    UNROLL for (int part = 0; part < GROUP / VECTOR; part++) {
        int c = part * VECTOR;
        vector half[4][6], bias = load(s->bias + group * GROUP + c), slope = load(s->slope + group * GROUP + c);
        UNROLL for (int x = 0; x < 6; x++) {
            vector column[6], turned[4];
            UNROLL for (int y = 0; y < 6; y++) column[y] = load(m + (6 * y + x) * M_PART + c);
            apply_a(column, turned, points);
            UNROLL for (int y = 0; y < 4; y++) half[y][x] = turned[y];
        }
        UNROLL for (int y = 0; y < 4; y++) {
            vector turned[4];
            apply_a(half[y], turned, points);
            UNROLL for (int x = 0; x < 4; x++) {
                vector value = leak(scale * turned[x] + bias, slope);
                int64_t pixel = y * place->down + x * place->right;
                if (first && y < rows && x < columns) {
                    value = load(first + pixel + c) + s->residual_scale[0] * value;
                    if (second) value = load(second + pixel + c) + s->residual_scale[1] * value;
                }
                results[4 * y + x][part] = value;
                if (VECTOR == GROUP && y < rows && x < columns) stream(out + pixel, results[4 * y + x]);
            }
        }
    }
    if (VECTOR < GROUP)
        for (int y = 0; y < rows; y++)
            for (int x = 0; x < columns; x++) stream(out + y * place->down + x * place->right, results[4 * y + x]);
}

/* ---- tasks of a convolution ---- */

INLINE int least(int a, int b) { return a < b ? a : b; }
INLINE int divide_up(int a, int b) { return (a + b - 1) / b; }

/* The rows of tiles of a step that are done after a wave. */
INLINE int find_end(const Step *s, int wave) {
    int64_t end = (int64_t)s->advance * (wave + 1) - s->lag, all = divide_up(s->height, 4);
    return (int)(end < 0 ? 0 : end < all ? end : all);
}

/* The runs in a row of tiles. */
INLINE int count_runs(const Step *s) { return divide_up(divide_up(s->width, 4), s->run); }

/* The tasks of a band of so many rows. */
INLINE int count_tasks(const Step *s, int rows) {
    return s->kind == CONVOLVE ? divide_up(rows * count_runs(s), s->task_runs) : rows > 0;
}

/* What a step does in a wave. */
typedef struct {
    const Step *step;
    int segment, wave;
    int top, rows;           /* in tiles */
    int64_t tasks;
    int64_t first_ticket;
} Job;

INLINE void begin_job(Job *job, const Step *s) {
    job->step = s;
    job->top = find_end(s, job->wave - 1);
    job->rows = find_end(s, job->wave) - job->top;
    job->tasks = job->rows / s->band_rows * (int64_t)count_tasks(s, s->band_rows)
                 + count_tasks(s, job->rows % s->band_rows);
}

/* Goes on to the job that has a ticket. Returns 0 if there is none. */
static int find_job(const Program *p, Job *job, int64_t ticket) {
    while (ticket >= job->first_ticket + job->tasks) {
        const Segment *segment = p->segments + job->segment;
        const Step *s = job->step + 1;
        job->first_ticket += job->tasks;
        if (s == p->steps + segment->end) {
            if (++job->wave == segment->waves) {
                if (++job->segment == p->segment_count) return 0;
                segment++, job->wave = 0;
            }
            s = p->steps + segment->first;
        }
        begin_job(job, s);
    }
    return 1;
}

/* The tiles of a task: `count` runs from number `first` on, which are numbered column by column in a band. A run is a
 * tile, or up to TILES tiles of one row, which then are a block of their own; the last of a row may be shorter. */
typedef struct {
    int top, rows;     /* of the band, in tiles */
    int first, count, run;
} Tiles;

INLINE Tiles find_tiles(const Job *job, int64_t ticket) {
    const Step *s = job->step;
    int task = (int)(ticket - job->first_ticket), tasks = count_tasks(s, s->band_rows);
    int above = task / tasks * s->band_rows, rows = least(s->band_rows, job->rows - above);
    int first = task % tasks * s->task_runs;
    int count = s->kind == CONVOLVE ? least(s->task_runs, rows * count_runs(s) - first) : 0;
    return (Tiles){job->top + above, rows, first, count, s->run};
}

/* The corner of the first tile of a task's run number r. */
INLINE int run_y(Tiles tiles, int r) { return 4 * (tiles.top + (tiles.first + r) % tiles.rows); }
INLINE int run_x(Tiles tiles, int r) { return 4 * ((tiles.first + r) / tiles.rows * tiles.run); }

/* The columns that a task reads, of its input. */
INLINE int find_left(const Step *s, Tiles tiles) { return (run_x(tiles, 0) - 1) >> s->doubled; }
INLINE int find_right(const Step *s, Tiles tiles) {
    return least(run_x(tiles, tiles.count - 1) + 4 * tiles.run, 4 * divide_up(s->width, 4)) >> s->doubled;
}

/* What will be read next: some planes, and of each a rectangle, whose rows are walked in runs of cache lines, one line a
 * pixel. */
typedef struct {
    const Step *step;
    int group, last_group;
    int top, bottom, left, pixels;
    int y, place, pixel;         /* where the walk is: the row, and its number in the ring */
    const float *line;           /* the row's first pixel */
} Walk;

INLINE void begin_line(Walk *w) {
    const Step *s = w->step;
    int64_t row = w->y < 0 || w->y >= s->height >> s->doubled ? -1 : w->place;
    w->line = s->in[w->group] + row * s->in_row + w->left * (int64_t)GROUP;
}

INLINE void begin_plane(Walk *w) {
    w->y = w->top;
    w->place = w->y < 0 ? w->y : w->y % w->step->in_ring[w->group];
    begin_line(w);
}

INLINE Walk begin_walk(const Step *s, Tiles tiles, int first_group, int groups) {
    int left = find_left(s, tiles), right = find_right(s, tiles);
    Walk w = {.step = s, .group = first_group, .last_group = first_group + groups - 1,
              .top = (4 * tiles.top - 1) >> s->doubled, .bottom = 4 * (tiles.top + tiles.rows) >> s->doubled,
              .left = left, .pixels = right - left + 1};
    begin_plane(&w);
    return w;
}

/* Returns the next run of `lines` cache lines, which may go beyond the end of a row. It starts anew in the last plane
 * when all are done. */
INLINE const float *walk(Walk *w, int lines) {
    const float *run = w->line + w->pixel * GROUP;
    if ((w->pixel += lines) >= w->pixels) {
        w->pixel = 0;
        if (w->y++ == w->bottom) {
            if (w->group < w->last_group) w->group++;
            begin_plane(w);
        } else {
            if (++w->place == w->step->in_ring[w->group]) w->place = 0;
            begin_line(w);
        }
    }
    return run;
}

/* The matrix product: m[TILES][PANEL] = v u, or += if `add`. v: depth / VECTOR x TILES x VECTOR, u: depth x PANEL.
 * Meanwhile depth / 2 cache lines are fetched, beginning with `next`. */
static __attribute__((noinline)) void multiply(const float *v, const float *u, float *m, int depth, int add,
                                               const float *next) {
    vector sums[TILES][PANEL_VECTORS];
    UNROLL for (int i = 0; i < TILES; i++)
        UNROLL for (int j = 0; j < PANEL_VECTORS; j++)
            sums[i][j] = add ? load(m + i * PANEL + j * VECTOR) : (vector){};
    for (int k = 0; k < depth; k += VECTOR, v += (TILES - 1) * VECTOR) {
#pragma GCC unroll 1
        for (int step = 0; step < VECTOR; step += 4, v += 4, u += 4 * PANEL, next += 2 * GROUP) {
            __builtin_prefetch(next, 0, 2);
            __builtin_prefetch(next + GROUP, 0, 2);
            UNROLL for (int l = 0; l < 4; l++) {
                vector row[PANEL_VECTORS];
                UNROLL for (int j = 0; j < PANEL_VECTORS; j++) row[j] = load(u + l * PANEL + j * VECTOR);
                UNROLL for (int i = 0; i < TILES; i++)
                    UNROLL for (int j = 0; j < PANEL_VECTORS; j++) sums[i][j] += v[i * VECTOR + l] * row[j];
            }
        }
    }
    UNROLL for (int i = 0; i < TILES; i++)
        UNROLL for (int j = 0; j < PANEL_VECTORS; j++) store(m + i * PANEL + j * VECTOR, sums[i][j]);
}

/* A tile's corner, and where it is among a task's tiles. */
typedef struct {
    int y, x;
    int run, block, tile;  /* numbers of its run and its block, and its own in the block */
} Corner;

INLINE Corner find_corner(Tiles tiles) { return (Corner){.y = run_y(tiles, 0), .x = run_x(tiles, 0)}; }

/* The tile after the one at `at`; without a division, of which there would be a dozen a tile. */
INLINE Corner next_corner(const Step *s, Tiles tiles, Corner at) {
    if (++at.tile < tiles.run && at.x + 4 < s->width) {
        at.x += 4;
        return at;
    }
    if (tiles.run > 1) at.x -= 4 * (at.tile - 1);
    if (tiles.run > 1 || at.tile == TILES) at.block++, at.tile = 0;
    at.run++, at.y += 4;
    if (at.y == 4 * (tiles.top + tiles.rows)) at.y = 4 * tiles.top, at.x += 4 * tiles.run;
    return at;
}

/* The offsets in an input plane of the 6 rows and columns, as the picture has them, of a tile. */
typedef struct {
    int ring;  /* of the plane; 0 if they are not known yet */
    int64_t rows[6], columns[6];
} Offsets;

/* Finds the offsets of the tile at a corner in a group's plane, if they are not those of the group before. */
INLINE void find_offsets(const Step *s, int group, Corner at, Offsets *offsets) {
    int height = s->height >> s->doubled, ring = s->in_ring[group];
    if (ring == offsets->ring) return;
    int y = (at.y - 1) >> s->doubled, start = y < 0 ? y : y % ring;  /* of the tile's first row */
    offsets->ring = ring;
    for (int i = 0; i < 6; i++) {
        int more = ((at.y - 1 + i) >> s->doubled) - y, row = start + more;
        (s->turned ? offsets->columns : offsets->rows)[i] =
            (y + more >= height ? -1 : row < ring ? row : row - ring) * s->in_row;
        (s->turned ? offsets->rows : offsets->columns)[i] = ((at.x - 1 + i) >> s->doubled) * GROUP;
    }
}

/* Transforms some groups of a task's tiles into v. */
INLINE void transform_inputs(const Step *s, Tiles tiles, int first_group, int groups, float *v) {
    for (Corner at = find_corner(tiles); at.run < tiles.count; at = next_corner(s, tiles, at)) {
        Offsets offsets = {0};
        float *to = v + at.block * V_BLOCK + at.tile * VECTOR;
        for (int g = 0; g < groups; g++) {
            find_offsets(s, first_group + g, at, &offsets);
            for (int c = 0; c < GROUP; c += VECTOR, to += TILES * VECTOR)
                transform_input(s->in[first_group + g] + c, offsets.rows, offsets.columns, to, V_PART, POINTS);
        }
    }
}

INLINE Place find_place(const Step *s, int y, int x) {
    Place place = {s->out + y % s->out_ring * s->out_row + x * (int64_t)GROUP, {0, 0}, least(4, s->height - y),
                   least(4, s->width - x), s->out_row, GROUP};
    for (int i = 0; i < 2 && s->residual[i]; i++)
        place.residual[i] = s->residual[i] + y % s->residual_ring[i] * s->out_row + x * (int64_t)GROUP;
    if (s->turned) {
        int rows = place.rows;
        place.rows = place.columns, place.columns = rows;
        place.down = GROUP, place.right = s->out_row;
    }
    return place;
}

/* What a 1 stands for in V of each tile of a block. */
INLINE float *tile_scales(int16_t *block) { return (float *)(block + V_INT_SCALES); }

/* Computes and writes the results of a task's tiles for one panel of output channels, from m. blocks: those of V, if m
 * is not yet multiplied by their scales. */
INLINE void transform_outputs(const Step *s, Tiles tiles, int panel, const float *m, Points points,
                              int16_t *const *blocks) {
    int first_group = panel * PANEL / GROUP, groups = least(PANEL / GROUP, s->groups_out - first_group);
    for (Corner at = find_corner(tiles); at.run < tiles.count; at = next_corner(s, tiles, at)) {
        Place place = find_place(s, at.y, at.x);
        int is_whole = at.y + 4 <= s->height && at.x + 4 <= s->width;
        for (int g = 0; g < groups; g++) {
            const float *from = m + at.block * M_BLOCK + at.tile * PANEL + g * GROUP;
            float scale = blocks ? tile_scales(blocks[at.block])[at.tile] : 1;
            if (is_whole)
                transform_output(s, from, first_group + g, &place, 4, 4, points, scale);
            else transform_output(s, from, first_group + g, &place, place.rows, place.columns, points, scale);
        }
    }
}

#ifdef HAS_INTS
/* ---- the same in int16 ---- */

/* With these the 36 frequencies are of about the same size, as they share a scale: with 1 and 2 results are 9 to 15 dB
 * further from those in floats. */
static const Points POINTS_OF_INTS = {0.6f, 1.4f};

INLINE ints largest_of(ints a, ints b) {
    ints result;  /* compilers have no common name for this, nor for the instruction below */
    __asm__("vpmaxsd %2, %1, %0" : "=v"(result) : "v"(a), "v"(b));
    return result;
}

/* To each int32 of sum, adds both products of a pair of int16. (Compilers would also add up in another order, and run
 * out of registers.) */
INLINE ints add_products(ints sum, ints pairs, ints others) {
#if defined(__AVX512VNNI__)
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(pairs), "v"(others));
#else
    __asm__("%{vex%} vpdpwssd %2, %1, %0" : "+x"(sum) : "x"(pairs), "x"(others));
#endif
    return sum;
}

/* Rounds scale times two vectors, at most INT16_MAX; in each int32 lies one value of each, the low one first. */
INLINE ints pair_up(vector low, vector high, vector scale) {
    const float magic = 0x1.8p23f;  /* adding it leaves the rounded number in the lowest bits */
    ints a = (ints)(low * scale + magic), b = (ints)(high * scale + magic);
    return (a & 0xffff) | (b << 16);
}

/* Transforms some groups, an even number, of a task's tiles into blocks, and into copies if there are any: for each
 * frequency, two groups x tile x pair of channels, one channel of each group. */
static __attribute__((noinline)) void transform_inputs_to_ints(const Step *s, Tiles tiles, int first_group, int groups,
                                                               int16_t *const *blocks, int16_t *const *copies) {
    float exact[CHUNK_GROUPS][36][GROUP] __attribute__((aligned(64)));
    for (Corner at = find_corner(tiles); at.run < tiles.count; at = next_corner(s, tiles, at)) {
        /* As integers, the absolute values of floats are in the same order, with infinity and NaN above all others. So
         * these become the tile's scale, and its results. */
        ints tops[6] = {};
        Offsets offsets = {0};
        for (int g = 0; g < groups; g++) {
            find_offsets(s, first_group + g, at, &offsets);
            for (int c = 0; c < GROUP; c += VECTOR) {
                transform_input(s->in[first_group + g] + c, offsets.rows, offsets.columns, exact[g][0] + c, GROUP,
                                POINTS_OF_INTS);
                UNROLL for (int f = 0; f < 36; f++)
                    tops[f % 6] = largest_of(tops[f % 6], *(ints *)(exact[g][f] + c) & 0x7fffffff);
            }
        }
        for (int i = 1; i < 6; i++) tops[0] = largest_of(tops[0], tops[i]);
        union { int32_t bits; float value; } largest = {0};
        for (int i = 0; i < VECTOR; i++) if (tops[0][i] > largest.bits) largest.bits = tops[0][i];
        int is_tiny = largest.value < 1e-30f;  /* or the scale might be infinite */
        vector scale = (is_tiny ? 0 : LARGEST_VALUE / largest.value) - (vector){};
        tile_scales(blocks[at.block])[at.tile] = largest.value / LARGEST_VALUE;
        if (copies) tile_scales(copies[at.block])[at.tile] = largest.value / LARGEST_VALUE;
        for (int g = 0; g < groups; g += 2) {
            int64_t place = (g / 2 * TILES + at.tile) * 2 * GROUP;
            int16_t *to = blocks[at.block] + place, *copy = copies ? copies[at.block] + place : 0;
            UNROLL for (int f = 0; f < 36; f++, to += V_INT_PART) {
                ints pairs[GROUP / VECTOR];
                UNROLL for (int c = 0; c < GROUP; c += VECTOR) {
                    pairs[c / VECTOR] = pair_up(load(exact[g][f] + c), load(exact[g + 1][f] + c), scale);
                    *(ints *)(to + 2 * c) = pairs[c / VECTOR];
                }
                if (copy) stream((float *)(copy + f * V_INT_PART), (vector *)pairs);
            }
        }
    }
}

/* The matrix product: m[tiles][PANEL] = scales tile_scales v u, or += if `add`; tile_scales may be null for ones.
 * v: depth / 32 x TILES x 32, u: depth / 2 x PANEL x 2. Meanwhile depth / 2 cache lines are fetched, beginning with
 * `next`, and as many `more` floats after them. */
INLINE void multiply_ints_of(const int tiles, const int16_t *v, const int16_t *u, float *m, int depth, int add,
                             const float *next, int64_t more, const float *scales, const float *tile_scales) {
    ints sums[TILES][PANEL_VECTORS];
    UNROLL for (int i = 0; i < tiles; i++)
        UNROLL for (int j = 0; j < PANEL_VECTORS; j++) sums[i][j] = (ints){};
    const int32_t *pairs = (const int32_t *)v;
    const ints *row = (const ints *)u;
    for (int k = 0; k < depth; k += 2 * GROUP, pairs += (TILES - 1) * GROUP) {
#pragma GCC unroll 1
        for (int step = 0; step < GROUP; step += 4, pairs += 4, row += 4 * PANEL_VECTORS, next += 4 * GROUP) {
            UNROLL for (int l = 0; l < 4; l++) {
                __builtin_prefetch(next + l * GROUP, 0, 2);
                __builtin_prefetch(next + more + l * GROUP, 0, 2);
                ints others[PANEL_VECTORS];
                UNROLL for (int j = 0; j < PANEL_VECTORS; j++) others[j] = row[l * PANEL_VECTORS + j];
                UNROLL for (int i = 0; i < tiles; i++) {
                    ints pair = pairs[i * GROUP + l] - (ints){};
                    UNROLL for (int j = 0; j < PANEL_VECTORS; j++)
                        sums[i][j] = add_products(sums[i][j], pair, others[j]);
                }
            }
        }
    }
    /* Loops of their own: in one with conditions the compiler would not fuse all multiplications and additions, and
     * round some tiles otherwise. */
    vector values[TILES][PANEL_VECTORS];
    UNROLL for (int i = 0; i < tiles; i++)
        UNROLL for (int j = 0; j < PANEL_VECTORS; j++)
            values[i][j] = __builtin_convertvector(sums[i][j], vector) * load(scales + j * VECTOR);
    if (add) {
        UNROLL for (int i = 0; i < tiles; i++)
            UNROLL for (int j = 0; j < PANEL_VECTORS; j++)
                store(m + i * PANEL + j * VECTOR, load(m + i * PANEL + j * VECTOR) + values[i][j] * tile_scales[i]);
    } else {
        UNROLL for (int i = 0; i < tiles; i++)
            UNROLL for (int j = 0; j < PANEL_VECTORS; j++)
                store(m + i * PANEL + j * VECTOR, tile_scales ? values[i][j] * tile_scales[i] : values[i][j]);
    }
}

/* The same for a run of more than half a block, or for a whole one. */
static __attribute__((noinline)) void multiply_ints(int tiles, const int16_t *v, const int16_t *u, float *m, int depth,
                                                    int add, const float *next, int64_t more, const float *scales,
                                                    const float *tile_scales) {
    switch (TILES - tiles) {
#define RUN(fewer) \
    case fewer: multiply_ints_of(TILES - fewer, v, u, m, depth, add, next, more, scales, tile_scales); break
    RUN(0);
    RUN(1);
    RUN(2);
#if defined(__AVX512F__)
    RUN(3);
    RUN(4);
    RUN(5);
    RUN(6);
#endif
#undef RUN
    }
}

INLINE int count_blocks(Tiles tiles) { return tiles.run > 1 ? tiles.count : divide_up(tiles.count, TILES); }

/* Finds where the blocks of V of a chunk of a task are kept. Returns 0 if they are not. */
INLINE int find_blocks(const Step *s, Tiles tiles, int chunk, int16_t **blocks) {
    if (!s->kept[chunk]) return 0;
    for (int i = 0; i < tiles.count; i++) {
        int row = run_y(tiles, i) / 4 % s->kept_ring[chunk], column = (tiles.first + i) / tiles.rows;
        blocks[i] = s->kept[chunk] + (row * (int64_t)count_runs(s) + column) * V_INT_BLOCK;
    }
    return 1;
}

/* Works on a task in int16; see below. */
INLINE void convolve_ints(const Step *s, Tiles tiles, const Step *then, Tiles next, float *scratch) {
    int16_t *own[MOST_RUNS], *kept[MOST_RUNS], *coming[MOST_RUNS];  /* blocks of V: in scratch, and in memory */
    int count = count_blocks(tiles);
    int panels = divide_up(s->groups_out * GROUP, PANEL), chunks = divide_up(s->groups_in, CHUNK_GROUPS);
    float *m = scratch + s->task_tiles / TILES * V_BLOCK;
    const int16_t *u = s->weights;
    const float *scales = s->scales;
    for (int i = 0; i < count; i++) own[i] = (int16_t *)scratch + i * V_INT_BLOCK;

    for (int chunk = 0; chunk < chunks; chunk++) {
        int first_group = chunk * CHUNK_GROUPS, groups = least(CHUNK_GROUPS, s->groups_in - first_group);
        int depth = groups * GROUP, left = s->groups_in - first_group - groups, is_last = !left;
        int is_kept = find_blocks(s, tiles, chunk, kept), is_there = is_kept && s->is_there[chunk];
        int16_t **blocks = is_there ? kept : own;
        if (!is_there) transform_inputs_to_ints(s, tiles, first_group, groups, own, is_kept ? kept : 0);
        /* The chunk that comes next lies in planes or is kept, whole; then half a chunk fetches twice as much. */
        const Step *after = is_last ? then : s;
        Tiles others = is_last ? next : tiles;
        int other = is_last ? 0 : chunk + 1, others_left = is_last ? then->groups_in : left;
        int is_coming = after->is_there[other] && find_blocks(after, others, other, coming);
        int more = is_coming && groups <= CHUNK_GROUPS / 2 ? depth / 2 * GROUP : 0;
        Walk ahead = begin_walk(after, others, other * CHUNK_GROUPS, least(CHUNK_GROUPS, others_left));
        for (int panel = 0; panel < panels; panel++) {
            float *sums = m + (chunks > 1 ? panel * count * M_BLOCK : 0);  /* with one chunk, all panels share them */
            for (int f = 0; f < 36; f++, u += depth * PANEL, scales += PANEL)
                for (int block = 0; block < count; block++) {
                    const float *fetched = !is_coming ? walk(&ahead, depth / 2) :
                        (float *)(coming[least(block, others.count - 1)] + f * V_INT_PART);
                    multiply_ints(tiles.run > 1 ? tiles.run : TILES, blocks[block] + f * V_INT_PART, u,
                                  sums + block * M_BLOCK + f * M_PART, depth, chunk > 0, fetched, more, scales,
                                  chunks > 1 ? tile_scales(blocks[block]) : 0);
                }
            if (is_last) transform_outputs(s, tiles, panel, sums, POINTS_OF_INTS, chunks > 1 ? 0 : blocks);
        }
    }
}
#endif

/* Works on a task. Meanwhile what the next one reads is fetched into the cache. */
static void convolve(const Step *s, Tiles tiles, const Step *then, Tiles next, float *scratch) {
#ifdef HAS_INTS
    if (s->scales) {
        convolve_ints(s, tiles, then, next, scratch);
        return;
    }
#endif
    int blocks = divide_up(tiles.count, TILES), panels = divide_up(s->groups_out * GROUP, PANEL);
    int chunks = divide_up(s->groups_in, CHUNK_GROUPS), chunk_groups = divide_up(s->groups_in, chunks);
    float *v = scratch, *m = scratch + s->task_tiles / TILES * V_BLOCK;
    const float *u = s->weights;

    for (int chunk = 0; chunk < chunks; chunk++) {
        int first_group = chunk * chunk_groups, groups = least(chunk_groups, s->groups_in - first_group);
        int depth = groups * GROUP, left = s->groups_in - first_group - groups;
        transform_inputs(s, tiles, first_group, groups, v);
        Walk ahead = left ? begin_walk(s, tiles, first_group + groups, least(chunk_groups, left))
                          : begin_walk(then, next, 0, least(CHUNK_GROUPS, then->groups_in));
        for (int panel = 0; panel < panels; panel++) {
            float *sums = m + (chunks > 1 ? panel * blocks * M_BLOCK : 0);  /* with one chunk, all panels share them */
            for (int f = 0; f < 36; f++, u += depth * PANEL)
                for (int block = 0; block < blocks; block++)
                    multiply(v + block * V_BLOCK + f * V_PART, u, sums + block * M_BLOCK + f * M_PART, depth, chunk > 0,
                             walk(&ahead, depth / 2));
            if (!left) transform_outputs(s, tiles, panel, sums, POINTS, 0);
        }
    }
}

/* ---- pixels ---- */

/* Turns rows of pixels, BGR, into planes of RGB in 0..1. A block of pixels becomes the channels of one
 * (pixel-unshuffle): channel = (colour * block + row in the block) * block + column. All other channels stay zero. */
INLINE void load_rows(const Step *s, int y, int end, int block) {
    int64_t line = s->line, down = s->turned ? 3 * block : block * line, right = s->turned ? block * line : 3 * block;
    for (; y < end; y++)
        for (int x = 0; x < s->width; x++)
            for (int channel = 0; channel < 3 * block * block; channel++) {
                int colour = channel / (block * block), row = channel / block % block, column = channel % block;
                int64_t from = y * down + x * right + row * line + column * 3 + 2 - colour;
                s->out[channel / GROUP * s->out_plane + y % s->out_ring * s->out_row + x * GROUP + channel % GROUP] =
                    s->is_float ? ((const float *)s->pixels)[from] : ((const uint8_t *)s->pixels)[from] / 255.f;
            }
}

/* The reverse, with `base` added; values are clamped, and rounded half to even. Returns whether all were finite. */
INLINE int store_rows(const Step *s, int y, int end, int block, int is_float) {
    int64_t line = s->line, down = s->turned ? 3 * block : block * line, right = s->turned ? block * line : 3 * block;
    int area = block * block;
    float zero[MOST_BLOCK * MOST_BLOCK];  /* stay so as long as all values are finite */
    for (int i = 0; i < area; i++) zero[i] = 0;
    for (; y < end; y++) {
        int64_t in = y % s->in_ring[0] * s->in_row;
        const float *added = s->base ? s->base + y % s->base_ring * s->base_row : 0;
        for (int x = 0; x < s->width; x++)
            for (int colour = 0; colour < 3; colour++) {
                float base = added ? added[x * GROUP + colour] : 0;
                float values[MOST_BLOCK * MOST_BLOCK];
                uint8_t bytes[MOST_BLOCK * MOST_BLOCK];
                for (int i = 0; i < area; i++) {  /* a loop that compilers turn into vectors */
                    int channel = colour * area + i;
                    float value = s->in[channel / GROUP][in + x * GROUP + channel % GROUP] + base;
                    zero[i] += value - value;
                    values[i] = value > 0 ? value < 1 ? value : 1 : 0;
                    bytes[i] = (uint8_t)(int)__builtin_rintf(values[i] * 255.f);
                }
                int64_t to = y * down + x * right + 2 - colour;
                for (int i = 0; i < area; i++) {
                    int64_t pixel = to + i / block * line + i % block * 3;
                    if (is_float) ((float *)s->pixels)[pixel] = values[i];
                    else ((uint8_t *)s->pixels)[pixel] = bytes[i];
                }
            }
    }
    float sum = 0;
    for (int i = 0; i < area; i++) sum += zero[i];
    return sum == 0;
}

static void load_band(const Step *s, int y, int end) {
    if (s->block == 1) load_rows(s, y, end, 1);  /* the usual cases, with loops of known length */
    else load_rows(s, y, end, s->block);
}

static int store_band(const Step *s, int y, int end) {
    if (s->is_float) return store_rows(s, y, end, s->block, 1);
    if (s->block == 1) return store_rows(s, y, end, 1, 0);
    if (s->block == 4) return store_rows(s, y, end, 4, 0);
    return store_rows(s, y, end, s->block, 0);
}

/* ---- threads ---- */

/* Waits until a step has done its first `rows` rows of tiles, in the columns of tiles left..right. Returns 0 if the run
 * is stopped meanwhile. */
static int wait_for_rows(const Program *p, const Step *s, int rows, int left, int right) {
    rows = least(rows, divide_up(s->height, 4));
    if (rows <= 0) return 1;
    int wave = divide_up(rows + s->lag, s->advance) - 1;  /* after which they are done */
    int top = find_end(s, wave - 1), end = find_end(s, wave), wide = divide_up(s->width, 4);
    const int32_t *done = s->done;
    for (; top < rows; top += s->band_rows, done += count_tasks(s, s->band_rows)) {
        int band_rows = least(s->band_rows, end - top), first = 0, last = 0;
        if (s->kind == CONVOLVE) {
            first = (left > 0 ? left : 0) / s->run * band_rows / s->task_runs;
            last = ((least(right, wide - 1) / s->run + 1) * band_rows - 1) / s->task_runs;
        }
        for (int task = first; task <= last; task++)
            for (int spins = 0; __atomic_load_n(done + task, __ATOMIC_ACQUIRE) <= wave; spins++) {
                if (__atomic_load_n(&p->stop, __ATOMIC_RELAXED)) return 0;
                if (spins < SPINS) pause_briefly();
                else p->yield();
            }
    }
    return 1;
}

/* Waits for all that a task needs. */
static int wait_for_others(const Program *p, const Job *job, Tiles tiles) {
    const Step *s = job->step;
    int end = tiles.top + tiles.rows, left = find_left(s, tiles) >> 2, right = find_right(s, tiles) >> 2;
    if (!wait_for_rows(p, s, job->top, 0, s->width)) return 0;
    for (const Wait *wait = s->waits; wait < s->waits + s->wait_count; wait++) {
        const Step *other = p->steps + wait->step;
        int rows = end > wait->behind ? ((end - wait->behind) << wait->up >> wait->down) + wait->more : 0;
        if (!wait_for_rows(p, other, rows, wait->columns ? left : 0, wait->columns ? right : other->width)) return 0;
    }
    return 1;
}

INLINE int64_t take_ticket(Program *p) { return __atomic_fetch_add(&p->next_ticket, 1, __ATOMIC_RELAXED); }

/* Works on a program until no ticket is left. Any number of threads call this at once, each with scratch memory of its
 * own: realesrgan_scratch_floats(). */
void realesrgan_run(Program *p, float *scratch) {
    Job job = {0}, then;
    int64_t ticket = take_ticket(p), next;
    begin_job(&job, p->steps);
    int more = find_job(p, &job, ticket);
    for (; more && !__atomic_load_n(&p->stop, __ATOMIC_RELAXED); job = then, ticket = next) {
        const Step *s = job.step;
        Tiles tiles = find_tiles(&job, ticket);
        int first = 4 * tiles.top, end = least(first + 4 * tiles.rows, s->height);
        next = take_ticket(p), then = job, more = find_job(p, &then, next);
        if (!wait_for_others(p, &job, tiles)) return;
        if (s->kind == LOAD) load_band(s, first, end);
        else if (s->kind == STORE) {
            if (!store_band(s, first, end)) __atomic_store_n(&p->not_finite, 1, __ATOMIC_RELAXED);
        } else {
            int goes_on = more && then.step->kind == CONVOLVE;
            convolve(s, tiles, goes_on ? then.step : s, goes_on ? find_tiles(&then, next) : tiles, scratch);
        }
        finish_stores();
        __atomic_store_n(s->done + (ticket - job.first_ticket), job.wave + 1, __ATOMIC_RELEASE);
    }
}

/* Returns the tickets of all segments. */
int64_t realesrgan_count_tickets(const Program *p) {
    Job job = {0};
    begin_job(&job, p->steps);
    find_job(p, &job, INT64_MAX);
    return job.first_ticket;
}

/* What the Python side must know of the build. */
int32_t realesrgan_step_bytes(void) { return sizeof(Step); }
int32_t realesrgan_task_tiles(void) { return TILES; }
int32_t realesrgan_panel(void) { return PANEL; }
int32_t realesrgan_kept_floats(void) { return V_INT_BLOCK / 2; }  /* of a run */
int64_t realesrgan_scratch_floats(int32_t task_tiles, int32_t groups_out) {
    int panels = divide_up(groups_out * GROUP, PANEL);
    return task_tiles / TILES * (V_BLOCK + (int64_t)M_BLOCK * panels);
}

/* ---- weights of int16 ---- */

#ifdef HAS_INTS
/* out = G in */
INLINE void apply_g(const vector in[3], vector out[6], Points at) {
    const float p2 = at.p * at.p, q2 = at.q * at.q;
    vector even = (in[0] + p2 * in[2]) / (2 * p2 * (p2 - q2)), odd = in[1] / (2 * at.p * (p2 - q2));
    vector even2 = (in[0] + q2 * in[2]) / (2 * q2 * (q2 - p2)), odd2 = in[1] / (2 * at.q * (q2 - p2));
    out[0] = in[0] / (p2 * q2);
    out[1] = even + odd;
    out[2] = even - odd;
    out[3] = even2 + odd2;
    out[4] = even2 - odd2;
    out[5] = in[2];
}

/* Transforms VECTOR kernels, whose 9 values lie `stride` floats apart. */
static void transform_kernel(const float *kernel, int64_t stride, vector out[36]) {
    vector half[6][3];
    for (int x = 0; x < 3; x++) {
        vector column[3], turned[6];
        for (int y = 0; y < 3; y++) column[y] = load(kernel + (3 * y + x) * stride);
        apply_g(column, turned, POINTS_OF_INTS);
        for (int y = 0; y < 6; y++) half[y][x] = turned[y];
    }
    for (int y = 0; y < 6; y++) apply_g(half[y], out + 6 * y, POINTS_OF_INTS);
}

/* a where the mask is set, else b. */
INLINE vector select(ints mask, vector a, vector b) { return (vector)((mask & (ints)a) | (~mask & (ints)b)); }
#endif

/* Transforms and rounds the weights of one chunk and panel. kernels: 9 x depth x PANEL; depth: channels, a multiple of
 * 32. u, scales: as `Step` has them. Every scale is the least with which values fit, and no sum overflows even if all of
 * V is as large as it can be. */
void realesrgan_round_weights(const float *kernels, int32_t depth, int16_t *u, float *scales) {
#ifdef HAS_INTS
    /* Rounding adds at most a half to each of `depth` values, and summing them in floats less. */
    const float most = INT16_MAX, most_together = INT32_MAX / LARGEST_VALUE - depth;
    for (int c = 0; c < PANEL; c += VECTOR) {
        vector low[36], high[36], largest[36] = {}, sums[36] = {}, finest[36];
        for (int k = 0; k < depth; k++) {
            transform_kernel(kernels + k * PANEL + c, depth * PANEL, low);
            for (int f = 0; f < 36; f++) {
                vector size = (vector)((ints)low[f] & INT32_MAX);
                largest[f] = select(size > largest[f], size, largest[f]);
                sums[f] += size;
            }
        }
        for (int f = 0; f < 36; f++) {  /* NaN, which is in the sum, becomes the scale and so the result */
            vector scale = sums[f] / most_together;
            scale = select(largest[f] / most > scale, largest[f] / most, scale);
            store(scales + f * PANEL + c, scale);
            finest[f] = 1 / select(scale > 0, scale, 1 - (vector){});
        }
        for (int k = 0; k < depth; k += k % GROUP == GROUP - 1 ? GROUP + 1 : 1) {
            transform_kernel(kernels + k * PANEL + c, depth * PANEL, low);
            transform_kernel(kernels + (k + GROUP) * PANEL + c, depth * PANEL, high);
            int pair = k / (2 * GROUP) * GROUP + k % GROUP;
            for (int f = 0; f < 36; f++)
                *(ints *)(u + ((f * depth / 2 + pair) * PANEL + c) * 2) = pair_up(low[f], high[f], finest[f]);
        }
    }
#else
    (void)kernels, (void)depth, (void)u, (void)scales;
#endif
}

int32_t realesrgan_has_ints(void) {
#ifdef HAS_INTS
    return 1;
#else
    return 0;
#endif
}

/* Of this file, so that a library of another version is recognised. */
#ifndef SOURCE_HASH
#define SOURCE_HASH "unknown"
#endif
const char *realesrgan_source_hash(void) { return SOURCE_HASH; }
