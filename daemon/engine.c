#include "engine.h"

#include "log.h"
#include "state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define CLOCK_LEEWAY_US (24 * 3600 * UINT64_C(1000000)) /* the clock may have been set back so far since an earlier daemon */
#define EVENTS_SPARE 16

struct engine {
        uv_loop_t *loop;
        struct files *files;
        struct table *table;
        struct kernel *kernel;
        struct state *state;
        engine_report *report;
        void *arg;
        uv_timer_t timer;
        int64_t timer_at;
        struct table_event *queue;      /* events [head, count) wait for their step */
        size_t head, count, cap;
        struct table_effects effects;
        bool stepping;
};

static void on_os_done(void *arg, uint64_t op, enum oslock_result result, int error, uint64_t new_bearer);

int64_t engine_now(const struct engine *e)
{
        return (int64_t)uv_now(e->loop);
}

uint64_t engine_clock_us(void)
{
        uv_timeval64_t now;
        uint64_t us;

        uv_gettimeofday(&now);
        if (now.tv_sec < 0)
                return 0;       /* before 1970 */
        us = (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_usec;
        return us < TABLE_CLOCK_MAX ? us : TABLE_CLOCK_MAX;
}

uint64_t engine_next_number(struct engine *e)
{
        uint64_t clock_us = engine_clock_us(), number = table_next_number(e->table, clock_us);

        state_drawn(e->state, number, clock_us);
        return number;
}

void engine_raise_numbers(struct engine *e, uint64_t floor)
{
        table_raise_numbers(e->table, floor);
}

uint64_t engine_number_bound(const struct engine *e)
{
        uint64_t last = table_last_number(e->table), by_clock = engine_clock_us() + CLOCK_LEEWAY_US;

        return state_floor(e->state) > 0 || last > by_clock ? last : by_clock;
}

int64_t engine_boot_age_ms(void)
{
        double seconds;

        return uv_uptime(&seconds) == 0 ? (int64_t)(seconds * 1000) : 0;
}

const struct table *engine_table(const struct engine *e)
{
        return e->table;
}

void engine_os_stats(const struct engine *e, struct oslock_stats *out)
{
        kernel_stats(e->kernel, out);
}

/*
 * An event is a promise too (one answer per question), so the room for all that can be queued at once comes with the requests. What is submitted from outside
 * finds the queue empty; within a step each operation brings its answer, and each request its way to another file: an unlock and a lock.
 */
static bool room_for_events(struct engine *e)
{
        size_t queued = e->count - e->head, need, cap;
        struct table_counts n = {0};
        struct table_event *events;

        if (e->table != NULL)
                table_count(e->table, &n);
        need = EVENTS_SPARE + n.os_ops + 2 * (n.waiting + queued + 1);
        if (need <= e->cap)
                return true;
        cap = need * 2;
        events = malloc(cap * sizeof *events);
        if (events == NULL)
                return false;
        if (queued > 0)
                memcpy(events, e->queue + e->head, queued * sizeof *events);
        free(e->queue);
        e->queue = events;
        e->cap = cap;
        e->head = 0;
        e->count = queued;
        return true;
}

static void enqueue(struct engine *e, const struct table_event *ev)
{
        if (e->head > 0 && (e->head == e->count || e->count == e->cap)) {
                e->count -= e->head;
                memmove(e->queue, e->queue + e->head, e->count * sizeof *e->queue);
                e->head = 0;
        }
        if (e->count == e->cap) {       /* cannot be: see room_for_events() */
                log_event(LOG_ERROR, "out_of_room", "where=events");
                abort();
        }
        e->queue[e->count++] = *ev;
}

struct engine *engine_create(uv_loop_t *loop, struct files *files, struct lane *lane, struct kernel_threads threads, struct state *state,
                             engine_report *report, void *arg)
{
        struct engine *e = calloc(1, sizeof *e);

        if (e == NULL)
                return NULL;
        e->loop = loop;
        e->files = files;
        e->state = state;
        e->report = report;
        e->arg = arg;
        e->timer_at = TABLE_NEVER;
        e->table = table_create();
        e->kernel = kernel_create(loop, files, lane, threads, on_os_done, e);
        e->effects.items = calloc(TABLE_EFFECTS_FIRST, sizeof *e->effects.items);
        e->effects.cap = TABLE_EFFECTS_FIRST;
        if (e->table == NULL || e->kernel == NULL || e->effects.items == NULL || !room_for_events(e)) {
                table_destroy(e->table);
                kernel_destroy(e->kernel);
                free(e->effects.items);
                free(e);
                return NULL;
        }
        table_raise_numbers(e->table, state_floor(state));
        uv_timer_init(loop, &e->timer);
        e->timer.data = e;
        return e;
}

static void timer_closed(uv_handle_t *handle)
{
        free(handle->data);
}

void engine_destroy(struct engine *e)
{
        if (e == NULL)
                return;
        kernel_destroy(e->kernel);
        table_destroy(e->table);
        free(e->queue);
        free(e->effects.items);
        uv_close((uv_handle_t *)&e->timer, timer_closed);
}

static enum table_os_result result_of(enum oslock_result r)
{
        switch (r) {
        case OSLOCK_TAKEN:
                return OS_TAKEN;
        case OSLOCK_BUSY:
                return OS_BUSY;
        case OSLOCK_LOST:
                return OS_LOST;
        case OSLOCK_CANCELLED:
                return OS_CANCELLED;
        case OSLOCK_FAILED:
                break;
        }
        return OS_FAILED;
}

static void apply(struct engine *e, const struct table_effect *fx)
{
        switch (fx->kind) {
        case FX_REPLY:
        case FX_WAITING:
        case FX_LOST:
        case FX_MOVED:
                e->report(e->arg, fx);
                break;
        case FX_OS_LOCK:
                if (kernel_lock(e->kernel, fx))
                        e->report(e->arg, fx);
                break;
        case FX_OS_CANCEL:
                kernel_cancel(e->kernel, fx->op);
                break;
        case FX_OS_UNLOCK:
                kernel_unlock(e->kernel, fx->bearer);
                break;
        case FX_OS_DOWNGRADE:
                kernel_downgrade(e->kernel, fx->bearer);
                break;
        case FX_OS_KEEP:
                files_keep(e->files, fx->bearer);
                break;
        case FX_OS_DROP:
                files_drop(e->files, fx->bearer);
                break;
        }
}

static void on_timer(uv_timer_t *timer)
{
        struct engine *e = timer->data;
        struct table_event ev = {.kind = EV_TIMER};

        e->timer_at = TABLE_NEVER;
        engine_submit(e, &ev);
}

static void set_timer(struct engine *e)
{
        int64_t at = table_next_deadline(e->table);

        if (at == e->timer_at)
                return;
        e->timer_at = at;
        if (at == TABLE_NEVER)
                uv_timer_stop(&e->timer);
        else
                /* Never in this turn again: what is due already is the rest of a crowd, and others come first. */
                uv_timer_start(&e->timer, on_timer, at > engine_now(e) ? (uint64_t)(at - engine_now(e)) : 1, 0);
}

static void step(struct engine *e, struct table_event *ev)
{
        uint64_t before = table_last_number(e->table);
        size_t i;

        ev->now_ms = engine_now(e);
        ev->clock_us = engine_clock_us();
        e->effects.count = 0;
        table_step(e->table, ev, &e->effects);
        if (table_last_number(e->table) > before)
                state_drawn(e->state, table_last_number(e->table), ev->clock_us);
        for (i = 0; i < e->effects.count; i++)
                apply(e, &e->effects.items[i]);
}

/* This event, and those that come of it, one after the other. Within a step it only gets in line. */
static void take(struct engine *e, struct table_event *ev)
{
        if (e->stepping) {
                enqueue(e, ev);
                return;
        }
        e->stepping = true;
        step(e, ev);
        while (e->head < e->count) {
                struct table_event next = e->queue[e->head++];

                step(e, &next);
        }
        e->stepping = false;
        set_timer(e);
}

/* As the table refuses when it has no memory. */
static void refuse(struct engine *e, const struct table_event *ev)
{
        struct table_effect fx = {.kind = FX_REPLY, .outcome = OUT_LIMIT, .session = ev->session, .cookie = ev->cookie, .key = ev->key, .mode = ev->mode};

        e->report(e->arg, &fx);
        files_drop(e->files, ev->bearer);
}

void engine_submit(struct engine *e, struct table_event *ev)
{
        if (ev->kind == EV_LOCK && !e->stepping && !room_for_events(e)) {       /* within a step it is one that had its room before */
                refuse(e, ev);
                return;
        }
        /* A description may bear a lock that we do not know of (granted by a daemon that died, or detached): it must not queue behind
           those who wait for it, and a failed conversion would lose it. */
        if (ev->kind == EV_LOCK && !ev->shared && (ev->claims != TABLE_NONE || ev->mode == TABLE_EX || table_knows(e->table, ev->key)))
                ev->bears = kernel_bears(e->kernel, ev->bearer);
        take(e, ev);
}

static void on_os_done(void *arg, uint64_t op, enum oslock_result result, int error, uint64_t new_bearer)
{
        struct table_event ev = {.kind = EV_OS_DONE, .op = op, .result = result_of(result), .error = error, .new_bearer = new_bearer};
        struct engine *e = arg;

        take(e, &ev);
}
