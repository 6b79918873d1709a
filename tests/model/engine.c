/*
 * The engine's part: an event goes into the table, its effects are carried out on the fake system. Tries are answered at once or a little later,
 * waits when the walk takes their answers out of the box.
 */
#include "walk.h"

#include <stdio.h>
#include <stdlib.h>

/* By the table's id, as the table tells it. */
static struct wish *wish_of_request(table_id request)
{
        struct table_waiter t;
        size_t i;
        int file;

        for (file = 0; file < FILES; file++)
                for (i = 0; table_waiter_at(w.table, key_of(file), i, &t); i++)
                        if (t.request == request)
                                return wish_of(t.cookie);
        return NULL;
}

static void note_result(struct wish *q, enum oslock_result result)
{
        if (q == NULL)
                return;
        q->saw_busy |= result == OSLOCK_BUSY;
        q->saw_failure |= result == OSLOCK_FAILED;
        q->saw_loss |= result == OSLOCK_LOST;
}

static enum table_os_result table_result(enum oslock_result r)
{
        return r == OSLOCK_TAKEN ? OS_TAKEN : r == OSLOCK_BUSY ? OS_BUSY : r == OSLOCK_LOST ? OS_LOST : r == OSLOCK_CANCELLED ? OS_CANCELLED : OS_FAILED;
}

static void drop(uint64_t bearer)
{
        int i;

        check(w.references[bearer] > 0, "a reference dropped twice");
        if (--w.references[bearer] > 0)
                return;
        for (i = 0; i < FILES; i++)
                if (w.shared_bearer[i] == (int)bearer)
                        w.shared_bearer[i] = 0;
        fake_close(w.os, (int)bearer);
}

static void tell_later(const struct table_effect *fx, enum table_os_result result)
{
        size_t i;

        for (i = 0; w.late[i].live; i++)
                ;
        w.late[i].live = true;
        w.late[i].op = fx->op;
        w.late[i].bearer = fx->bearer;
        w.late[i].result = result;
}

static void start_wait(const struct table_effect *fx)
{
        int d = (int)fx->bearer;
        size_t i;

        if (fx->fresh && !w.steady && chance(15)) {
                tell_later(fx, OS_BUSY);        /* no descriptor is left for it */
                return;
        }
        if (fx->fresh) {
                d = open_file(fake_file(w.os, d));
                for (i = 0; w.fresh[i].op != 0; i++)
                        ;
                w.fresh[i].op = fx->op;
                w.fresh[i].fresh = d;
                w.references[d] = 1;
        }
        if (!w.steady && chance(2))
                fake_fail_next(w.os);
        fake_wait(w.os, fx->op, d, os_mode(fx->mode));
}

static void tell(uint64_t op, enum table_os_result result)
{
        struct table_event ev = {.kind = EV_OS_DONE, .op = op, .result = result, .error = 5};
        size_t i;

        for (i = 0; w.ops[i].op != op; i++)
                ;
        w.ops[i].op = 0;
        for (i = 0; i < REQUESTS_MAX; i++) {
                if (w.fresh[i].op != op)
                        continue;
                w.fresh[i].op = 0;
                if (result == OS_TAKEN) {
                        ev.new_bearer = (uint64_t)w.fresh[i].fresh;
                        w.shared_bearer[fake_file(w.os, w.fresh[i].fresh)] = w.fresh[i].fresh;
                } else {
                        drop((uint64_t)w.fresh[i].fresh);
                }
        }
        step(&ev);
}

static void os_lock(const struct table_effect *fx)
{
        enum oslock_result result;
        size_t i;

        for (i = 0; w.ops[i].op != 0; i++)
                check(i + 1 < REQUESTS_MAX, "too many questions to the system");
        w.ops[i].op = fx->op;
        w.ops[i].bearer = fx->bearer;
        if (fx->wait) {
                start_wait(fx);
                return;
        }
        if (!w.steady && chance(1))
                fake_fail_next(w.os);
        if (fx->convert && chance(5))
                fake_lose_next(w.os);
        result = fx->convert ? fake_upgrade(w.os, (int)fx->bearer) : fake_try(w.os, (int)fx->bearer, os_mode(fx->mode));
        note_result(wish_of_request(fx->op), result);
        if (result == OSLOCK_LOST)
                w.left_over[fx->bearer] = TABLE_NONE;
        tell_later(fx, table_result(result));
}

static void apply(const struct table_effect *fx)
{
        struct wish *q;

        switch (fx->kind) {
        case FX_REPLY:
                on_reply(fx);
                break;
        case FX_WAITING:
                q = wish_of(fx->cookie);
                check(q != NULL && !q->nonblock, "said to wait, but it cannot");
                q->waited = true;
                break;
        case FX_OS_LOCK:
                os_lock(fx);
                break;
        case FX_OS_CANCEL:
                w.races += fake_waiting(w.os) == 0;
                fake_cancel(w.os, fx->op);
                break;
        case FX_OS_UNLOCK:
                check(w.left_over[fx->bearer] == TABLE_NONE || fake_bears(w.os, (int)fx->bearer) == OSLOCK_NONE, "unlocked what is not ours");
                fake_unlock(w.os, (int)fx->bearer);
                break;
        case FX_OS_DOWNGRADE:
                check(fake_bears(w.os, (int)fx->bearer) == OSLOCK_EX, "downgraded what is not exclusive");
                fake_downgrade(w.os, (int)fx->bearer);
                break;
        case FX_LOST:
                on_lost(fx);
                break;
        case FX_OS_KEEP:
                check(w.references[fx->bearer] > 0, "kept what was gone");
                w.references[fx->bearer]++;
                break;
        case FX_MOVED:
                break;
        case FX_OS_DROP:
                drop(fx->bearer);
                break;
        }
}

/* --trace yes: the whole history, for a short walk to a failure. */
static void print_step(const struct table_event *ev, const struct table_effects *fx)
{
        static const char *const events[] = {"session", "lock", "unlock", "break", "cancel", "session-end", "os-done", "timer"};
        static const char *const effects[] = {"reply", "os-lock", "os-cancel", "os-unlock", "os-downgrade", "os-keep", "os-drop", "lost", "waiting", "moved"};
        size_t i;

        printf("[%" PRId64 "] %s session %" PRIu64 " cookie %" PRIu64 " inode %" PRIu64 " bearer %" PRIu64 " mode %d bears %d nonblock %d op %" PRIu64 " result %d\n", ev->now_ms,
               events[ev->kind], ev->session, ev->cookie, ev->key.inode, ev->bearer, (int)ev->mode, (int)ev->bears, ev->nonblock, ev->op, (int)ev->result);
        for (i = 0; i < fx->count; i++) {
                const struct table_effect *e = &fx->items[i];

                printf("      %s cookie %" PRIu64 " outcome %d bearer %" PRIu64 " mode %d op %" PRIu64 " wait %d fresh %d convert %d\n", effects[e->kind], e->cookie,
                       (int)e->outcome, e->bearer, (int)e->mode, e->op, e->wait, e->fresh, e->convert);
        }
        fflush(stdout);
}

/* A conversion has lost it, and the owner is told in a moment. */
bool loss_is_on_its_way(const struct hold *h)
{
        size_t i;

        for (i = 0; i < REQUESTS_MAX; i++)
                if (w.late[i].live && w.late[i].result == OS_LOST && w.late[i].bearer == h->bearer)
                        return true;
        return false;
}

bool op_under_way(uint64_t bearer)
{
        size_t i;

        for (i = 0; i < REQUESTS_MAX; i++)
                if (w.ops[i].op != 0 && w.ops[i].bearer == bearer)
                        return true;
        return false;
}

/* Tries are usually answered before anything else happens, as the engine does it; here not always. */
void tell_tries(unsigned percent)
{
        size_t i;

        for (i = 0; i < REQUESTS_MAX; i++) {
                if (!w.late[i].live || !chance(percent))
                        continue;
                w.late[i].live = false;
                tell(w.late[i].op, w.late[i].result);
        }
}

void tell_one_answer(void)
{
        struct fake_answer a = fake_take_answer(w.os, roll(fake_answers(w.os)));

        if (a.op > UINT64_MAX - OUTSIDERS) {
                w.outsider_waits[UINT64_MAX - a.op] = false;
                return;
        }
        note_result(wish_of_request(a.op), a.result);
        tell(a.op, table_result(a.result));
}

void settle(void)
{
        bool more = true;
        size_t i;

        while (more) {
                more = false;
                tell_tries(100);
                while (fake_answers(w.os) > 0)
                        tell_one_answer();
                for (i = 0; i < REQUESTS_MAX; i++)
                        more |= w.late[i].live;
        }
}

void step(struct table_event *ev)
{
        struct table_effects *fx = &w.fx;
        size_t i, cap = fx->cap;
        const char *wrong;

        w.joined = ev->kind == EV_SESSION;
        ev->now_ms = w.now;
        ev->clock_us = w.clock;
        fx->count = 0;
        table_step(w.table, ev, fx);
        check(ev->kind == EV_LOCK || fx->cap == cap, "the room for effects did not come with the requests");
        if (w.trace)
                print_step(ev, fx);
        for (i = 0; i < fx->count; i++)
                apply(&fx->items[i]);
        if (ev->kind == EV_BREAK)
                judge_broken();
        judge_scenes(fx);
        while (w.hold_count > 0 && !w.holds[w.hold_count - 1].live)
                w.hold_count--;
        while (w.wish_count > 0 && !w.wishes[w.wish_count - 1].live)
                w.wish_count--;
        wrong = table_check(w.table);
        if (wrong != NULL)
                fail(wrong);
        judge_circles();
        check_holds();
        tell_tries(80);
}
