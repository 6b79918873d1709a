/*
 * Who waits for whom, worked out from the model alone: a table of sessions, filled anew each time, and whether one can be reached from another. It goes
 * forwards, from those who wait to those they wait for, and knows nothing of how the table finds out. After every step nobody may wait in a circle; whoever
 * is refused as a deadlock must have closed one; and the cycle that is told must be one.
 */
#include "walk.h"

#include <string.h>

struct graph {
        bool waits[SESSIONS][SESSIONS];         /* for that one, directly */
};

static int slot_of(uint64_t session)
{
        int i;

        for (i = 0; i < SESSIONS; i++)
                if (w.session_ids[i] == session)
                        return i;
        fail("somebody holds or waits whose session is over");
        return 0;
}

static void add(struct graph *g, uint64_t from, uint64_t to)
{
        int a = slot_of(from), b = slot_of(to);

        if (!w.concurrent[a] && !w.concurrent[b])
                g->waits[a][b] = true;
}

/* Both hold or want the lock by one passed description. */
static bool same_description(const struct hold *h, const struct wish *u)
{
        return !h->shared && !u->shared && h->bearer == u->bearer;
}

/* `q` waits for the holder `h` because of their modes, or because u, an upgrade of h's description, will make it exclusive. */
static void add_for_hold(struct graph *g, const struct wish *q, const struct hold *h)
{
        if (h->live && h->file == q->file && !same_owner(h, q) && (q->mode == TABLE_EX || h->mode == TABLE_EX))
                add(g, q->session, h->session);
}

static void add_for_upgrade(struct graph *g, const struct wish *q, const struct wish *u, const struct hold *h)
{
        if (h->live && u->live && u->upgrade && same_description(h, u) && q->file == h->file && q != u)
                add(g, q->session, h->session);
}

/* ... or for one that stands before it, or that has a share of the lock and wants all of it. */
static void add_for_wish(struct graph *g, const struct wish *q, const struct wish *p)
{
        bool on_trial = p->upgrade && !p->shared && q->mode == TABLE_EX;

        if (p != q && p->live && p->file == q->file && (q->mode == TABLE_EX || p->mode == TABLE_EX) && (on_trial || stands_before(p, q)))
                add(g, q->session, p->session);
}

/* The edges that there are because of `only`; NULL: all, with those of parents. */
static void fill(struct graph *g, const struct wish *only)
{
        size_t i, k, m;

        memset(g, 0, sizeof *g);
        for (i = 0; i < w.wish_count; i++) {
                const struct wish *q = &w.wishes[i];

                if (!q->live || q->nonblock)
                        continue;
                for (k = 0; k < w.hold_count; k++) {
                        if (only == NULL || only == q)
                                add_for_hold(g, q, &w.holds[k]);
                        for (m = 0; m < w.wish_count; m++)
                                if (only == NULL || only == q || only == &w.wishes[m])
                                        add_for_upgrade(g, q, &w.wishes[m], &w.holds[k]);
                }
                for (m = 0; m < w.wish_count; m++)
                        if (only == NULL || only == q || only == &w.wishes[m])
                                add_for_wish(g, q, &w.wishes[m]);
        }
        for (i = 0; i < SESSIONS && only == NULL; i++)
                if (w.parents[i] != 0)
                        add(g, w.parents[i], w.session_ids[i]);
}

/* From "directly" to "at last". */
static void follow(struct graph *g)
{
        int a, b, via;

        for (via = 0; via < SESSIONS; via++)
                for (a = 0; a < SESSIONS; a++)
                        for (b = 0; b < SESSIONS; b++)
                                g->waits[a][b] |= g->waits[a][via] && g->waits[via][b];
}

void judge_circles(void)
{
        struct graph g;
        int i, file;

        fill(&g, NULL);
        follow(&g);
        for (i = 0; i < SESSIONS; i++) {
                if (!g.waits[i][i])
                        continue;
                for (file = 0; file < FILES; file++)
                        print_file(file);
                fail("sessions wait in a circle, and nobody was told");
        }
}

/* Is one of its edges part of a circle? */
static bool is_in_a_circle(const struct wish *q)
{
        struct graph own, all;
        int a, b;

        fill(&own, q);
        fill(&all, NULL);
        follow(&all);
        for (a = 0; a < SESSIONS; a++)
                for (b = 0; b < SESSIONS; b++)
                        if (own.waits[a][b] && (a == b || all.waits[b][a]))
                                return true;
        return false;
}

static void judge_cycle(const struct wish *q, size_t at)
{
        struct table_cycle_step first, step, next;
        struct graph g;
        bool takes_part = false;
        size_t i;

        fill(&g, NULL);
        judge(table_cycle(w.table, at, 0, &first), q, "a deadlock without a cycle");
        for (i = 0, next = first; next.session != 0; i++) {
                judge(i < SESSIONS, q, "a cycle with a session twice");
                step = next;
                takes_part |= step.session == q->session;
                if (!table_cycle(w.table, at, i + 1, &next))
                        next = (struct table_cycle_step){.session = 0};
                judge(g.waits[slot_of(step.session)][slot_of(next.session != 0 ? next.session : first.session)], q, "a step of the cycle that waits for nobody");
        }
        /* An upgrade may be in the way of others as it makes its co-holders exclusive. */
        judge(first.session == q->session || (!takes_part && q->upgrade && !q->shared), q, "the one that is refused does not come first in the cycle");
}

void judge_deadlock(struct wish *q, size_t at)
{
        const struct wish *other = upgrader_of(q->file, q);

        w.deadlocks++;
        judge(!q->nonblock, q, "one that may not wait is said to wait for ever");
        judge(q->cookie == w.last_cookie || w.joined, q, "not the newest was refused");
        if (other != NULL && q->upgrade && (w.concurrent[slot_of(q->session)] || w.concurrent[slot_of(other->session)]))
                return;         /* two upgrades never end, whatever else their sessions do */
        judge(is_in_a_circle(q), q, "a deadlock, but it is in no circle");
        judge_cycle(q, at);
        w.circles++;
}
