/* Each digit is some of seven strokes, turned, slanted, stretched, moved and drawn with a soft pen on a noisy ground.
 */
#include "digits.h"

#include <math.h>
#include <stdint.h>

/* A linear congruential generator (Knuth 1981, MMIX): the high bits. */
static float uniform(uint64_t *state, float low, float high) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return low + (high - low) * (float)(*state >> 40) * 0x1p-24f;
}

/* The strokes' ends in a square from -1 to 1, y downward: top, upper right, lower right, bottom, lower left, upper
 * left, middle. */
static const float strokes[7][4] = {{-0.6f, -1, 0.6f, -1}, {0.6f, -1, 0.6f, 0},  {0.6f, 0, 0.6f, 1},
                                    {-0.6f, 1, 0.6f, 1},   {-0.6f, 0, -0.6f, 1}, {-0.6f, -1, -0.6f, 0},
                                    {-0.6f, 0, 0.6f, 0}};
static const unsigned strokes_of[10] = {0x3f, 0x06, 0x5b, 0x4f, 0x66, 0x6d, 0x7d, 0x07, 0x7f, 0x6f};

/* Distance of a point from a stroke. */
static float distance(const float s[4], float x, float y) {
    const float dx = s[2] - s[0], dy = s[3] - s[1], along = ((x - s[0]) * dx + (y - s[1]) * dy) / (dx * dx + dy * dy);
    const float at = along < 0 ? 0 : along > 1 ? 1 : along;
    const float ex = x - s[0] - at * dx, ey = y - s[1] - at * dy;
    return sqrtf(ex * ex + ey * ey);
}

static void draw(uint64_t *state, int digit, float *image) {
    const float turn = uniform(state, -0.2f, 0.2f), slant = uniform(state, -0.2f, 0.2f);
    const float wide = uniform(state, 0.8f, 1.2f), high = uniform(state, 0.9f, 1.2f);
    const float right = uniform(state, -0.2f, 0.2f), down = uniform(state, -0.2f, 0.2f);
    const float pen = uniform(state, 0.15f, 0.3f), ink = uniform(state, 0.6f, 1);
    for (int p = 0; p < DIGIT_PIXELS; p++) {
        /* From the image back to the square. */
        const float u = ((float)(p % DIGIT_SIDE) + 0.5f) * 3 / DIGIT_SIDE - 1.5f - right;
        const float v = ((float)(p / DIGIT_SIDE) + 0.5f) * 3 / DIGIT_SIDE - 1.5f - down;
        const float x = (u - turn * v) * wide, y = (v + turn * u) * high;
        float light = 0;
        for (int s = 0; s < 7; s++) {
            if (!(strokes_of[digit] >> s & 1)) continue;
            const float edge = 1 - (distance(strokes[s], x + slant * y, y) - pen) / 0.25f;
            light = edge > light ? edge : light;
        }
        const float value = ink * (light > 1 ? 1 : light) + uniform(state, -0.3f, 0.3f);
        image[p] = value < 0 ? 0 : value > 1 ? 1 : value;
    }
}

void digits_draw(unsigned seed, int count, float *images, int *labels) {
    uint64_t state = seed;
    for (int i = 0; i < count; i++) {
        labels[i] = (int)uniform(&state, 0, 10);
        draw(&state, labels[i], images + (size_t)i * DIGIT_PIXELS);
    }
}
