/*
 * Frames: however a stream is cut into reads, the lines that come out are those that a look at the whole stream finds. The first byte is the longest line
 * allowed, the second says how it is cut.
 */
#include "frame.h"
#include "fuzz.h"

/* The line at `at`, as the whole stream shows it; its length, or none. */
static int next_line(const uint8_t *data, size_t size, size_t at, size_t *len)
{
        const uint8_t *lf = at < size ? memchr(data + at, '\n', size - at) : NULL;

        *len = lf != NULL ? (size_t)(lf - data) - at : size - at;
        return lf != NULL;
}

/* Everything that is whole; `at` is how far the stream has been accounted for. */
static void take_lines(struct pl_frame *f, const uint8_t *data, size_t size, size_t *at, int *told_long)
{
        enum pl_frame_result r;
        size_t len, expected;
        char *line;
        int whole;

        while ((r = pl_frame_next(f, &line, &len)) != PL_FRAME_NONE) {
                if (*told_long) {       /* reported before its LF had come */
                        fuzz_check(next_line(data, size, *at, &expected), "a line after the last LF");
                        *at += expected + 1;
                        *told_long = 0;
                }
                whole = next_line(data, size, *at, &expected);
                if (r == PL_FRAME_TOO_LONG) {
                        fuzz_check(expected > f->max, "a line is said to be too long and is not");
                        *told_long = 1;
                        continue;
                }
                fuzz_check(whole, "a line without LF");
                fuzz_check(expected <= f->max, "a line is too long and was let through");
                fuzz_check(len == expected && memcmp(line, data + *at, len) == 0, "a line differs from what was sent");
                fuzz_check(line[len] == '\0', "a line does not end with NUL");
                *at += expected + 1;
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        size_t done = 0, at = 0, cut, expected, n;
        struct pl_frame f;
        int told_long = 0;
        char *room;

        if (size < 2)
                return 0;
        pl_frame_init(&f, 1 + data[0]);
        cut = 1 + data[1] % 64;
        data += 2;
        size -= 2;
        while (done < size) {
                n = pl_frame_reserve(&f, cut, &room);
                fuzz_check(n > 0 && n <= cut, "no room, or more than was asked for");
                if (n > size - done)
                        n = size - done;
                memcpy(room, data + done, n);
                pl_frame_commit(&f, n);
                done += n;
                take_lines(&f, data, done, &at, &told_long);
                cut = 1 + (cut * 7 + 3) % 64;
        }
        if (told_long) {
                fuzz_check(!next_line(data, size, at, &expected) || at + expected + 1 >= size || !memchr(data + at + expected + 1, '\n', size - at - expected - 1),
                           "whole lines were held back");
        } else if (next_line(data, size, at, &expected)) {
                fuzz_check(0, "a whole line was held back");
        }
        pl_frame_clear(&f);
        return 0;
}
