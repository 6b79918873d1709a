/*
 * Who is next. After each event the touched resource is brought to rest in one place, queue_pump(): the head of the queue starts what it can start,
 * and at most one OS operation is under way for a resource.
 *
 * Three ways to the lock: at once (the shared bearer bears it already), by a try that answers at once, or by a wait in the kernel: when an
 * outsider has it, or, after a long streak of hand-overs of our own, while our own holder still has it, so that the kernel's queue lets
 * outsiders in before us.
 */
#include "internal.h"

static bool may_hold(const struct resource *r, enum table_mode mode)
{
        return mode == TABLE_SH ? !r->exclusive : r->holder_count == 0;
}

/* An upgrade needs all other owners to be gone. */
static bool is_sole_owner(const struct resource *r, const struct holder *h)
{
        return h->bearer->shared ? r->holder_count == 1 : r->holder_count == h->bearer->holders;
}

static bool outsiders_turn(const struct table *t, const struct resource *r)
{
        return r->streak >= TABLE_HANDOVERS_MAX || (r->streak > 0 && (uint32_t)t->now_ms - r->streak_since_ms >= TABLE_HANDOVERS_MS);
}

/*
 * A head has had its turn in the kernel's queue. One is not enough: by each of our hand-overs before it an outsider was woken for nothing, and had left
 * the queue until it found the lock taken again; whoever came meanwhile stands before it. Of the turns that follow it misses none.
 */
static void count_kernel_turn(const struct table *t, struct resource *r)
{
        if (!outsiders_turn(t, r) || r->streak >= TABLE_HANDOVERS_MAX + TABLE_KERNEL_TURNS - 1)
                r->streak = 0;
        else
                r->streak = (uint8_t)(r->streak < TABLE_HANDOVERS_MAX ? TABLE_HANDOVERS_MAX + 1 : r->streak + 1);
}

/* A lock that the kernel gave to a request that cannot have it: back to what the bearer's holders need, or what they left on it. */
static void give_back(struct table *t, const struct request *q, const struct bearer *b)
{
        enum table_mode needed = b->holders > 0 ? b->mode : b->left;

        if (needed == TABLE_NONE)
                emit(t, FX_OS_UNLOCK)->bearer = b->id;
        else if (q->mode == TABLE_EX && needed == TABLE_SH)
                emit(t, FX_OS_DOWNGRADE)->bearer = b->id;
}

/* The last holder has left the description. Without `unlock` its lock stays with the client, or with whoever inherited it. */
static void leave_bearer(struct table *t, struct bearer *b, bool unlock)
{
        if (unlock)
                emit(t, FX_OS_UNLOCK)->bearer = b->id;
        b->left = unlock ? TABLE_NONE : b->mode;
        b->mode = TABLE_NONE;
}

/* One that may not wait never stands behind one that does: they are the first of the queue, and here some of them no longer are. */
static void refuse_behind(struct table *t, const struct request *q)
{
        struct request *other;

        while ((other = TAILQ_NEXT(q, entry)) != NULL && other->nonblock)
                queue_answer(t, other, OUT_REFUSED, 0);
}

void queue_insert(struct table *t, struct request *q)
{
        struct resource *r = q->resource;
        struct request *before = NULL, *other;

        if (q->upgrade != NULL) {
                TAILQ_INSERT_HEAD(&r->line->queue, q, entry);
        } else {
                /* By age; usually it is the youngest. */
                TAILQ_FOREACH_REVERSE(other, &r->line->queue, waiters, entry) {
                        if (other->upgrade != NULL || other->since_ms <= q->since_ms || other->records->group != q->records->group)
                                break;
                        before = other;
                }
                if (before != NULL)
                        TAILQ_INSERT_BEFORE(before, q, entry);
                else
                        TAILQ_INSERT_TAIL(&r->line->queue, q, entry);
        }
        r->line->waiter_count++;
        q->entered = ++t->last_entered;
        store_queued(q, true);
        t->counts.waiting++;
        heap_update(t, q, q->deadline_ms);
        other = TAILQ_NEXT(q, entry);
        r->moved |= other != NULL;      /* nobody else minds one that comes last */
        if (other != NULL && other->in_hand) {
                other->in_hand = false; /* no longer the head: what the kernel gave it belongs to the one before */
                give_back(t, other, other->bearer);
        }
        if (!q->nonblock)
                refuse_behind(t, q);
}

void queue_leave(struct table *t, struct request *q)
{
        struct resource *r = q->resource;

        r->moved |= TAILQ_NEXT(q, entry) != NULL;
        TAILQ_REMOVE(&r->line->queue, q, entry);
        r->line->waiter_count--;
        store_queued(q, false);
        t->counts.waiting--;
        heap_remove(t, q);
}

static struct table_effect *reply(struct table *t, const struct request *q, enum table_outcome outcome, int error)
{
        struct table_effect *fx = emit(t, FX_REPLY);

        fx->outcome = outcome;
        fx->session = q->records->id;
        fx->cookie = q->cookie;
        fx->request = pool_id(&t->request_pool, q);
        fx->key = q->resource->key;
        fx->mode = q->mode;
        fx->waited_ms = t->now_ms - q->since_ms;
        fx->error = error;
        fx->cycle = outcome == OUT_DEADLOCK ? t->cycle_at : 0;
        return fx;
}

static void say_waiting(struct table *t, struct request *q)
{
        struct table_effect *fx = emit(t, FX_WAITING);

        q->queued_before = true;
        fx->session = q->records->id;
        fx->cookie = q->cookie;
        fx->request = pool_id(&t->request_pool, q);
        fx->key = q->resource->key;
        fx->mode = q->mode;
}

static void cancel_op(struct table *t, struct request *q)
{
        if (!q->op_waits || q->op_cancelled)
                return;
        q->op_cancelled = true;
        emit(t, FX_OS_CANCEL)->op = pool_id(&t->request_pool, q);
}

void queue_answer(struct table *t, struct request *q, enum table_outcome outcome, int error)
{
        struct resource *r = q->resource;
        struct holder *own = q->upgrade;

        queue_leave(t, q);
        reply(t, q, outcome, error)->broken = outcome == OUT_LOST && own != NULL;       /* what an outsider took is gone by now */
        if (own != NULL && own->on_trial) {
                q->upgrade = NULL;
                queue_end_trial(t, own);
        }
        if (q->in_hand) {
                give_back(t, q, q->bearer);
                r->released = true;
        }
        if (r->line->op == q) {
                /* The answer of the OS is still to come; until then the request is a ghost. */
                cancel_op(t, q);
                store_become_ghost(t, q);
                return;
        }
        store_end_request(t, q);
}

/* `held`: the session had this lock before. */
static struct table_effect *reply_granted(struct table *t, const struct request *q, const struct holder *h, bool held)
{
        struct table_effect *fx = reply(t, q, OUT_GRANTED, 0);

        fx->lock = q->detach ? 0 : h->id;
        fx->dropped = q->detach && held ? h->id : 0;
        fx->mode = h->mode;
        fx->token = h->token;
        return fx;
}

/* A detached lock lives with the client's description alone: no owner, no unlock. */
static void detach(struct table *t, struct holder *h)
{
        struct bearer *b = h->bearer;

        store_free_holder(t, h);
        if (b->holders == 0)
                leave_bearer(t, b, false);
        store_drop_bearer(t, b);
}

static void count_handover(struct table *t, struct resource *r, const struct request *q)
{
        if (q->queued_before && r->released) {
                if (r->streak == 0)
                        r->streak_since_ms = (uint32_t)t->now_ms;
                if (r->streak < TABLE_HANDOVERS_MAX)
                        r->streak++;
        }
        r->released = false;
}

/* The head has it. The request's reference on the bearer becomes the holder's. */
static void grant(struct table *t, struct request *q)
{
        struct resource *r = q->resource;
        bool detached = q->detach;
        struct holder *h;

        count_handover(t, r, q);
        queue_leave(t, q);
        h = store_hold(t, q, q->mode, next_token(t));
        if (h->bearer->mode < q->mode)
                h->bearer->mode = q->mode;
        reply_granted(t, q, h, false);
        store_free_request(t, q);
        if (detached)
                detach(t, h);
}

static void grant_upgrade(struct table *t, struct request *q)
{
        struct resource *r = q->resource;
        struct holder *own = q->upgrade, *h;
        bool on_trial = own->on_trial, detached = q->detach;
        uint64_t token = next_token(t);

        r->released = false;
        queue_leave(t, q);
        store_set_trial(own, false);
        own->bearer->mode = TABLE_EX;
        TAILQ_FOREACH(h, &r->holders, entry) {  /* they all are co-holders of this one description */
                h->mode = TABLE_EX;
                h->token = token;
        }
        r->exclusive = true;
        r->moved = true;
        reply_granted(t, q, own, !on_trial);
        store_end_request(t, q);
        if (detached)
                detach(t, own);
}

void queue_regrant(struct table *t, struct request *q, struct holder *h)
{
        bool detached = q->detach;

        reply_granted(t, q, h, !h->on_trial)->relock = true;
        store_set_trial(h, false);
        store_end_request(t, q);
        if (detached)
                detach(t, h);
}

void queue_downgrade(struct table *t, struct holder *h)
{
        struct resource *r = h->resource;
        struct holder *other;

        if (h->mode != TABLE_EX)
                return;
        TAILQ_FOREACH(other, &r->holders, entry)        /* an exclusive lock has no other holders but co-holders */
                other->mode = TABLE_SH;
        r->exclusive = false;
        r->moved = true;
        h->bearer->mode = TABLE_SH;
        r->released = true;
        emit(t, FX_OS_DOWNGRADE)->bearer = h->bearer->id;
}

/* One on trial was never told that it holds. */
static void say_lost(struct table *t, const struct holder *h, bool broken)
{
        struct table_effect *fx;

        if (h->on_trial)
                return;
        fx = emit(t, FX_LOST);
        fx->session = h->records->id;
        fx->lock = h->id;
        fx->key = h->resource->key;
        fx->mode = h->mode;
        fx->token = h->token;
        fx->bearer = h->bearer->id;
        fx->broken = broken;
}

void queue_release(struct table *t, struct holder *h, bool unlock, enum table_outcome upgrade_outcome)
{
        struct resource *r = h->resource;
        struct bearer *b = h->bearer;
        struct request *upgrade = waiting_upgrade(h);

        if (upgrade != NULL) {
                bool ghost = r->line->op == upgrade;

                store_set_trial(h, false);      /* given up like any lock */
                queue_answer(t, upgrade, upgrade_outcome, 0);
                if (ghost)
                        upgrade->upgrade = NULL;        /* its holder is gone */
        }
        store_free_holder(t, h);
        if (b->holders == 0)
                leave_bearer(t, b, unlock);
        else if (b->holders == 1 && b->has_trial)
                b->unlock_due = unlock;
        store_drop_bearer(t, b);
        r->released = true;
}

void queue_break(struct table *t, struct holder *h)
{
        struct bearer *b = h->bearer;
        size_t left = b->shared ? 1 : b->holders;
        struct holder *next = left == 1 ? h : TAILQ_FIRST(&h->resource->holders);

        while (left > 0) {
                h = next;
                next = TAILQ_NEXT(h, entry);
                if (h->bearer != b)
                        continue;
                say_lost(t, h, true);
                queue_release(t, h, true, OUT_LOST);
                left--;
        }
}

void queue_end_trial(struct table *t, struct holder *h)
{
        struct bearer *b = h->bearer;

        store_free_holder(t, h);
        if (b->holders == 0)
                leave_bearer(t, b, b->unlock_due);
        store_drop_bearer(t, b);
}

static struct table_effect *start_op(struct table *t, struct request *q, bool wait, bool fresh)
{
        struct table_effect *fx;

        q->resource->line->op = q;
        q->op_waits = wait;
        q->op_fresh = fresh;
        q->op_cancelled = false;
        t->counts.os_ops++;
        fx = emit(t, FX_OS_LOCK);
        fx->op = fx->request = pool_id(&t->request_pool, q);
        fx->session = q->records->id;
        fx->cookie = q->cookie;
        fx->key = q->resource->key;
        fx->bearer = q->bearer->id;
        fx->mode = q->mode;
        fx->wait = wait;
        fx->fresh = fresh;
        fx->convert = q->upgrade != NULL;
        return fx;
}

static void start_wait(struct table *t, struct request *q, bool fresh, bool yields)
{
        start_op(t, q, true, fresh)->yields = yields;
        say_waiting(t, q);
}

/* True when the head was granted and the next one may be looked at. */
static bool start_head(struct table *t, struct resource *r, struct request *q)
{
        if (q->upgrade != NULL) {
                if (is_sole_owner(r, q->upgrade) && !q->rests)
                        start_op(t, q, false, false);
                return false;
        }
        if (may_hold(r, q->mode)) {
                if (q->in_hand || q->bearer->holders > 0) {    /* a sharer joins the description that has it */
                        grant(t, q);
                        return true;
                }
                start_op(t, q, false, false);
                return false;
        }
        if (!q->nonblock && !q->in_hand && outsiders_turn(t, r) && store_upgrade(r) == NULL)
                start_wait(t, q, q->bearer->holders > 0, true);
        return false;
}

static void serve(struct table *t, struct resource *r)
{
        struct request *head;

        while ((head = TAILQ_FIRST(&r->line->queue)) != NULL) {
                if (r->line->op != NULL) {
                        /* Somebody got before the one that waits in the kernel: it comes back and waits here. */
                        if (r->line->op != head && r->line->op->state == REQUEST_WAITING)
                                cancel_op(t, r->line->op);
                        return;
                }
                if (start_head(t, r, head))
                        continue;
                if (r->line->op != NULL || !head->nonblock)
                        return;
                queue_answer(t, head, OUT_REFUSED, 0);
        }
}

/* The request that came with this event has found no way to the lock; one that a try is made for will know soon. */
static void say_if_waiting(struct table *t, const struct resource *r)
{
        struct request *q = pool_find(&t->request_pool, t->arrived);

        if (q != NULL && q->resource == r && q->state == REQUEST_WAITING && !q->queued_before && !q->nonblock && (r->line->op != q || q->op_waits))
                say_waiting(t, q);
}

void queue_pump(struct table *t, struct resource *r)
{
        serve(t, r);
        if (r->line->waiter_count > 0) {
                say_if_waiting(t, r);
                if (r->moved)
                        emit(t, FX_MOVED)->key = r->key;
        }
        r->moved = false;
        store_free_resource(t, r);
}

/* ---- answers of the operating system ---- */

/* The wait was on a new description: it is the request's bearer from now on. False when out of memory; then it is given up again. */
static bool take_fresh(struct table *t, struct request *q, uint64_t id)
{
        struct bearer *b = store_bearer(t, id, true);

        if (b == NULL) {
                emit(t, FX_OS_UNLOCK)->bearer = id;
                emit(t, FX_OS_DROP)->bearer = id;
                return false;
        }
        store_drop_bearer(t, q->bearer);
        q->bearer = b;
        return true;
}

/* A conversion has cost the bearer its lock. The caller refers to it as well: it stays. */
static void lose(struct table *t, struct resource *r, struct bearer *b)
{
        struct holder *h, *next;

        for (h = TAILQ_FIRST(&r->holders); h != NULL; h = next) {
                next = TAILQ_NEXT(h, entry);
                if (h->bearer != b)
                        continue;
                say_lost(t, h, false);
                store_free_holder(t, h);
                b->mode = TABLE_NONE;
                store_drop_bearer(t, b);
        }
}

/* What it was to convert has gone. */
static void lose_upgrade(struct table *t, struct request *q)
{
        q->upgrade = NULL;
        queue_answer(t, q, OUT_LOST, 0);
}

static void ghost_done(struct table *t, struct request *q, enum table_os_result result)
{
        struct request *again = store_upgrade(q->resource);  /* asked for since then, perhaps by the same owner */

        if (result == OS_TAKEN)
                give_back(t, q, q->bearer);
        if (result == OS_LOST) {
                lose(t, q->resource, q->bearer);
                if (again != NULL && again->bearer == q->bearer)
                        lose_upgrade(t, again);
        }
        q->resource->released = true;
        store_end_request(t, q);
}

static void upgrade_done(struct table *t, struct request *q, const struct table_event *ev)
{
        struct resource *r = q->resource;
        struct holder *own = q->upgrade;
        int64_t again_ms;

        switch (ev->result) {
        case OS_TAKEN:
                grant_upgrade(t, q);
                break;
        case OS_LOST:
                lose(t, r, own->bearer);
                lose_upgrade(t, q);
                break;
        case OS_FAILED:
                queue_answer(t, q, OUT_FAILED, ev->error);
                break;
        case OS_BUSY:
        case OS_CANCELLED:
                if (q->nonblock) {
                        queue_answer(t, q, OUT_REFUSED, 0);
                        break;
                }
                /* Only outsiders are in the way: the kernel has no queue for conversions that keep the SH. */
                if (q->retry_step_ms == 0)
                        say_waiting(t, q);      /* even if it was said before: from now on it waits for outsiders */
                if (q->retry_step_ms == 0)
                        q->retry_step_ms = TABLE_UPGRADE_RETRY_MIN_MS;
                else
                        q->retry_step_ms = (int16_t)(q->retry_step_ms * 2 < TABLE_UPGRADE_RETRY_MAX_MS ? q->retry_step_ms * 2 : TABLE_UPGRADE_RETRY_MAX_MS);
                q->rests = true;
                again_ms = t->now_ms + q->retry_step_ms;
                heap_update(t, q, again_ms < q->deadline_ms ? again_ms : q->deadline_ms);
                break;
        }
}

static void lock_done(struct table *t, struct request *q, const struct table_event *ev)
{
        bool waited = q->op_waits;

        switch (ev->result) {
        case OS_TAKEN:
                q->in_hand = true;
                if (waited)
                        count_kernel_turn(t, q->resource);
                if (TAILQ_FIRST(&q->resource->line->queue) == q && may_hold(q->resource, q->mode)) {
                        grant(t, q);
                } else if (q->op_cancelled || TAILQ_FIRST(&q->resource->line->queue) != q) {
                        q->in_hand = false;
                        give_back(t, q, q->bearer);
                }
                break;
        case OS_BUSY:
                if (q->nonblock) {
                        queue_answer(t, q, OUT_REFUSED, 0);
                        break;
                }
                q->resource->streak = 0;        /* an outsider has it; or no wait is to be had, and our own queue goes on as before */
                if (!waited)
                        start_wait(t, q, false, false);
                break;
        case OS_FAILED:
        case OS_LOST:
                queue_answer(t, q, OUT_FAILED, ev->error);
                break;
        case OS_CANCELLED:
                break;          /* it waits here again */
        }
}

void queue_os_done(struct table *t, struct request *q, const struct table_event *answer)
{
        struct resource *r = q->resource;
        struct table_event copy = *answer, *ev = &copy;

        if (r->line->op != q)
                return;
        r->line->op = NULL;
        t->counts.os_ops--;
        if (q->op_fresh && ev->result == OS_TAKEN && !take_fresh(t, q, ev->new_bearer))
                ev->result = OS_BUSY;
        if (q->state == REQUEST_GHOST)
                ghost_done(t, q, ev->result);
        else if (q->upgrade != NULL)
                upgrade_done(t, q, ev);
        else
                lock_done(t, q, ev);
        queue_pump(t, r);
}
