/*
 * The lock table against a second, naive model: random histories of sessions, paths, passed descriptions, outsiders, time-outs, cancels and
 * hang-ups, with a fake operating system that answers late, in any order, fails, loses conversions and wins races.
 *
 * The naive model keeps plain lists and walks over all of them. It does not foresee when the system answers; it judges every reply: was
 * that allowed, was it that request's turn, is the lock really held? After every step it compares who holds, and when everything has come to
 * rest it asks: should somebody have been served? Is a lock left that nobody has, or gone that somebody had? Now and then a file is fought for
 * without a pause while an outsider waits for it in the kernel: it must get its turn.
 *
 *   walk [--steps N] [--seed S] [--trace yes]
 */
#include "fake_os.h"
#include "table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FILES 3
#define SESSIONS 5
#define HANDLES 2
#define PASSED 8                /* descriptions that clients pass */
#define OUTSIDERS 3
#define REQUESTS_MAX 256
#define HOLDS_MAX 256
#define SCENE_MAX 64
#define EPOCH 200               /* steps after which the world is brought to rest and, now and then, to its end */

struct wish {
        bool live, shared, nonblock, detach, upgrade, duplicate, cancelled, saw_busy, saw_failure, saw_loss;
        bool waited;                    /* was said to wait */
        uint64_t cookie, session, bearer, order;
        int file;
        int64_t handle, since, deadline;
        enum table_mode mode, found;    /* found: what the passed description bore already */
};

struct hold {
        bool live, shared;
        int file;
        uint64_t session, bearer, token;
        int64_t handle;
        enum table_mode mode;
        table_id lock;
};

/* What a waiter can be told of a file. */
struct scene {
        size_t holders, waiters;
        table_id locks[SCENE_MAX], requests[SCENE_MAX];
        enum table_mode modes[SCENE_MAX];
};

static struct {
        struct table *table;
        struct fake_os *os;
        struct table_effects fx;
        int64_t now;
        uint64_t clock, last_token, last_cookie, last_order;
        struct wish wishes[REQUESTS_MAX];
        struct hold holds[HOLDS_MAX];
        size_t wish_count, hold_count;          /* none live from here on */
        size_t references[FAKE_DESCRIPTIONS];   /* the daemon's, per bearer */
        int shared_bearer[FILES];               /* as files.c keeps it; 0: none */
        int passed[PASSED];                     /* the clients' own references; 0: not open */
        enum table_mode left_over[FAKE_DESCRIPTIONS];   /* closed or detached with this lock on: it lives on with the client's own descriptor */
        int outsiders[OUTSIDERS];
        bool outsider_waits[OUTSIDERS];
        uint64_t session_ids[SESSIONS], last_session;
        struct {
                uint64_t op;
                int fresh;
        } fresh[REQUESTS_MAX];
        struct {
                uint64_t op, bearer;
        } ops[REQUESTS_MAX];                    /* asked of the system, not answered to the table */
        struct {
                bool live;
                uint64_t op, bearer;
                enum table_os_result result;
        } late[REQUESTS_MAX];                   /* tries whose answer is not told yet */
        struct scene scenes[FILES];             /* as the last step left them */
        bool steady;                            /* the system does not fail */
        bool left;                              /* an owner has left since the last grant: the next to one who waited is a hand-over */
        unsigned hand_overs;
        uint64_t steps, grants, refusals, timeouts, deadlocks, cancels, losses, races, duplicates, detached, turns;
        uint64_t seed, random;
        bool trace;
} w;

static void fail(const char *what)
{
        fprintf(stderr, "walk: seed %" PRIu64 ", step %" PRIu64 ": %s\n", w.seed, w.steps, what);
        abort();
}

/* What the model knows of a file: for whoever must understand a failure. */
static void print_file(int file)
{
        size_t i;

        for (i = 0; i < w.hold_count; i++) {
                const struct hold *h = &w.holds[i];

                if (h->live && h->file == file)
                        fprintf(stderr, "  held: session %" PRIu64 " bearer %" PRIu64 " %s mode %d lock %" PRIu64 "\n", h->session, h->bearer, h->shared ? "path" : "passed", (int)h->mode, h->lock);
        }
        for (i = 0; i < w.wish_count; i++) {
                const struct wish *q = &w.wishes[i];

                if (q->live && q->file == file)
                        fprintf(stderr, "  waits: %" PRIu64 " session %" PRIu64 " bearer %" PRIu64 " %s mode %d%s%s\n", q->cookie, q->session, q->bearer, q->shared ? "path" : "passed", (int)q->mode,
                                q->upgrade ? " upgrade" : "", q->nonblock ? " nonblock" : "");
        }
}

static void judge(bool holds, const struct wish *q, const char *what)
{
        if (holds)
                return;
        fprintf(stderr, "walk: request %" PRIu64 " of file %d\n", q->cookie, q->file);
        print_file(q->file);
        fail(what);
}

static void check(bool holds, const char *what)
{
        if (!holds)
                fail(what);
}

static uint64_t roll(uint64_t below)
{
        w.random ^= w.random << 13;
        w.random ^= w.random >> 7;
        w.random ^= w.random << 17;
        return w.random % below;
}

static bool chance(unsigned percent)
{
        return roll(100) < percent;
}

static enum oslock_mode os_mode(enum table_mode mode)
{
        return mode == TABLE_EX ? OSLOCK_EX : OSLOCK_SH;
}

static struct table_key key_of(int file)
{
        return (struct table_key){.device = 8, .inode = (uint64_t)file + 100};
}

static int open_file(int file)
{
        int d = fake_open(w.os, file);

        w.left_over[d] = TABLE_NONE;
        return d;
}

/* ---- the naive model ---- */

static struct wish *wish_of(uint64_t cookie)
{
        size_t i;

        for (i = 0; i < w.wish_count; i++)
                if (w.wishes[i].live && w.wishes[i].cookie == cookie)
                        return &w.wishes[i];
        return NULL;
}

static struct hold *hold_of_lock(table_id lock)
{
        size_t i;

        for (i = 0; i < w.hold_count; i++)
                if (w.holds[i].live && w.holds[i].lock == lock)
                        return &w.holds[i];
        return NULL;
}

static bool same_owner(const struct hold *h, const struct wish *q)
{
        if (h->file != q->file || h->shared != q->shared)
                return false;
        return h->shared ? h->session == q->session && h->handle == q->handle : h->bearer == q->bearer;
}

/* The lock that the wish's owner has; of a passed description any co-holder's. */
static struct hold *own_hold(const struct wish *q)
{
        size_t i;

        for (i = 0; i < w.hold_count; i++)
                if (w.holds[i].live && same_owner(&w.holds[i], q))
                        return &w.holds[i];
        return NULL;
}

/* This very session's lock, not a co-holder's. */
static struct hold *session_hold(const struct wish *q)
{
        size_t i;

        for (i = 0; i < w.hold_count; i++)
                if (w.holds[i].live && same_owner(&w.holds[i], q) && w.holds[i].session == q->session)
                        return &w.holds[i];
        return NULL;
}

static bool is_held(uint64_t bearer)
{
        size_t i;

        for (i = 0; i < w.hold_count; i++)
                if (w.holds[i].live && w.holds[i].bearer == bearer)
                        return true;
        return false;
}

/* The wish of a passed description that bears SH and wants more; `session` 0: anybody's. */
static struct wish *trial_of(uint64_t bearer, uint64_t session)
{
        size_t i;

        for (i = 0; i < w.wish_count; i++) {
                struct wish *q = &w.wishes[i];

                if (q->live && q->upgrade && !q->shared && q->bearer == bearer && (session == 0 || q->session == session))
                        return q;
        }
        return NULL;
}

static bool others_conflict(const struct wish *q)
{
        size_t i;

        for (i = 0; i < w.hold_count; i++) {
                const struct hold *h = &w.holds[i];

                if (h->live && h->file == q->file && !same_owner(h, q) && (q->mode == TABLE_EX || h->mode == TABLE_EX))
                        return true;
        }
        return false;
}

static bool before(const struct wish *a, const struct wish *b)
{
        if (a->upgrade != b->upgrade)
                return a->upgrade;
        return a->since != b->since ? a->since < b->since : a->order < b->order;
}

static struct wish *head_of(int file)
{
        struct wish *head = NULL;
        size_t i;

        for (i = 0; i < w.wish_count; i++)
                if (w.wishes[i].live && w.wishes[i].file == file && (head == NULL || before(&w.wishes[i], head)))
                        head = &w.wishes[i];
        return head;
}

static bool blocking_wish_waits(int file, const struct wish *but)
{
        size_t i;

        for (i = 0; i < w.wish_count; i++)
                if (w.wishes[i].live && &w.wishes[i] != but && w.wishes[i].file == file && !w.wishes[i].nonblock)
                        return true;
        return false;
}

static struct wish *upgrader_of(int file, const struct wish *but)
{
        size_t i;

        for (i = 0; i < w.wish_count; i++)
                if (w.wishes[i].live && &w.wishes[i] != but && w.wishes[i].file == file && w.wishes[i].upgrade)
                        return &w.wishes[i];
        return NULL;
}

static void add_hold(const struct wish *q, const struct table_effect *fx, uint64_t bearer)
{
        struct hold *h = w.holds;

        while (h->live)
                check(++h < w.holds + HOLDS_MAX, "too many locks for this model");
        if (h == w.holds + w.hold_count)
                w.hold_count++;
        w.left_over[bearer] = TABLE_NONE;
        *h = (struct hold){.live = true, .shared = q->shared, .file = q->file, .session = q->session, .bearer = bearer, .token = fx->token,
                           .handle = q->handle, .mode = fx->mode, .lock = fx->lock};
}

/* ---- judging replies ---- */

/* Forgotten here, its lock lives on with the description. */
static void judge_detached(const struct wish *q, const struct table_effect *fx)
{
        struct hold *mine = session_hold(q);

        judge(fx->lock == 0, q, "a detached lock has an id");
        judge(fx->dropped == (mine != NULL ? mine->lock : 0), q, "a detached lock is gone, and its old id is not named");
        if (mine != NULL)
                mine->live = false;
        w.left_over[q->bearer] = fx->mode;
        w.detached++;
}

static void judge_kept(const struct wish *q, const struct table_effect *fx)
{
        struct table_holder h;

        judge(table_lock(w.table, fx->lock, &h, NULL), q, "a granted lock is not known by its id");
        judge(h.session == q->session && h.mode == q->mode && h.token == fx->token, q, "a granted lock is not the one asked for");
        judge(fx->dropped == 0, q, "a lock is dropped that nobody detached");
        if (hold_of_lock(fx->lock) == NULL)
                add_hold(q, fx, h.bearer);
        judge(fake_bears(w.os, (int)h.bearer) >= os_mode(q->mode), q, "granted, but the system's lock is not there");
}

static void judge_granted(struct wish *q, const struct table_effect *fx)
{
        const struct hold *own = own_hold(q);
        size_t i;

        if (fx->relock) {
                if (own == NULL)        /* the kernel knew of it before the table did */
                        judge(!q->shared && q->found != TABLE_NONE, q, "a relock of what was not held");
                else
                        judge(own->token == fx->token, q, "a relock changed the token");
        } else {
                judge(head_of(q->file) == q, q, "granted before its turn");
                judge(!others_conflict(q), q, "granted although another holds");
                judge(fx->token > w.last_token, q, "a token that does not grow");
                w.hand_overs += w.left && q->waited;
                w.left = false;
        }
        w.grants++;
        judge(fx->waited_ms == w.now - q->since, q, "waited for another time than it did");
        if (q->detach)
                judge_detached(q, fx);
        else
                judge_kept(q, fx);
        for (i = 0; i < w.hold_count; i++) {    /* co-holders share mode and token */
                if (w.holds[i].live && same_owner(&w.holds[i], q)) {
                        w.holds[i].mode = fx->mode;
                        w.holds[i].token = fx->token;
                }
        }
        if (fx->token > w.last_token)
                w.last_token = fx->token;
}

static void on_lost(const struct table_effect *fx)
{
        struct hold *h = hold_of_lock(fx->lock);

        check(h != NULL, "lost what nobody had");
        check(h->session == fx->session, "a loss told to the wrong session");
        check(fake_bears(w.os, (int)h->bearer) < os_mode(h->mode), "said to be lost, but the system's lock is there");
        h->live = false;
}

static void on_reply(const struct table_effect *fx)
{
        struct wish *q = wish_of(fx->cookie);

        check(q != NULL, "a second answer, or one to nobody");
        judge(!q->duplicate || fx->outcome == OUT_DUPLICATE, q, "its owner waits already, and it was not told so");
        switch (fx->outcome) {
        case OUT_GRANTED:
                judge_granted(q, fx);
                break;
        case OUT_REFUSED:
                w.refusals++;
                judge(q->nonblock, q, "refused, but it would have waited");
                judge(q->saw_busy || others_conflict(q) || blocking_wish_waits(q->file, q) || upgrader_of(q->file, q) != NULL, q, "refused, but nobody has it");
                break;
        case OUT_TIMED_OUT:
                w.timeouts++;
                judge(w.now >= q->deadline, q, "timed out too early");
                break;
        case OUT_DEADLOCK:
                w.deadlocks++;
                judge(upgrader_of(q->file, q) != NULL, q, "a deadlock without a first upgrader");
                break;
        case OUT_CANCELLED:
                w.cancels++;
                judge(q->cancelled, q, "cancelled by nobody");
                break;
        case OUT_LOST:
                w.losses++;
                judge(q->saw_loss && own_hold(q) == NULL, q, "lost, but the system took nothing");
                break;
        case OUT_FAILED:
                judge(q->saw_failure, q, "failed, but the system did not");
                break;
        case OUT_DUPLICATE:
                w.duplicates++;
                judge(q->duplicate, q, "said to be asked twice, but it was not");
                break;
        case OUT_LIMIT:
                fail("an answer that this model never provokes");
        }
        q->live = false;
}

/* ---- the engine's part ---- */

static void step(struct table_event *ev);

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
        static const char *const events[] = {"lock", "unlock", "cancel", "session-end", "os-done", "timer"};
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
static bool loss_is_on_its_way(const struct hold *h)
{
        size_t i;

        for (i = 0; i < REQUESTS_MAX; i++)
                if (w.late[i].live && w.late[i].result == OS_LOST && w.late[i].bearer == h->bearer)
                        return true;
        return false;
}

static void check_holds(void)
{
        size_t i;

        for (i = 0; i < w.hold_count; i++) {
                const struct hold *h = &w.holds[i];

                if (!h->live || fake_bears(w.os, (int)h->bearer) >= os_mode(h->mode) || loss_is_on_its_way(h))
                        continue;
                print_file(h->file);
                fail("a holder's lock is gone in the system");
        }
}

/* ---- who holds and who waits, step by step ---- */

static void look(int file, struct scene *now)
{
        struct table_holder h;
        struct table_waiter t;

        for (now->holders = 0; table_holder_at(w.table, key_of(file), now->holders, &h); now->holders++) {
                check(now->holders < SCENE_MAX, "too many holders for this model");
                now->locks[now->holders] = h.lock;
                now->modes[now->holders] = h.mode;
        }
        for (now->waiters = 0; table_waiter_at(w.table, key_of(file), now->waiters, &t); now->waiters++) {
                check(now->waiters < SCENE_MAX, "too many waiters for this model");
                now->requests[now->waiters] = t.request;
        }
}

/* The table's holders are those who were granted, and, while they wait, passed descriptions that bear SH and want more. */
static void judge_holders(int file, const struct scene *now)
{
        size_t i, known = 0, wanted = 0;
        struct table_holder h;

        for (i = 0; i < now->holders; i++) {
                const struct hold *mine = hold_of_lock(now->locks[i]);

                if (mine != NULL) {
                        known++;
                        check(mine->file == file && mine->mode == now->modes[i], "a holder has another mode than it was told");
                } else {
                        check(table_lock(w.table, now->locks[i], &h, NULL) && trial_of(h.bearer, h.session) != NULL, "one holds who was not granted it");
                }
        }
        for (i = 0; i < w.hold_count; i++)
                wanted += w.holds[i].live && w.holds[i].file == file;
        check(known == wanted, "one who was granted it holds no more");
}

static bool same_holders(const struct scene *a, const struct scene *b)
{
        return a->holders == b->holders && memcmp(a->locks, b->locks, a->holders * sizeof a->locks[0]) == 0 &&
               memcmp(a->modes, b->modes, a->holders * sizeof a->modes[0]) == 0;
}

/* Has somebody who waited before and still does to be told of a change? */
static bool is_news(const struct scene *before, const struct scene *now)
{
        size_t i, k = 0, still = 0;
        bool moved = false;

        for (i = 0; i < before->waiters; i++) {
                for (k = 0; k < now->waiters && now->requests[k] != before->requests[i]; k++)
                        ;
                still += k < now->waiters;
                moved |= k < now->waiters && k != i;
        }
        return still > 0 && (moved || !same_holders(before, now));
}

static void judge_news(int file, const struct table_effects *fx, const struct scene *now)
{
        size_t i, told = 0;

        for (i = 0; i < fx->count; i++) {
                const struct table_effect *e = &fx->items[i];

                if (e->key.inode != key_of(file).inode)
                        continue;
                check(told == 0, "something happened to a file after it was said what had changed");
                told += e->kind == FX_MOVED;
        }
        check(told == 0 || now->waiters > 0, "told a change to nobody");
        check(told == 1 || !is_news(&w.scenes[file], now), "a change was told to nobody");
}

static void judge_scenes(const struct table_effects *fx)
{
        struct scene now;
        int file;

        for (file = 0; file < FILES; file++) {
                look(file, &now);
                judge_holders(file, &now);
                judge_news(file, fx, &now);
                w.scenes[file] = now;
        }
}

/* Tries are usually answered before anything else happens, as the engine does it; here not always. */
static void tell_tries(unsigned percent)
{
        size_t i;

        for (i = 0; i < REQUESTS_MAX; i++) {
                if (!w.late[i].live || !chance(percent))
                        continue;
                w.late[i].live = false;
                tell(w.late[i].op, w.late[i].result);
        }
}

static void step(struct table_event *ev)
{
        struct table_effects fx = {0};
        const char *wrong;
        size_t i;

        ev->now_ms = w.now;
        ev->clock_us = w.clock;
        table_step(w.table, ev, &fx);
        if (w.trace)
                print_step(ev, &fx);
        for (i = 0; i < fx.count; i++)
                apply(&fx.items[i]);
        judge_scenes(&fx);
        free(fx.items);
        while (w.hold_count > 0 && !w.holds[w.hold_count - 1].live)
                w.hold_count--;
        while (w.wish_count > 0 && !w.wishes[w.wish_count - 1].live)
                w.wish_count--;
        wrong = table_check(w.table);
        if (wrong != NULL)
                fail(wrong);
        check_holds();
        tell_tries(80);
}

/* ---- moves ---- */

static int session_slot(void)
{
        return (int)roll(SESSIONS);
}

static void judge_at_once(const struct wish *q, const struct hold *own)
{
        /* What the recipe promises: locking again what one holds is answered at once. */
        if (own != NULL && (q->mode == own->mode || q->mode == TABLE_SH))
                check(!q->live, "a relock had to wait");
}

static bool op_under_way(uint64_t bearer)
{
        size_t i;

        for (i = 0; i < REQUESTS_MAX; i++)
                if (w.ops[i].op != 0 && w.ops[i].bearer == bearer)
                        return true;
        return false;
}

/* The owner has a request that waits: one more is refused. */
static bool waits_already(const struct wish *q)
{
        size_t i;

        for (i = 0; i < w.wish_count; i++) {
                const struct wish *o = &w.wishes[i];

                if (o->live && o->shared == q->shared && o->file == q->file &&
                    (o->shared ? o->session == q->session && o->handle == q->handle : o->bearer == q->bearer))
                        return true;
        }
        return false;
}

/* A reference on the description of the file's path, or on the one that is passed. */
static uint64_t refer(const struct wish *q)
{
        int d = q->shared ? w.shared_bearer[q->file] : (int)q->bearer;

        if (d == 0) {
                d = w.shared_bearer[q->file] = open_file(q->file);
        } else if (!q->shared && w.references[d] == 0) {
                fake_dup(w.os, d);      /* the daemon's duplicate of it */
        }
        w.references[d]++;
        return (uint64_t)d;
}

/* `probe` says who wants what; the rest is filled in here. */
static void ask(struct wish probe)
{
        struct table_event ev = {.kind = EV_LOCK};
        struct wish *q = w.wishes;
        struct hold *own;

        while (q->live)
                if (++q == w.wishes + REQUESTS_MAX)
                        return;
        if (q == w.wishes + w.wish_count)
                w.wish_count++;
        own = own_hold(&probe);
        probe.live = true;
        probe.cookie = ++w.last_cookie;
        probe.order = ++w.last_order;
        probe.duplicate = waits_already(&probe);
        probe.saw_busy = others_conflict(&probe) || blocking_wish_waits(probe.file, NULL) || upgrader_of(probe.file, NULL) != NULL;     /* a refusal may come later */
        probe.upgrade = !probe.duplicate && own != NULL && own->mode == TABLE_SH && probe.mode == TABLE_EX;
        ev.session = probe.session;
        ev.cookie = probe.cookie;
        ev.key = key_of(probe.file);
        ev.bearer = refer(&probe);
        ev.shared = probe.shared;
        ev.handle = probe.handle;
        ev.mode = probe.mode;
        ev.nonblock = probe.nonblock;
        ev.detach = probe.detach;
        ev.since_ms = probe.since;
        ev.deadline_ms = probe.deadline;
        if (!probe.shared) {
                ev.bears = probe.found = (enum table_mode)fake_bears(w.os, (int)probe.bearer);
                if (!probe.duplicate && own == NULL && ev.bears == TABLE_SH && probe.mode == TABLE_EX && !op_under_way(probe.bearer))
                        probe.upgrade = true;
        }
        probe.nonblock |= probe.deadline <= w.now;
        *q = probe;
        step(&ev);
        if (q->cookie == probe.cookie) {
                check(!probe.duplicate || !q->live, "a duplicate had to wait");
                judge_at_once(q, own);
        }
}

static void move_lock(void)
{
        struct wish probe = {.session = w.session_ids[session_slot()], .shared = chance(60), .mode = chance(50) ? TABLE_EX : TABLE_SH,
                             .since = w.now, .deadline = TABLE_NEVER, .nonblock = chance(35)};

        if (probe.shared) {
                probe.file = (int)roll(FILES);
                probe.handle = (int64_t)roll(HANDLES);
                if (chance(10))
                        probe.since -= (int64_t)roll(150);      /* its file was replaced: again at its old place */
        } else {
                probe.bearer = (uint64_t)w.passed[roll(PASSED)];
                if (probe.bearer == 0)
                        return;
                probe.file = fake_file(w.os, (int)probe.bearer);
                probe.detach = chance(15);
        }
        if (!probe.nonblock && chance(40))
                probe.deadline = probe.since + 1 + (int64_t)roll(60);
        if (!waits_already(&probe) || chance(10))
                ask(probe);
}

static struct hold *any_hold(void)
{
        size_t i, n = roll(w.hold_count + 1);

        for (i = 0; i < w.hold_count; i++)
                if (w.holds[(n + i) % w.hold_count].live)
                        return &w.holds[(n + i) % w.hold_count];
        return NULL;
}

static struct wish *any_wish(void)
{
        size_t i, n = roll(w.wish_count + 1);

        for (i = 0; i < w.wish_count; i++)
                if (w.wishes[(n + i) % w.wish_count].live)
                        return &w.wishes[(n + i) % w.wish_count];
        return NULL;
}

/* A waiting upgrade of this very session and owner falls with the lock. */
static void cancel_upgrade_of(const struct hold *h)
{
        size_t i;

        for (i = 0; i < w.wish_count; i++) {
                struct wish *q = &w.wishes[i];

                if (q->live && q->upgrade && q->session == h->session && same_owner(h, q))
                        q->cancelled = true;
        }
}

static void unlock(struct hold *h, bool close_only)
{
        struct table_event ev = {.kind = EV_UNLOCK, .session = h->session, .lock = h->lock, .close_only = close_only};

        cancel_upgrade_of(h);
        h->live = false;
        w.left = true;
        if (close_only)
                w.left_over[h->bearer] = h->mode;
        else if (!is_held(h->bearer))
                w.left_over[h->bearer] = TABLE_NONE;
        step(&ev);
}

/* One that waits for more than its passed description bears gives up what it bears, by the id that a list showed. */
static void unlock_trial(struct wish *q)
{
        struct table_event ev = {.kind = EV_UNLOCK, .session = q->session};
        struct table_holder h;
        size_t i;

        for (i = 0; table_holder_at(w.table, key_of(q->file), i, &h); i++)
                if (h.session == q->session && h.bearer == q->bearer)
                        ev.lock = h.lock;
        check(ev.lock != 0, "an upgrade has nothing to upgrade");
        q->cancelled = true;
        if (!is_held(q->bearer))
                w.left_over[q->bearer] = TABLE_NONE;
        step(&ev);
}

static void move_unlock(void)
{
        struct wish *q = chance(10) ? any_wish() : NULL;
        struct hold *h = any_hold();

        if (q != NULL && q->upgrade && !q->shared && session_hold(q) == NULL)
                unlock_trial(q);
        else if (h != NULL)
                unlock(h, !h->shared && chance(30));
}

/* The request's table id is learnt by asking, as dispatch learns it from FX_WAITING. */
static table_id request_id(const struct wish *q)
{
        struct table_waiter t;
        size_t i;

        for (i = 0; table_waiter_at(w.table, key_of(q->file), i, &t); i++)
                if (t.cookie == q->cookie)
                        return t.request;
        return 0;
}

static void cancel(struct wish *q)
{
        struct table_event ev = {.kind = EV_CANCEL, .session = q->session, .request = request_id(q)};
        uint64_t cookie = q->cookie;

        check(ev.request != 0, "a request without answer is not in the queue");
        q->cancelled = true;
        step(&ev);
        check(wish_of(cookie) == NULL, "a cancelled request was not answered");
}

static void move_cancel(void)
{
        struct wish *q = any_wish();

        if (q != NULL)
                cancel(q);
}

static void leave_behind(struct hold *h)
{
        h->live = false;
        if (!h->shared)
                w.left_over[h->bearer] = h->mode;
}

static void move_session_end(void)
{
        struct table_event ev = {.kind = EV_SESSION_END};
        int slot = session_slot();
        size_t i;

        ev.session = w.session_ids[slot];
        w.session_ids[slot] = ++w.last_session;
        for (i = 0; i < w.wish_count; i++)
                if (w.wishes[i].live && w.wishes[i].session == ev.session)
                        w.wishes[i].cancelled = true;
        for (i = 0; i < w.hold_count; i++)
                if (w.holds[i].live && w.holds[i].session == ev.session)
                        leave_behind(&w.holds[i]);
        step(&ev);
        for (i = 0; i < w.wish_count; i++)
                check(!w.wishes[i].live || w.wishes[i].session != ev.session, "a request outlived its session");
}

static void move_outsider(void)
{
        int i = (int)roll(OUTSIDERS), d = w.outsiders[i];

        if (w.outsider_waits[i])
                return;
        if (d == 0) {
                w.outsiders[i] = d = open_file((int)roll(FILES));
        } else if (chance(20)) {
                fake_close(w.os, d);
                w.outsiders[i] = 0;
                return;
        }
        if (fake_bears(w.os, d) != OSLOCK_NONE) {
                fake_unlock(w.os, d);
        } else if (chance(50)) {
                (void)fake_try(w.os, d, chance(50) ? OSLOCK_EX : OSLOCK_SH);
        } else {
                fake_wait(w.os, UINT64_MAX - (uint64_t)i, d, chance(50) ? OSLOCK_EX : OSLOCK_SH);
                w.outsider_waits[i] = true;
        }
}

/* A client opens, or closes, what it passes: its children may keep a lock so. */
static void move_description(void)
{
        size_t i = roll(PASSED);

        if (w.passed[i] == 0) {
                w.passed[i] = open_file((int)roll(FILES));
                return;
        }
        fake_close(w.os, w.passed[i]);
        w.passed[i] = 0;
}

static void tell_one_answer(void)
{
        struct fake_answer a = fake_take_answer(w.os, roll(fake_answers(w.os)));

        if (a.op > UINT64_MAX - OUTSIDERS) {
                w.outsider_waits[UINT64_MAX - a.op] = false;
                return;
        }
        note_result(wish_of_request(a.op), a.result);
        tell(a.op, table_result(a.result));
}

static void pass_time(int64_t ms)
{
        struct table_event ev = {.kind = EV_TIMER};

        w.now += ms;
        w.clock += chance(95) ? (uint64_t)ms * 1000 : 0;
        step(&ev);
}

/* ---- at rest ---- */

static void settle(void)
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

/* No lock without a holder: neither forgotten by the table nor granted to somebody who had left. What was left behind is as it was left. */
static void judge_leftovers(void)
{
        size_t d, i;

        for (d = 1; d < FAKE_DESCRIPTIONS; d++) {
                bool ours = w.references[d] > 0;

                for (i = 0; i < PASSED; i++)
                        ours |= w.passed[i] == (int)d;
                if (!ours || is_held(d) || trial_of(d, 0) != NULL)
                        continue;
                if (fake_bears(w.os, (int)d) == OSLOCK_NONE)
                        w.left_over[d] = TABLE_NONE;
                else if (w.left_over[d] == TABLE_NONE)
                        fail("a description bears a lock that nobody holds");
                else
                        check(fake_bears(w.os, (int)d) == os_mode(w.left_over[d]), "a lock that was left behind has become another");
        }
}

static void judge_head(const struct wish *head)
{
        const struct hold *own = own_hold(head);
        int but = !head->shared ? (int)head->bearer : own != NULL ? (int)own->bearer : 0;

        if (!others_conflict(head) && !fake_conflicts(w.os, head->file, but, os_mode(head->mode)))
                fail("all is at rest, the file is free, and the first in the queue was not served");
}

static void judge_bearers(int file)
{
        size_t i, k, count = 0;
        struct table_holder h, other;

        for (i = 0; table_holder_at(w.table, key_of(file), i, &h); i++) {
                for (k = 0; k < i && table_holder_at(w.table, key_of(file), k, &other) && other.bearer != h.bearer; k++)
                        ;
                count += k == i;
        }
        check(table_bearers_held(w.table, key_of(file)) == count, "the descriptions that bear a file's lock are miscounted");
}

static void judge_rest(void)
{
        struct wish *head;
        size_t i;
        int file;

        settle();
        pass_time(TABLE_UPGRADE_RETRY_MAX_MS + 1);
        settle();
        judge_leftovers();
        for (i = 0; i < w.wish_count; i++)
                judge(!w.wishes[i].live || !w.wishes[i].nonblock, &w.wishes[i], "all is at rest, and one that may not wait still does");
        for (file = 0; file < FILES; file++) {
                judge_bearers(file);
                head = head_of(file);
                if (head != NULL)
                        judge_head(head);
        }
}

static void judge_end(void)
{
        struct table_counts n;
        size_t i;

        for (i = 0; i < SESSIONS; i++)
                move_session_end();
        for (i = 0; i < SESSIONS; i++) {
                struct table_event ev = {.kind = EV_SESSION_END, .session = w.session_ids[i]};
                size_t k;

                for (k = 0; k < w.wish_count; k++)
                        w.wishes[k].cancelled |= w.wishes[k].session == ev.session;
                for (k = 0; k < w.hold_count; k++)
                        if (w.holds[k].live && w.holds[k].session == ev.session)
                                leave_behind(&w.holds[k]);
                step(&ev);
        }
        settle();
        table_count(w.table, &n);
        check(n.resources == 0 && n.locks == 0 && n.waiting == 0 && n.os_ops == 0, "everybody left, and something stayed in the table");
        for (i = 0; i < FAKE_DESCRIPTIONS; i++)
                check(w.references[i] == 0, "everybody left, and a description is still open");
}

/* ---- the outsiders' turn ---- */

#define CONTENDERS 4
#define OUTSIDER UINT64_MAX /* the op by which it waits: the first of the outsiders' */

/* Nobody has anything open any more. */
static void clear_the_field(void)
{
        size_t i, open = 1;

        judge_end();
        for (i = 0; i < PASSED; i++) {
                if (w.passed[i] != 0)
                        fake_close(w.os, w.passed[i]);
                w.passed[i] = 0;
        }
        while (open > 0) {
                settle();
                for (i = 0, open = 0; i < OUTSIDERS; i++) {
                        open += w.outsider_waits[i];
                        if (w.outsider_waits[i] || w.outsiders[i] == 0)
                                continue;
                        fake_close(w.os, w.outsiders[i]);
                        w.outsiders[i] = 0;
                }
        }
}

/* Contender i asks, if it neither waits nor holds. Two of them want EX, so that somebody always waits for what another has. */
static void contend(int i, int file)
{
        struct wish probe = {.session = w.session_ids[i], .shared = true, .file = file, .mode = i < 2 || chance(50) ? TABLE_EX : TABLE_SH,
                             .since = w.now, .deadline = TABLE_NEVER};

        if (!waits_already(&probe) && own_hold(&probe) == NULL)
                ask(probe);
}

/* Those who were woken in the kernel come only after all that the daemon does at once. */
static void let_the_woken_run(int file)
{
        settle();
        fake_serve(w.os, file);
        settle();
}

/*
 * A file that is handed on and on while an outsider waits for it in the kernel, where each of our tries comes before those who must be woken: the
 * outsider gets it after TABLE_HANDOVERS_MAX hand-overs or TABLE_HANDOVERS_MS, and one more hand-over that may be under way.
 */
static void judge_outsiders_turn(void)
{
        int file = (int)roll(FILES), round, start = (int)roll(TABLE_HANDOVERS_MAX + 2), i;
        int64_t gap = chance(50) ? 0 : 1 + (int64_t)roll(30);
        unsigned most = TABLE_HANDOVERS_MAX + 1, since = 0;

        if (gap > 0 && TABLE_HANDOVERS_MS / gap + 3 < most)
                most = (unsigned)(TABLE_HANDOVERS_MS / gap) + 3;
        clear_the_field();
        w.steady = true;
        fake_lazy(w.os, true);
        for (round = 0; round < start || w.outsider_waits[0]; round++) {
                for (i = 0; i < CONTENDERS; i++)
                        contend(i, file);
                if (chance(10) && any_wish() != NULL)
                        cancel(any_wish());
                let_the_woken_run(file);
                if (any_hold() != NULL)
                        unlock(any_hold(), false);
                pass_time(gap);
                let_the_woken_run(file);
                if (round == start - 1) {
                        w.outsiders[0] = open_file(file);
                        fake_wait(w.os, OUTSIDER, w.outsiders[0], chance(50) ? OSLOCK_EX : OSLOCK_SH);
                        w.outsider_waits[0] = true;
                        since = w.hand_overs;
                }
                check(round < start || w.hand_overs - since <= most, "an outsider waits in the kernel, and its turn does not come");
        }
        w.turns++;
        fake_lazy(w.os, false);
        for (i = 0; i < FILES; i++)
                fake_serve(w.os, i);
        w.steady = false;
}

static void move(void)
{
        unsigned what = (unsigned)roll(100);

        if (what < 40)
                move_lock();
        else if (what < 62)
                move_unlock();
        else if (what < 67)
                move_cancel();
        else if (what < 69)
                move_session_end();
        else if (what < 75)
                move_outsider();
        else if (what < 79)
                move_description();
        else if (what < 85)
                pass_time((int64_t)roll(40));
        else if (fake_answers(w.os) > 0)
                tell_one_answer();
        tell_tries(50);
}

int main(int argc, char **argv)
{
        uint64_t steps = 1000000;
        int i;

        w.seed = (uint64_t)time(NULL);
        for (i = 1; i + 1 < argc; i += 2) {
                if (strcmp(argv[i], "--steps") == 0)
                        steps = strtoull(argv[i + 1], NULL, 10);
                else if (strcmp(argv[i], "--seed") == 0)
                        w.seed = strtoull(argv[i + 1], NULL, 10);
                else if (strcmp(argv[i], "--trace") == 0)
                        w.trace = strcmp(argv[i + 1], "yes") == 0;
        }
        printf("walk: %" PRIu64 " steps, seed %" PRIu64 "\n", steps, w.seed);
        fflush(stdout);
        w.random = w.seed * 0x9e3779b97f4a7c15u + 1;
        w.clock = 1000000000;
        w.table = table_create();
        w.os = fake_create();
        for (i = 0; i < SESSIONS; i++)
                w.session_ids[i] = ++w.last_session;
        for (w.steps = 0; w.steps < steps; w.steps++) {
                move();
                if (w.steps % EPOCH == EPOCH - 1)
                        judge_rest();
                if (w.steps % (EPOCH * 20) == EPOCH * 20 - 1)
                        judge_outsiders_turn();
        }
        judge_end();
        printf("walk: granted %" PRIu64 " refused %" PRIu64 " timed out %" PRIu64 " deadlocks %" PRIu64 " cancelled %" PRIu64 " lost %" PRIu64 " asked twice %" PRIu64
               " detached %" PRIu64 " cancel races %" PRIu64 " outsiders' turns %" PRIu64 "\n",
               w.grants, w.refusals, w.timeouts, w.deadlocks, w.cancels, w.losses, w.duplicates, w.detached, w.races, w.turns);
        table_destroy(w.table);
        fake_destroy(w.os);
        return 0;
}
