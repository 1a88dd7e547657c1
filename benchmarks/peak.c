/* The kernel's matrix product on its own, and the most that the processor's instructions can do; for `peak.py`. */
#include "winograd.c"

enum { SUMS = TILES * PANEL_VECTORS, DEPTH = CHUNK_GROUPS * GROUP };

/* Multiplies and adds in registers, `rounds` times SUMS * VECTOR products. Returns a value that depends on all. */
static float add_floats(int64_t rounds) {
    vector sums[SUMS] = {}, factor = 1 - (vector){};
    for (int64_t i = 0; i < rounds; i++)
        UNROLL for (int j = 0; j < SUMS; j++) {
            sums[j] += factor * factor;
            __asm__("" : "+v"(sums[j]), "+v"(factor));  /* or the compiler would add up beforehand */
        }
    vector all = {};
    UNROLL for (int j = 0; j < SUMS; j++) all += sums[j];
    return all[0];
}

/* The same with pairs of int16. */
static float add_ints(int64_t rounds) {
    ints sums[SUMS] = {}, pairs = 1 - (ints){};
#ifdef HAS_INTS
    for (int64_t i = 0; i < rounds; i++)
        UNROLL for (int j = 0; j < SUMS; j++) sums[j] = add_products(sums[j], pairs, pairs);
#endif
    ints all = pairs;
    UNROLL for (int j = 0; j < SUMS; j++) all += sums[j];
    return (float)all[0];
}

float peak_registers(int64_t rounds, int is_int) { return is_int ? add_ints(rounds) : add_floats(rounds); }

/* What `convolve` multiplies for one panel of 64 channels, `rounds` times. */
void peak_products(int64_t rounds, int blocks, const float *v, const float *u, float *m, int is_int) {
    (void)is_int;
    for (int64_t i = 0; i < rounds; i++)
        for (int f = 0; f < 36; f++)
            for (int block = 0; block < blocks; block++) {
                int64_t tile = ((int64_t)f * blocks + block) * TILES;
#ifdef HAS_INTS
                if (is_int) {
                    multiply_ints((const int16_t *)v + tile * DEPTH, (const int16_t *)u + f * DEPTH * PANEL,
                                  m + tile * PANEL, DEPTH, 0, v, u, 0);
                    continue;
                }
#endif
                multiply(v + tile * DEPTH, u + f * DEPTH * PANEL, m + tile * PANEL, DEPTH, 0, v);
            }
}
