/*
 * Past the bound of threads a wait is tried again and again, at first after a millisecond, then ever more seldom, down to once in about a second, and
 * not all in step. They stand in a heap by the time of their next try, so that thousands of them cost nothing in between.
 */
#include "oslock_internal.h"

#include <stdlib.h>

#define CANCEL_REPEAT_MS 2
#define RETRY_MAX_MS 1000
#define RETRY_GRAIN_MS 16       /* the seldom ones are tried in groups: each wake-up of the loop costs more than a try */
#define RETRIES_PER_TURN 256

/* ---- the heap: parents are due before their children ---- */

static void heap_put(struct oslock_pool *p, size_t i, struct wait *w)
{
        p->heap[i] = w;
        w->heap_index = i;
}

static void heap_up(struct oslock_pool *p, size_t i, struct wait *w)
{
        while (i > 0 && p->heap[(i - 1) / 2]->due_ms > w->due_ms) {
                heap_put(p, i, p->heap[(i - 1) / 2]);
                i = (i - 1) / 2;
        }
        heap_put(p, i, w);
}

static void heap_down(struct oslock_pool *p, size_t i, struct wait *w)
{
        size_t child;

        while ((child = 2 * i + 1) < p->heap_count) {
                if (child + 1 < p->heap_count && p->heap[child + 1]->due_ms < p->heap[child]->due_ms)
                        child++;
                if (p->heap[child]->due_ms >= w->due_ms)
                        break;
                heap_put(p, i, p->heap[child]);
                i = child;
        }
        heap_put(p, i, w);
}

static void heap_add(struct oslock_pool *p, struct wait *w)
{
        heap_up(p, p->heap_count++, w);
}

void retry_remove(struct oslock_pool *p, struct wait *w)
{
        struct wait *last = p->heap[--p->heap_count];
        size_t i = w->heap_index;

        if (last == w)
                return;
        if (i > 0 && p->heap[(i - 1) / 2]->due_ms > last->due_ms)
                heap_up(p, i, last);
        else
                heap_down(p, i, last);
}

bool retry_reserve(struct oslock_pool *p)
{
        size_t cap = p->heap_cap == 0 ? 64 : p->heap_cap * 2;
        struct wait **grown;

        if (p->retrying < p->heap_cap)
                return true;
        grown = realloc(p->heap, cap * sizeof(*grown));
        if (grown == NULL)
                return false;
        p->heap = grown;
        p->heap_cap = cap;
        return true;
}

/* ---- waits without a thread ---- */

static void on_timer(uv_timer_t *timer);

void retry_set_timer(struct oslock_pool *p)
{
        int64_t now = (int64_t)uv_now(p->loop), at = INT64_MAX;

        if (p->heap_count > 0)
                at = p->heap[0]->due_ms;
        if (!TAILQ_EMPTY(&p->cancelling) && now + CANCEL_REPEAT_MS < at)
                at = now + CANCEL_REPEAT_MS;
        if (at == INT64_MAX)
                uv_timer_stop(&p->timer);
        else
                uv_timer_start(&p->timer, on_timer, at > now ? (uint64_t)(at - now) : 1, 0);
}

/* Three quarters to five quarters of the step. */
static int64_t due_after(struct oslock_pool *p, int step_ms)
{
        int64_t due = (int64_t)uv_now(p->loop) + step_ms;

        if (step_ms < 4)
                return due;
        p->random = p->random * 1103515245u + 12345u;
        due += (int64_t)(p->random >> 16) % (step_ms / 2) - step_ms / 4;
        if (step_ms >= 8 * RETRY_GRAIN_MS)
                due = (due + RETRY_GRAIN_MS - 1) / RETRY_GRAIN_MS * RETRY_GRAIN_MS;
        return due;
}

void retry_put_off(struct oslock_pool *p, struct wait *w)
{
        w->state = WAIT_DUE;
        w->due_ms = due_after(p, w->step_ms);
        if (w->step_ms < RETRY_MAX_MS)
                w->step_ms = w->step_ms * 2 < RETRY_MAX_MS ? w->step_ms * 2 : RETRY_MAX_MS;
        heap_add(p, w);
}

void retry_make_ready(struct oslock_pool *p, struct wait *w, enum oslock_result result, int error)
{
        w->state = WAIT_READY;
        w->result = result;
        w->error = error;
        STAILQ_INSERT_TAIL(&p->ready, w, ready);
        pool_tell_self(p);
}

static void tried(struct oslock_pool *p, struct wait *w, enum oslock_result result, int error)
{
        if (result != OSLOCK_BUSY)
                retry_make_ready(p, w, result, error);
        else if (w->cancelled_here)
                retry_make_ready(p, w, OSLOCK_CANCELLED, 0);
        else
                retry_put_off(p, w);
}

static void retry(struct oslock_pool *p, struct wait *w)
{
        enum oslock_result result;
        int error = 0;

        retry_remove(p, w);
        p->tries++;
        if (p->elsewhere == NULL) {
                result = oslock_try(w->fd, w->mode, &error);
                tried(p, w, result, error);
                return;
        }
        w->state = WAIT_ELSEWHERE;
        if (p->elsewhere(p->arg, w->op, w->fd, w->mode, w->user) != 0)
                tried(p, w, OSLOCK_BUSY, 0);
}

static void on_timer(uv_timer_t *timer)
{
        struct oslock_pool *p = timer->data;
        int64_t now = (int64_t)uv_now(p->loop);
        struct wait *w;
        int i;

        TAILQ_FOREACH(w, &p->cancelling, entry)
                threads_interrupt(p, w);
        for (i = 0; i < RETRIES_PER_TURN && p->heap_count > 0 && p->heap[0]->due_ms <= now; i++)
                retry(p, p->heap[0]);
        retry_set_timer(p);
}

void oslock_pool_tried(struct oslock_pool *p, uint64_t op, enum oslock_result result, int error)
{
        struct wait *w;

        HASH_FIND(hh, p->waits, &op, sizeof op, w);
        if (w == NULL || w->state != WAIT_ELSEWHERE)
                return;
        tried(p, w, result, error);
        retry_set_timer(p);
}
