/* What clients, outsiders and time do, and what the model has to know of it beforehand. */
#include "walk.h"

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
void ask(struct wish probe)
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
        probe.duplicate = !probe.claims && waits_already(&probe);
        probe.saw_busy = others_conflict(&probe) || blocking_wish_waits(probe.file, NULL) || upgrader_of(probe.file, NULL) != NULL;     /* a refusal may come later */
        probe.upgrade = !probe.claims && !probe.duplicate && own != NULL && own->mode == TABLE_SH && probe.mode == TABLE_EX;
        ev.session = probe.session;
        ev.cookie = probe.cookie;
        ev.key = key_of(probe.file);
        ev.bearer = refer(&probe);
        ev.shared = probe.shared;
        ev.handle = probe.handle;
        ev.mode = probe.mode;
        ev.claims = probe.claims ? probe.mode : TABLE_NONE;
        ev.claimed_token = probe.token;
        ev.nonblock = probe.nonblock;
        ev.detach = probe.detach;
        ev.since_ms = probe.since;
        ev.deadline_ms = probe.deadline;
        if (!probe.shared) {
                ev.bears = probe.found = (enum table_mode)fake_bears(w.os, (int)probe.bearer);
                if (!probe.claims && !probe.duplicate && own == NULL && ev.bears == TABLE_SH && probe.mode == TABLE_EX && !op_under_way(probe.bearer))
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

struct hold *any_hold(void)
{
        size_t i, n = roll(w.hold_count + 1);

        for (i = 0; i < w.hold_count; i++)
                if (w.holds[(n + i) % w.hold_count].live)
                        return &w.holds[(n + i) % w.hold_count];
        return NULL;
}

struct wish *any_wish(void)
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

/* Closed without an unlock: what it bore lives on, unless a conversion has cost it that and the table does not know yet. */
static void keep_left_over(const struct hold *h)
{
        w.left_over[h->bearer] = fake_bears(w.os, (int)h->bearer) == OSLOCK_NONE ? TABLE_NONE : h->mode;
}

void unlock(struct hold *h, bool close_only)
{
        struct table_event ev = {.kind = EV_UNLOCK, .session = h->session, .lock = h->lock, .close_only = close_only};

        cancel_upgrade_of(h);
        h->live = false;
        w.left = true;
        if (close_only)
                keep_left_over(h);
        else if (!is_held(h->bearer))
                w.left_over[h->bearer] = TABLE_NONE;
        step(&ev);
}

/* One waits for more than its passed description bears and was never told that it holds that: the id is what a list shows. */
static bool is_on_trial(const struct wish *q)
{
        return q->upgrade && !q->shared && session_hold(q) == NULL;
}

static table_id trial_lock(const struct wish *q)
{
        struct table_holder h;
        table_id lock = 0;
        size_t i;

        for (i = 0; table_holder_at(w.table, key_of(q->file), i, &h); i++)
                if (h.session == q->session && h.bearer == q->bearer)
                        lock = h.lock;
        check(lock != 0, "an upgrade has nothing to upgrade");
        return lock;
}

/* It gives up what it bears. */
static void unlock_trial(struct wish *q)
{
        struct table_event ev = {.kind = EV_UNLOCK, .session = q->session, .lock = trial_lock(q)};

        q->cancelled = true;
        if (!is_held(q->bearer))
                w.left_over[q->bearer] = TABLE_NONE;
        step(&ev);
}

static void move_unlock(void)
{
        struct wish *q = chance(10) ? any_wish() : NULL;
        struct hold *h = any_hold();

        if (q != NULL && is_on_trial(q))
                unlock_trial(q);
        else if (h != NULL)
                unlock(h, !h->shared && chance(30));
}

/* All who hold by the passed description, and the one who wishes for more of it. */
static void mark_description(uint64_t bearer)
{
        size_t i;

        for (i = 0; i < w.hold_count; i++)
                w.holds[i].broken |= w.holds[i].live && w.holds[i].bearer == bearer;
        for (i = 0; i < w.wish_count; i++)
                w.wishes[i].broken |= w.wishes[i].live && w.wishes[i].upgrade && w.wishes[i].bearer == bearer;
}

/* By path: one owner alone. */
static void mark_owner(const struct hold *owned)
{
        size_t i;

        for (i = 0; i < w.hold_count; i++)
                w.holds[i].broken |= w.holds[i].live && w.holds[i].lock == owned->lock;
        for (i = 0; i < w.wish_count; i++)
                w.wishes[i].broken |= w.wishes[i].live && w.wishes[i].upgrade && same_owner(owned, &w.wishes[i]);
}

static bool is_kept(uint64_t bearer)
{
        size_t i;

        for (i = 0; i < w.hold_count; i++)
                if (w.holds[i].live && !w.holds[i].broken && w.holds[i].bearer == bearer)
                        return true;
        return false;
}

/* By anybody: the event names no session. */
static void break_lock(table_id lock, uint64_t bearer)
{
        struct table_event ev = {.kind = EV_BREAK_LOCK, .lock = lock};

        w.broken_bearer = bearer;
        w.last_broken = lock;
        w.left |= bearer != 0;
        if (bearer != 0 && !is_kept(bearer))
                w.left_over[bearer] = TABLE_NONE;
        w.breaks += bearer != 0;
        step(&ev);
}

void break_hold(const struct hold *h)
{
        if (h->shared)
                mark_owner(h);
        else
                mark_description(h->bearer);
        break_lock(h->lock, h->bearer);
}

static void move_break(void)
{
        const struct wish *q = chance(30) ? any_wish() : NULL;
        const struct hold *h = any_hold();

        if (q != NULL && is_on_trial(q)) {
                mark_description(q->bearer);
                break_lock(trial_lock(q), q->bearer);
        } else if (chance(10)) {
                break_lock(w.last_broken, 0);
        } else if (h != NULL) {
                break_hold(h);
        }
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

void cancel(struct wish *q)
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
                keep_left_over(h);
}

/* Then it is not taken for its parent, nor for that of those between them. */
static bool is_ancestor(int slot, uint64_t of)
{
        int i;

        while (of != 0 && of != w.session_ids[slot]) {
                for (i = 0; w.session_ids[i] != of; i++)
                        ;
                of = w.parents[i];
        }
        return of != 0;
}

/* One says nothing; one does other things while it waits; one is the child of another, which waits for it. */
void introduce(int slot)
{
        struct table_event ev = {.kind = EV_SESSION, .session = w.session_ids[slot]};
        int parent = session_slot();

        if (chance(40))
                return;
        ev.concurrent = w.concurrent[slot] = chance(20);
        if (chance(60))
                ev.parent = w.session_ids[parent];
        if (!is_ancestor(slot, ev.parent))
                w.parents[slot] = ev.parent;
        step(&ev);
}

/* A parent that comes back later than its child. */
static void move_adopt(void)
{
        int slot = session_slot(), parent = session_slot();
        struct table_event ev = {.kind = EV_SESSION, .session = w.session_ids[slot], .parent = w.session_ids[parent], .concurrent = w.concurrent[slot]};

        if (w.parents[slot] != 0)
                return;
        if (!is_ancestor(slot, ev.parent))
                w.parents[slot] = ev.parent;
        step(&ev);
}

static void forget_session(uint64_t session)
{
        int i;

        for (i = 0; i < SESSIONS; i++) {
                if (w.parents[i] == session)
                        w.parents[i] = 0;
                if (w.session_ids[i] != session)
                        continue;
                w.parents[i] = 0;
                w.concurrent[i] = false;
        }
}

/* Those who wait are served in between. */
static void leave_one_by_one(uint64_t session)
{
        size_t i;

        for (i = 0; i < w.hold_count; i++) {
                struct table_event ev = {.kind = EV_UNLOCK, .session = session, .lock = w.holds[i].lock, .close_only = true};

                if (!w.holds[i].live || w.holds[i].session != session)
                        continue;
                leave_behind(&w.holds[i]);
                step(&ev);
        }
}

void end_session(uint64_t session)
{
        struct table_event ev = {.kind = EV_SESSION_END, .session = session, .locks_stay = chance(50)};
        size_t i;

        for (i = 0; i < w.wish_count; i++)
                if (w.wishes[i].live && w.wishes[i].session == session)
                        w.wishes[i].cancelled = true;
        forget_session(session);
        if (ev.locks_stay) {
                step(&ev);
                leave_one_by_one(session);
                ev.locks_stay = false;
        }
        for (i = 0; i < w.hold_count; i++)
                if (w.holds[i].live && w.holds[i].session == session)
                        leave_behind(&w.holds[i]);
        step(&ev);
        for (i = 0; i < w.wish_count; i++)
                check(!w.wishes[i].live || w.wishes[i].session != session, "a request outlived its session");
}

void move_session_end(void)
{
        int slot = session_slot();
        uint64_t session = w.session_ids[slot];

        end_session(session);
        w.session_ids[slot] = ++w.last_session;
        introduce(slot);
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

void pass_time(int64_t ms)
{
        struct table_event ev = {.kind = EV_TIMER};

        w.now += ms;
        w.clock += chance(95) ? (uint64_t)ms * 1000 : 0;
        step(&ev);
}

void move(void)
{
        unsigned what = (unsigned)roll(100);

        if (what < 40)
                move_lock();
        else if (what < 59)
                move_unlock();
        else if (what < 62)
                move_break();
        else if (what < 67)
                move_cancel();
        else if (what < 69)
                move_session_end();
        else if (what < 75)
                move_outsider();
        else if (what < 79)
                move_description();
        else if (what < 80)
                move_adopt();
        else if (what < 85)
                pass_time((int64_t)roll(40));
        else if (what == 85 && chance(30))
                restart();
        else if (fake_answers(w.os) > 0)
                tell_one_answer();
        tell_tries(50);
}
