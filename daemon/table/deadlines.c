/* Requests by the time at which something is due: a binary heap, in which each knows its place. */
#include "internal.h"

#include <stdlib.h>

int64_t request_due(const struct request *q)
{
        return q->retry_ms < q->deadline_ms ? q->retry_ms : q->deadline_ms;
}

bool heap_reserve(struct table *t)
{
        struct request **grown;
        size_t cap;

        /* Every waiting request may enter: keep a place for each. */
        if (t->counts.waiting + t->heap_count + 2 < t->heap_cap)
                return true;
        cap = t->heap_cap == 0 ? 64 : t->heap_cap * 2;
        grown = realloc(t->heap, cap * sizeof(*grown));
        if (grown == NULL)
                return false;
        t->heap = grown;
        t->heap_cap = cap;
        return true;
}

static void place(struct table *t, size_t i, struct request *q)
{
        t->heap[i] = q;
        q->heap_index = (uint32_t)i;
}

static void sift(struct table *t, size_t i, struct request *q)
{
        while (i > 1 && request_due(q) < request_due(t->heap[i / 2])) {
                place(t, i, t->heap[i / 2]);
                i /= 2;
        }
        for (;;) {
                size_t child = 2 * i;

                if (child > t->heap_count)
                        break;
                if (child < t->heap_count && request_due(t->heap[child + 1]) < request_due(t->heap[child]))
                        child++;
                if (request_due(t->heap[child]) >= request_due(q))
                        break;
                place(t, i, t->heap[child]);
                i = child;
        }
        place(t, i, q);
}

void heap_remove(struct table *t, struct request *q)
{
        size_t i = q->heap_index;
        struct request *last;

        if (i == 0)
                return;
        last = t->heap[t->heap_count--];
        if (last != q)
                sift(t, i, last);
        q->heap_index = 0;
}

void heap_update(struct table *t, struct request *q)
{
        heap_remove(t, q);
        if (request_due(q) != TABLE_NEVER)
                sift(t, ++t->heap_count, q);
}
