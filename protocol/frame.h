/*
 * Bytes in, whole lines out. A stream has no message borders; a frame finds the LFs and bounds a line.
 *
 * A line longer than the maximum is discarded up to its LF and reported once as FRAME_TOO_LONG, in its
 * place among the others. Bytes behind the last LF are kept for the next push and never become a line.
 */
#ifndef PL_FRAME_H
#define PL_FRAME_H

#include <stdbool.h>
#include <stddef.h>

struct pl_frame {
        char *data;     /* owned; [start, end) is not yet consumed */
        size_t start, end, cap;
        size_t scanned; /* bytes of [start, end) known to hold no LF */
        size_t max;
        bool discarding;
};

enum pl_frame_result { PL_FRAME_NONE = 0, PL_FRAME_LINE = 1, PL_FRAME_TOO_LONG = 2 };

/* `max`: longest line in bytes, without its LF. Allocates nothing. */
void pl_frame_init(struct pl_frame *f, size_t max);
void pl_frame_clear(struct pl_frame *f);

/* Room for at least one and at most `want` bytes at *out; returns how many, 0 when out of memory. */
size_t pl_frame_reserve(struct pl_frame *f, size_t want, char **out);

/* `len` bytes were written into the reserved room. */
void pl_frame_commit(struct pl_frame *f, size_t len);

/* Next whole line, without LF (a CR before it is part of the line) and NUL-terminated in place; valid until the next reserve. */
enum pl_frame_result pl_frame_next(struct pl_frame *f, char **line, size_t *len);

/* Nothing is left, not even part of a line. */
bool pl_frame_is_empty(const struct pl_frame *f);

#endif
