#include "frame.h"

#include <stdlib.h>
#include <string.h>

void pl_frame_init(struct pl_frame *f, size_t max)
{
        memset(f, 0, sizeof *f);
        f->max = max;
}

void pl_frame_clear(struct pl_frame *f)
{
        free(f->data);
        pl_frame_init(f, f->max);
}

size_t pl_frame_reserve(struct pl_frame *f, size_t want, char **out)
{
        size_t used = f->end - f->start, cap;
        char *grown;

        if (used == 0)
                f->start = f->end = 0;
        if (f->start > 0) {
                memmove(f->data, f->data + f->start, used);
                f->start = 0;
                f->end = used;
        }
        if (f->cap - f->end < want) {
                for (cap = f->cap == 0 ? 1024 : f->cap; cap - f->end < want; cap *= 2)
                        ;
                grown = realloc(f->data, cap);
                if (grown == NULL && f->cap == f->end)
                        return 0;
                if (grown != NULL) {
                        f->data = grown;
                        f->cap = cap;
                }
        }
        *out = f->data + f->end;
        return f->cap - f->end < want ? f->cap - f->end : want;
}

void pl_frame_commit(struct pl_frame *f, size_t len)
{
        f->end += len;
}

enum pl_frame_result pl_frame_next(struct pl_frame *f, char **line, size_t *len)
{
        size_t have = f->end - f->start;
        char *begin, *lf;

        if (have == 0)
                return PL_FRAME_NONE;
        begin = f->data + f->start;
        lf = have > f->scanned ? memchr(begin + f->scanned, '\n', have - f->scanned) : NULL;
        if (lf == NULL) {
                f->scanned = have;
                if (have > f->max || f->discarding) {
                        /* Only its end is still of interest. */
                        f->discarding = true;
                        f->start = f->end = f->scanned = 0;
                }
                return PL_FRAME_NONE;
        }
        *line = begin;
        *len = (size_t)(lf - begin);
        *lf = '\0';
        f->start += *len + 1;
        f->scanned = 0;
        if (f->discarding || *len > f->max) {
                f->discarding = false;
                return PL_FRAME_TOO_LONG;
        }
        return PL_FRAME_LINE;
}

bool pl_frame_is_empty(const struct pl_frame *f)
{
        return f->start == f->end;
}
