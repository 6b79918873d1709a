/* The door: one event in, effects out. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

struct table *table_create(void)
{
        struct table *t = calloc(1, sizeof *t);

        if (t == NULL || store_init(t))
                return t;
        table_destroy(t);
        return NULL;
}

struct table_effect *emit(struct table *t, enum table_effect_kind kind)
{
        struct table_effects *fx = t->fx;
        struct table_effect *e;

        if (fx->count == fx->cap) {
                size_t cap = fx->cap == 0 ? 32 : fx->cap * 2;
                struct table_effect *grown = realloc(fx->items, cap * sizeof *grown);

                if (grown == NULL)
                        abort();        /* only when `fx` was not what table_step() asks for: see room_for_effects() */
                fx->items = grown;
                fx->cap = cap;
        }
        e = &fx->items[fx->count++];
        memset(e, 0, sizeof *e);
        e->kind = kind;
        return e;
}

/*
 * An effect is a promise: a step cannot fail half-way for want of room. So the room that any step may need comes with the requests. Of each record that there
 * is (a lock, a request, an operation) a step makes four effects at most, and four more of each file. Memory that is not written to costs nothing but
 * addresses, so the room is made anew rather than grown, which would copy it.
 */
static bool room_for_effects(struct table *t)
{
        const struct table_counts *n = &t->counts;
        struct table_effects *fx = t->fx;
        size_t need = fx->count + TABLE_EFFECTS_FIRST + 4 * (n->locks + n->waiting + n->os_ops + 2) + 4 * (n->resources + 1);
        size_t cap = need * 2;
        struct table_effect *items;

        if (need <= fx->cap)
                return true;
        items = malloc(cap * sizeof *items);
        if (items == NULL)
                return false;
        if (fx->count > 0)
                memcpy(items, fx->items, fx->count * sizeof *items);
        free(fx->items);
        fx->items = items;
        fx->cap = cap;
        return true;
}

uint64_t table_next_number(struct table *t, uint64_t clock_us)
{
        if (clock_us > TABLE_CLOCK_MAX)
                clock_us = TABLE_CLOCK_MAX;
        t->last_number = clock_us > t->last_number ? clock_us : t->last_number + 1;
        return t->last_number;
}

uint64_t table_last_number(const struct table *t)
{
        return t->last_number;
}

void table_raise_numbers(struct table *t, uint64_t floor)
{
        if (floor > t->last_number)
                t->last_number = floor;
}

uint64_t next_token(struct table *t)
{
        return table_next_number(t, t->clock_us);
}

static void refuse(struct table *t, const struct table_event *ev, enum table_outcome outcome)
{
        struct table_effect *fx = emit(t, FX_REPLY);

        fx->outcome = outcome;
        fx->session = ev->session;
        fx->cookie = ev->cookie;
        fx->key = ev->key;
        fx->mode = ev->mode;
        fx->cycle = outcome == OUT_DEADLOCK ? t->cycle_at : 0;
}

void refuse_request(struct table *t, struct request *q, const struct table_event *ev, enum table_outcome outcome)
{
        refuse(t, ev, outcome);
        store_end_request(t, q);
}

/*
 * The lock that this request's owner has already; a passed description may need a record for this session first. That one is on trial: when the
 * request is not granted its session has nothing, whatever the description bears.
 */
static struct holder *held_by_owner(struct table *t, struct request *q, const struct table_event *ev)
{
        struct owner o = store_owner(q);
        struct holder *h;

        h = store_holder(t, &o);
        if (h != NULL || ev->shared)
                return h;
        if (q->bearer->holders > 0) {
                /* Another session has brought the same description: they hold the one lock together. */
                h = store_hold(t, q, q->bearer->mode, store_holder_by(q->resource, q->bearer)->token);
        } else if (ev->bears != TABLE_NONE && !(q->resource->line->op != NULL && q->resource->line->op->bearer == q->bearer)) {
                /* The kernel says that it bears the lock, granted when we did not know it. It never queues behind those who wait for it. */
                q->bearer->mode = ev->bears;
                h = store_hold(t, q, ev->bears, next_token(t));
        }
        if (h != NULL) {
                store_keep_bearer(t, q->bearer);        /* the request's own reference goes with the request */
                store_set_trial(h, true);
                h->bearer->unlock_due = false;
        }
        return h;
}

static void touch(struct table *t, struct resource *r)
{
        if (r->touched)
                return;
        r->touched = true;
        t->touched[t->touched_count++] = r;
}

static void pump_touched(struct table *t)
{
        struct resource *r;

        while (t->touched_count > 0) {
                r = t->touched[--t->touched_count];
                r->touched = false;
                queue_pump(t, r);
        }
}

/* Edges of the wait-for graph have come into being at this session: whoever closes a circle is refused. */
static void refuse_deadlocks(struct table *t, struct session_records *s)
{
        struct request *q;

        s->count++;     /* keeps the record: its only request may be the one that is refused */
        while ((q = waitgraph_victim(t, s)) != NULL) {
                touch(t, q->resource);
                queue_answer(t, q, q->nonblock ? OUT_REFUSED : OUT_DEADLOCK, 0);
        }
        store_leave_session(t, s->id);
}

/* The co-holders of a passed description that waits to be upgraded are now waited for by more than before. */
static void refuse_co_holders_deadlocks(struct table *t, struct resource *r, const struct request *upgrade)
{
        struct holder *h;

        if (upgrade->bearer->shared)
                return;
        TAILQ_FOREACH(h, &r->holders, entry) {
                if (store_upgrade(r) != upgrade)
                        return;         /* it was refused */
                if (h->bearer == upgrade->bearer && h->records != upgrade->records)
                        refuse_deadlocks(t, h->records);
        }
}

/* By this request nobody waits for anybody: most are such, and the search, which looks at all that their session has, is spared. */
static bool is_unopposed(const struct request *q)
{
        const struct resource *r = q->resource;

        if (r->line->waiter_count > 1)
                return false;
        if (q->upgrade != NULL)
                return r->holder_count == (q->bearer->shared ? 1 : q->bearer->holders);
        return q->mode == TABLE_SH ? !r->exclusive : r->holder_count == 0;
}

static void enter_queue(struct table *t, struct request *q)
{
        struct session_records *s = q->records;
        struct resource *r = q->resource;

        touch(t, r);
        queue_insert(t, q);
        if (!is_unopposed(q))
                refuse_deadlocks(t, s);
        if (store_upgrade(r) == q)
                refuse_co_holders_deadlocks(t, r, q);
        pump_touched(t);
}

/* Usually it has nothing yet. But a parent that comes back after its child closes, perhaps, a circle that was there before the daemon's death. */
static void introduce(struct table *t, const struct table_event *ev)
{
        if (!store_introduce(t, ev->session, ev->parent, ev->concurrent))
                return;
        refuse_deadlocks(t, store_find_session(t, ev->session));
        pump_touched(t);
}

static void upgrade(struct table *t, struct request *q, struct holder *h, const struct table_event *ev)
{
        struct resource *r = q->resource;
        bool others = q->bearer->shared ? r->holder_count > 1 : r->holder_count > h->bearer->holders;

        /* One that may not wait is about to be answered; as somebody shares the lock with it by now it cannot be granted. */
        if (store_upgrade(r) != NULL && store_upgrade(r)->nonblock && !q->nonblock)
                queue_answer(t, store_upgrade(r), OUT_REFUSED, 0);
        if (store_upgrade(r) != NULL || (q->nonblock && others)) {
                if (store_upgrade(r) != NULL && !q->nonblock)
                        waitgraph_two_upgrades(t, q, store_upgrade(r));
                refuse_request(t, q, ev, q->nonblock ? OUT_REFUSED : OUT_DEADLOCK);
                if (h->on_trial)
                        queue_end_trial(t, h);
                r->moved = false;       /* all is as it was */
                store_free_resource(t, r);
                return;
        }
        if (q->bearer != h->bearer) {
                /* By path, and the file's shared description is another one by now: the lock stays where it is. */
                store_drop_bearer(t, q->bearer);
                q->bearer = h->bearer;
                store_keep_bearer(t, q->bearer);
        }
        q->upgrade = h;
        enter_queue(t, q);
}

/* It has the lock already. One that has just joined those who hold it may keep somebody waiting for whom it waits itself. */
static void relock(struct table *t, struct request *q, struct holder *h, bool joined)
{
        struct session_records *s = q->records;
        struct resource *r = q->resource;

        touch(t, r);
        if (h->mode != q->mode)
                queue_downgrade(t, h);
        s->count++;     /* nothing else of it may be left */
        queue_regrant(t, q, h);
        if (joined)
                refuse_deadlocks(t, s);
        store_leave_session(t, s->id);
        pump_touched(t);
}

/* It says that it has the lock already. If so it may have joined those who hold, as above. */
static void claim(struct table *t, struct request *q, const struct request *other, const struct table_event *ev)
{
        struct session_records *s = q->records;
        struct resource *r = q->resource;
        size_t held = r->holder_count;

        touch(t, r);
        s->count++;
        reclaim(t, q, other, ev);
        if (r->holder_count > held)
                refuse_deadlocks(t, s);
        store_leave_session(t, s->id);
        pump_touched(t);
}

/*
 * A request that may not wait stands in the queue only while an operation ends: its own, that of another of its kind, or one whose owner has gone.
 * Only others of its kind may stand before it.
 */
static bool must_wait(const struct resource *r, enum table_mode mode)
{
        const struct request *last = TAILQ_LAST(&r->line->queue, waiters);

        return (last != NULL && !last->nonblock) || (mode == TABLE_SH ? r->exclusive : r->holder_count > 0);
}

static void lock(struct table *t, const struct table_event *ev)
{
        struct resource *r = room_for_effects(t) ? store_resource(t, ev->key) : NULL;
        struct bearer *b = r != NULL ? store_bearer(t, ev->bearer, ev->shared) : NULL;
        struct owner waits = {.shared = ev->shared};
        struct request *q = NULL, *other;
        struct holder *h;
        size_t held;

        if (b != NULL) {
                waits.place = ev->shared ? (uintptr_t)r : b->id;
                waits.session = ev->shared ? ev->session : 0;
                waits.handle = ev->shared ? ev->handle : 0;
        }
        other = b != NULL ? store_waiting(t, &waits) : NULL;
        if (other != NULL && ev->claims == TABLE_NONE) {
                refuse(t, ev, OUT_DUPLICATE);
                store_drop_bearer(t, b);
                return;
        }
        if (b != NULL)
                q = store_request(t, r, b, ev);
        if (q == NULL) {
                refuse(t, ev, OUT_LIMIT);
                if (b != NULL)
                        store_drop_bearer(t, b);
                else
                        emit(t, FX_OS_DROP)->bearer = ev->bearer;
                if (r != NULL)
                        store_free_resource(t, r);
                return;
        }
        t->arrived = pool_id(&t->request_pool, q);
        if (ev->claims != TABLE_NONE) {
                claim(t, q, other, ev);
                return;
        }
        held = r->holder_count;
        h = held_by_owner(t, q, ev);
        if (h != NULL && ev->mode == TABLE_EX && h->mode == TABLE_SH) {
                upgrade(t, q, h, ev);
        } else if (h != NULL) {
                relock(t, q, h, r->holder_count > held);
        } else if (q->nonblock && must_wait(r, ev->mode)) {
                refuse_request(t, q, ev, OUT_REFUSED);
                store_free_resource(t, r);
        } else {
                enter_queue(t, q);
        }
}

static void unlock(struct table *t, const struct table_event *ev)
{
        struct holder *h = store_lock(t, ev->lock);
        struct resource *r;

        if (h == NULL || h->records->id != ev->session)
                return;
        r = h->resource;
        queue_release(t, h, !ev->close_only || h->bearer->shared, OUT_CANCELLED);
        queue_pump(t, r);
}

static void break_lock(struct table *t, const struct table_event *ev)
{
        struct holder *h = store_lock(t, ev->lock);
        struct resource *r;

        if (h == NULL)
                return;
        r = h->resource;
        queue_break(t, h);
        queue_pump(t, r);
}

static void cancel(struct table *t, const struct table_event *ev)
{
        struct request *q = pool_find(&t->request_pool, ev->request);
        struct resource *r;

        if (q == NULL || q->state != REQUEST_WAITING)
                return;
        r = q->resource;
        queue_answer(t, q, OUT_CANCELLED, 0);
        queue_pump(t, r);
}

/* All that the session had is gone before anybody is served, so that nothing is granted to a session that is over. */
static void session_end(struct table *t, const struct table_event *ev)
{
        struct session_records *s = store_find_session(t, ev->session);
        struct request *q, *next;
        struct holder *h, *next_holder;

        if (s == NULL)
                return;
        s->count++;     /* keeps the record while we walk */
        for (q = LIST_FIRST(&s->requests); q != NULL; q = next) {
                next = LIST_NEXT(q, of_session);
                if (q->state != REQUEST_WAITING)
                        continue;
                touch(t, q->resource);
                queue_answer(t, q, OUT_CANCELLED, 0);
        }
        for (h = ev->locks_stay ? NULL : LIST_FIRST(&s->holders); h != NULL; h = next_holder) {
                next_holder = LIST_NEXT(h, of_session);
                touch(t, h->resource);
                /* A passed description is only closed: a child that inherited it keeps the lock, as with flock(1). */
                queue_release(t, h, h->bearer->shared, OUT_CANCELLED);
        }
        store_take_leave(t, s);
        store_leave_session(t, ev->session);
        pump_touched(t);
}

static void os_done(struct table *t, const struct table_event *ev)
{
        struct request *q = pool_find(&t->request_pool, ev->op);

        if (q != NULL)
                queue_os_done(t, q, ev);
}

static void timer(struct table *t)
{
        struct request *q;
        int n;

        for (n = 0; n < TABLE_TIMEOUTS_MAX && t->heap_count > 0 && t->heap[1].at_ms <= t->now_ms; n++) {
                q = t->heap[1].request;
                touch(t, q->resource);
                if (q->deadline_ms <= t->now_ms) {
                        queue_answer(t, q, OUT_TIMED_OUT, 0);
                } else {
                        q->rests = false;
                        heap_update(t, q, q->deadline_ms);
                }
        }
        t->late = n == TABLE_TIMEOUTS_MAX;
        pump_touched(t);
}

void table_step(struct table *t, const struct table_event *ev, struct table_effects *fx)
{
        t->fx = fx;
        t->now_ms = ev->now_ms;
        t->clock_us = ev->clock_us;
        t->arrived = 0;
        t->cycle_count = t->cycle_at = t->visits = 0;
        t->holder_cursor.resource = t->waiter_cursor.resource = NULL;
        switch (ev->kind) {
        case EV_SESSION:
                introduce(t, ev);
                break;
        case EV_LOCK:
                lock(t, ev);
                break;
        case EV_UNLOCK:
                unlock(t, ev);
                break;
        case EV_BREAK_LOCK:
                break_lock(t, ev);
                break;
        case EV_CANCEL:
                cancel(t, ev);
                break;
        case EV_SESSION_END:
                session_end(t, ev);
                break;
        case EV_OS_DONE:
                os_done(t, ev);
                break;
        case EV_TIMER:
                timer(t);
                break;
        }
        t->fx = NULL;
}

int64_t table_next_deadline(const struct table *t)
{
        return t->heap_count > 0 ? t->heap[1].at_ms : TABLE_NEVER;
}

void table_destroy(struct table *t)
{
        if (t == NULL)
                return;
        store_clear(t);
        free(t->heap);
        free(t->touched);
        free(t);
}
