/* Resizing pictures of 8 bits by Lanczos's filter of eight taps, with the bits of OpenCV's INTER_LANCZOS4.
 *
 * Weights are integers, a 1 being 2048 of them. Sums are exact, and rounded only once, so that the order of the two
 * directions changes no bit. Rows are resized first, because that is the one with long vectors, and only for the rows of
 * the result; a line of sums stays in the cache. Beyond its borders a picture's last pixel is repeated.
 */
#include <stdint.h>

enum { TAPS = 8, LANES = 4, SHIFT = 22 /* 2048 * 2048 */ };

typedef int32_t four __attribute__((vector_size(4 * LANES), aligned(4)));

typedef struct {
    int32_t first;           /* the pixel of the first tap, from -TAPS on */
    int32_t weights[TAPS];
} Taps;

/* Computes the rows of the result from `first` up to `end`.
 *
 * picture, out: rows of pixels of at most LANES channels, without gaps; rows, columns: the taps of each row and column of
 * the result; line: (width + 2 * TAPS) * channels + LANES values. */
void realesrgan_resize(const uint8_t *picture, int32_t height, int32_t width, int32_t channels, uint8_t *out,
                       int32_t out_width, const Taps *rows, const Taps *columns, int32_t first, int32_t end,
                       int32_t *line) {
    const int32_t margin = TAPS * channels, values = width * channels;
    int32_t *sums = line + margin;
    out += first * (int64_t)out_width * channels;
    for (int32_t y = first; y < end; y++) {
        const uint8_t *taps[TAPS];
        int32_t weights[TAPS];
        for (int k = 0; k < TAPS; k++) {
            int32_t row = rows[y].first + k;
            taps[k] = picture + (int64_t)(row < 0 ? 0 : row < height ? row : height - 1) * values;
            weights[k] = rows[y].weights[k];
        }
        for (int32_t i = 0; i < values; i++) {
            int32_t sum = 0;
            for (int k = 0; k < TAPS; k++) sum += weights[k] * taps[k][i];
            sums[i] = sum;
        }
        for (int32_t i = 0; i < margin; i++) {
            line[i] = sums[i % channels];
            sums[values + i] = sums[values - channels + i % channels];
        }
        for (int32_t x = 0; x < out_width; x++, out += channels) {
            const int32_t *pixel = sums + (int64_t)columns[x].first * channels;
            four sum = {};
            for (int k = 0; k < TAPS; k++) sum += columns[x].weights[k] * *(const four *)(pixel + k * channels);
            sum = (sum + (1 << (SHIFT - 1))) >> SHIFT;
            for (int c = 0; c < channels; c++) out[c] = (uint8_t)(sum[c] < 0 ? 0 : sum[c] > 255 ? 255 : sum[c]);
        }
    }
}
