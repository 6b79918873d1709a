/* Requests by the time at which something is due: a binary heap, in which each knows its place. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

bool heap_reserve(struct table *t)
{
        struct due *grown;
        size_t cap;

        /* Every waiting request may enter: keep a place for each. */
        if (t->counts.waiting + t->heap_count + 2 < t->heap_cap)
                return true;
        cap = t->heap_cap == 0 ? 64 : t->heap_cap * 2;
        grown = malloc(cap * sizeof(*grown));   /* realloc(3) would copy, and so take memory for, places that nobody has yet */
        if (grown == NULL)
                return false;
        if (t->heap_count > 0)
                memcpy(grown, t->heap, (t->heap_count + 1) * sizeof *grown);
        free(t->heap);
        t->heap = grown;
        t->heap_cap = cap;
        return true;
}

static void place(struct table *t, size_t i, struct due due)
{
        t->heap[i] = due;
        due.request->due_index = (uint32_t)i;
}

static void sift(struct table *t, size_t i, struct due due)
{
        while (i > 1 && due.at_ms < t->heap[i / 2].at_ms) {
                place(t, i, t->heap[i / 2]);
                i /= 2;
        }
        for (;;) {
                size_t child = 2 * i;

                if (child > t->heap_count)
                        break;
                if (child < t->heap_count && t->heap[child + 1].at_ms < t->heap[child].at_ms)
                        child++;
                if (t->heap[child].at_ms >= due.at_ms)
                        break;
                place(t, i, t->heap[child]);
                i = child;
        }
        place(t, i, due);
}

void heap_remove(struct table *t, struct request *q)
{
        size_t i = q->due_index;
        struct due last;

        if (i == 0)
                return;
        last = t->heap[t->heap_count--];
        if (last.request != q)
                sift(t, i, last);
        q->due_index = 0;
}

void heap_update(struct table *t, struct request *q, int64_t at_ms)
{
        heap_remove(t, q);
        if (at_ms != TABLE_NEVER)
                sift(t, ++t->heap_count, (struct due){.at_ms = at_ms, .request = q});
}
