/*
 * Waits for LockFileEx. A thread in a blocking call cannot be relied on to be cancelled, and an overlapped call completes on some systems only. So a wait is
 * tried again and again: after 1, 2, 4, 8 and then every 16 ms, and not all in step. The table lets the head of each queue wait and nobody else, so this
 * costs as much as there are files that outsiders hold while somebody waits.
 *
 * The system's clock ticks every 15.6 ms unless somebody asks for more, and no wait ends between two ticks; while anybody waits here it is asked for more.
 *
 * The waits hang on a wheel, by the millisecond of their next try: that costs the same for one and for thousands.
 */
#include "oslock.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <uv.h>
#include <windows.h>
#include <timeapi.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define STEP_MAX_MS 16
#define SPOKES 32               /* more than a step with its jitter; a power of two */

enum wait_state { WAIT_DUE /* on the wheel */, WAIT_ELSEWHERE /* is being tried there */, WAIT_READY /* to be answered */ };

struct wait {
        uint64_t op;
        int fd;
        enum oslock_mode mode;
        uint64_t user;          /* for the lane; there are no threads to share here */
        bool cancelled;
        enum wait_state state;
        int step_ms;
        enum oslock_result result;
        int error;
        size_t spoke;
        TAILQ_ENTRY(wait) entry;        /* of a spoke, or of `ready` */
        UT_hash_handle hh;
};

TAILQ_HEAD(wait_list, wait);

struct oslock_pool {
        uv_loop_t *loop;
        uv_timer_t timer;
        uv_idle_t idle;                 /* runs while there are answers to give */
        int handles;
        struct wait *waits;             /* by op */
        struct wait_list wheel[SPOKES], ready;
        uint64_t turned_ms;             /* all spokes up to this time have been served */
        size_t due;
        unsigned random;
        bool fine;                      /* the system's clock ticks every millisecond for us */
        uint64_t total, tries;
        oslock_done *done;
        oslock_try_elsewhere *elsewhere;
        void *arg;
};

static void on_timer(uv_timer_t *timer);

/* For the first spoke on which somebody hangs. */
static void set_timer(struct oslock_pool *p)
{
        uint64_t now = uv_now(p->loop), at;

        if (p->due == 0) {
                uv_timer_stop(&p->timer);
                return;
        }
        for (at = p->turned_ms + 1; TAILQ_EMPTY(&p->wheel[at % SPOKES]); at++)
                ;
        uv_timer_start(&p->timer, on_timer, at > now ? at - now : 0, 0);
}

/* Three quarters to five quarters of the step; then the next is twice as long. */
static void put_off(struct oslock_pool *p, struct wait *w)
{
        uint64_t now = uv_now(p->loop), after = (uint64_t)w->step_ms, at;

        if (p->due == 0 && p->turned_ms < now)
                p->turned_ms = now;
        if (w->step_ms >= 4) {
                p->random = p->random * 1103515245u + 12345u;
                after += (p->random >> 16) % (unsigned)(w->step_ms / 2) - (unsigned)(w->step_ms / 4);
        }
        if (w->step_ms < STEP_MAX_MS)
                w->step_ms *= 2;
        at = now + after;
        if (at <= p->turned_ms)
                at = p->turned_ms + 1;
        if (at >= p->turned_ms + SPOKES)        /* the loop is late: sooner is as good */
                at = p->turned_ms + SPOKES - 1;
        w->state = WAIT_DUE;
        w->spoke = at % SPOKES;
        TAILQ_INSERT_TAIL(&p->wheel[w->spoke], w, entry);
        p->due++;
}

static void take_off(struct oslock_pool *p, struct wait *w)
{
        TAILQ_REMOVE(&p->wheel[w->spoke], w, entry);
        p->due--;
}

/* As long as somebody waits. */
static void set_clock(struct oslock_pool *p)
{
        bool fine = p->waits != NULL;

        if (fine && !p->fine)
                timeBeginPeriod(1);
        else if (!fine && p->fine)
                timeEndPeriod(1);
        p->fine = fine;
}

/* ---- answers: by the loop, for somebody who asks may be on the stack ---- */

static void on_idle(uv_idle_t *idle)
{
        struct oslock_pool *p = idle->data;
        struct wait *w;

        while ((w = TAILQ_FIRST(&p->ready)) != NULL) {
                TAILQ_REMOVE(&p->ready, w, entry);
                HASH_DELETE(hh, p->waits, w);
                p->done(p->arg, w->op, w->result, w->error);
                free(w);
        }
        set_clock(p);
        uv_idle_stop(idle);
}

static void make_ready(struct oslock_pool *p, struct wait *w, enum oslock_result result, int error)
{
        w->state = WAIT_READY;
        w->result = result;
        w->error = error;
        TAILQ_INSERT_TAIL(&p->ready, w, entry);
        uv_idle_start(&p->idle, on_idle);
}

/* ---- tries ---- */

static void tried(struct oslock_pool *p, struct wait *w, enum oslock_result result, int error)
{
        if (result != OSLOCK_BUSY)
                make_ready(p, w, result, error);
        else if (w->cancelled)
                make_ready(p, w, OSLOCK_CANCELLED, 0);
        else
                put_off(p, w);
}

static void try_again(struct oslock_pool *p, struct wait *w)
{
        enum oslock_result result;
        int error = 0;

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

static void serve(struct oslock_pool *p, struct wait_list *spoke)
{
        struct wait_list mine = TAILQ_HEAD_INITIALIZER(mine);
        struct wait *w;

        TAILQ_CONCAT(&mine, spoke, entry);      /* some may come back to this very spoke */
        while ((w = TAILQ_FIRST(&mine)) != NULL) {
                TAILQ_REMOVE(&mine, w, entry);
                p->due--;
                try_again(p, w);
        }
}

static void on_timer(uv_timer_t *timer)
{
        struct oslock_pool *p = timer->data;
        uint64_t now = uv_now(p->loop);

        if (now > p->turned_ms + SPOKES)
                p->turned_ms = now - SPOKES;    /* once round is all there is */
        while (p->turned_ms < now)
                serve(p, &p->wheel[++p->turned_ms % SPOKES]);
        set_timer(p);
}

void oslock_pool_tried(struct oslock_pool *p, uint64_t op, enum oslock_result result, int error)
{
        struct wait *w;

        HASH_FIND(hh, p->waits, &op, sizeof op, w);
        if (w == NULL || w->state != WAIT_ELSEWHERE)
                return;
        tried(p, w, result, error);
        set_timer(p);
}

/* ---- begin and end ---- */

struct oslock_pool *oslock_pool_create(uv_loop_t *loop, unsigned threads, oslock_done *done, oslock_try_elsewhere *elsewhere, void *arg)
{
        struct oslock_pool *p = calloc(1, sizeof *p);
        size_t i;

        (void)threads;
        if (p == NULL)
                return NULL;
        p->loop = loop;
        p->done = done;
        p->elsewhere = elsewhere;
        p->arg = arg;
        p->turned_ms = uv_now(loop);
        for (i = 0; i < SPOKES; i++)
                TAILQ_INIT(&p->wheel[i]);
        TAILQ_INIT(&p->ready);
        uv_timer_init(loop, &p->timer);
        uv_idle_init(loop, &p->idle);
        p->timer.data = p->idle.data = p;
        p->handles = 2;
        return p;
}

static void on_closed(uv_handle_t *handle)
{
        struct oslock_pool *p = handle->data;

        if (--p->handles == 0)
                free(p);
}

void oslock_pool_destroy(struct oslock_pool *p)
{
        struct wait *w, *next;

        if (p == NULL)
                return;
        HASH_ITER(hh, p->waits, w, next) {
                HASH_DELETE(hh, p->waits, w);
                free(w);
        }
        set_clock(p);
        uv_close((uv_handle_t *)&p->timer, on_closed);
        uv_close((uv_handle_t *)&p->idle, on_closed);
}

int oslock_wait(struct oslock_pool *p, uint64_t op, int fd, enum oslock_mode mode, bool yields, uint64_t user)
{
        struct wait *w = calloc(1, sizeof *w);

        if (w == NULL)
                return -ENOMEM;
        /* Whoever waits in the kernel is served when it is unlocked; 2 ms are more than he needs to run, should he have to be woken. */
        *w = (struct wait){.op = op, .fd = fd, .mode = mode, .user = user, .step_ms = yields ? 2 : 1};
        HASH_ADD(hh, p->waits, op, sizeof w->op, w);
        if (w->hh.tbl == NULL) {
                free(w);
                return -ENOMEM;
        }
        put_off(p, w);
        set_timer(p);
        set_clock(p);
        p->total++;
        return 0;
}

void oslock_cancel(struct oslock_pool *p, uint64_t op)
{
        struct wait *w;

        HASH_FIND(hh, p->waits, &op, sizeof op, w);
        if (w == NULL || w->cancelled)
                return;
        w->cancelled = true;
        if (w->state != WAIT_DUE)
                return;
        take_off(p, w);
        make_ready(p, w, OSLOCK_CANCELLED, 0);
        set_timer(p);
}

void oslock_pool_stats(const struct oslock_pool *p, struct oslock_stats *out)
{
        out->threads = 0;
        out->waiting = out->retrying = HASH_COUNT(p->waits);
        out->waits_total = p->total;
        out->tries_total = p->tries;
}
