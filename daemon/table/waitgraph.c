/*
 * Who would wait for ever.
 *
 * The graph. Its nodes are sessions. A session is one thread of control: while one of its requests waits it does nothing else, so nothing that it
 * holds is released, and nothing that another request of it gets meanwhile either (the AND model). Therefore a session that waits needs *all* of these:
 *
 * - for each of its requests, every session that holds the file in a way that excludes it;
 * - for each of its requests, every session with a request before it in the queue that it cannot share the lock with: that one will be served first, and
 *   then its session holds. Requests that share do not wait for each other; they wait for the same others. One that may not wait counts when
 *   it stands before (it may be granted), but does not wait itself;
 * - its child sessions, as long as they live: a parent waits for the end of its command.
 *
 * An upgrade of a passed description makes its co-holders exclusive too, so those behind the upgrade wait for them as well. Sessions that called
 * themselves concurrent are no part of the graph: they do other things while they wait, such as unlocking. Outsiders and detached locks are not known.
 *
 * A circle in this graph never ends by itself; a timeout that would end it does not make it less of a mistake, so timeouts are not looked at.
 *
 * When. At the end of each event the graph has no circle, so only a new edge can close one. Edges come into being in three ways only: a request enters a
 * queue (as the last one, before others as an upgrade or by its age, again after its file was replaced); a session becomes a holder without having
 * queued (it passes a description that others hold, or that bears the lock already); or it gets a parent. A request that is granted keeps those behind it waiting
 * as before; those who leave, time out or downgrade only take edges away; what the kernel answers changes nothing among sessions. All new edges begin or
 * end at the session that has just come, or, with an upgrade, at its co-holders: so the search begins there, and if it comes back there is a circle.
 *
 * Who. The newest request of the circle is refused, by the order in which they entered their queues; be it one that waits, or one that others wait behind.
 * That is the one that has just arrived, if one has. To hold a lock is a fact that is never refused: when a holder joins, or a parent, one that waits is told.
 *
 * What it costs. Without anything in its way a request costs a look. Else the search goes backwards: from a session to those who wait for it, by the locks it
 * holds and the places it has in queues. Usually there are none. A queue is gone through twice at most in one search, however many of its holders and waiters are met (`swept`); one in which nobody
 * leads on (store.c) not at all. So 10,000 who hold or wait for one file cost nothing when one of them goes on to wait for another.
 */
#include "internal.h"

struct search {
        struct table *t;
        struct session_records *start, *last;
        struct way back;        /* by which it came back to the start */
        uint64_t number;
};

static bool excludes(enum table_mode a, enum table_mode b)
{
        return a == TABLE_EX || b == TABLE_EX;
}

/* Of a description that waits to be upgraded: all who hold by it will be exclusive. */
static struct request *upgrade_of(const struct holder *h)
{
        struct request *u = store_upgrade(h->resource);

        if (u == NULL || (u->upgrade != h && (h->bearer->shared || u->bearer != h->bearer)))
                return NULL;
        return u;
}

bool waits_for_holder(const struct request *w, const struct holder *h)
{
        if (w->nonblock || w == upgrade_of(h))
                return false;
        return excludes(w->mode, h->mode);
}

bool waits_for_request(const struct request *w, const struct request *p)
{
        return !w->nonblock && excludes(w->mode, p->mode);
}

/* `s` waits for `way.whom`, who is known to wait for the start. True: it is the start. */
static bool meet(struct search *g, struct session_records *s, struct way way)
{
        if (s == g->start) {
                g->back = way;
                return true;
        }
        if (s->concurrent || s->found == g->number)
                return false;
        s->found = g->number;
        s->way = way;
        if (way.by != NULL && !store_leads(s))
                return false;   /* whoever waits for it stands behind it in the queue that is being gone through */
        s->next_found = NULL;
        g->last->next_found = s;
        g->last = s;
        return false;
}

/*
 * Those in the queue from `w` on who wait for x, who holds in this mode or, `behind`, stands before them. Once an exclusive request has been met all who
 * follow wait for it, if for nobody else.
 */
static bool sweep(struct search *g, struct session_records *x, struct request *w, enum table_mode mode, struct request *behind, const struct holder *h)
{
        struct request *exclusive = NULL;
        struct way way;

        for (; w != NULL; w = TAILQ_NEXT(w, entry)) {
                bool all = mode == TABLE_EX || exclusive != NULL;

                if (h != NULL && w == upgrade_of(h))
                        continue;       /* not waited for by its own; marks nothing, for others' locks it may wait */
                if (w->swept >= 2 * g->number + all)
                        return false;
                w->swept = 2 * g->number + all; /* odd: for one for whom all wait that stand behind */
                g->t->visits++;
                if (w->nonblock || w->records->concurrent || (!all && w->mode != TABLE_EX))
                        continue;
                if (h != NULL && excludes(h->mode, w->mode))
                        way = (struct way){.by = w, .whom = x};
                else if (excludes(mode, w->mode))
                        way = (struct way){.by = w, .behind = behind, .whom = x};
                else
                        way = (struct way){.by = w, .behind = exclusive, .whom = exclusive->records};
                if (meet(g, w->records, way))
                        return true;
                if (w->mode == TABLE_EX && exclusive == NULL)
                        exclusive = w;
        }
        return false;
}

/* All who wait for `s`. True: the start is one of them. */
static bool expand(struct search *g, struct session_records *s)
{
        struct request *q, *upgrade;
        struct holder *h;

        g->t->visits++;
        if (s->parent != NULL && meet(g, s->parent, (struct way){.whom = s}))
                return true;
        LIST_FOREACH(q, &s->requests, of_session) {
                if (q->queued && q->resource->line->leading > 0 && sweep(g, s, TAILQ_NEXT(q, entry), q->mode, q, NULL))
                        return true;
        }
        LIST_FOREACH(h, &s->holders, of_session) {
                g->t->visits++;
                if (h->resource->line->leading == 0)
                        continue;
                upgrade = upgrade_of(h);
                if (sweep(g, s, TAILQ_FIRST(&h->resource->line->queue), upgrade != NULL ? TABLE_EX : h->mode, upgrade, h))
                        return true;
        }
        return false;
}

static bool find_circle(struct search *g)
{
        struct session_records *s;

        g->start->found = g->number;
        g->start->next_found = NULL;
        g->last = g->start;
        for (s = g->start; s != NULL; s = s->next_found)
                if (expand(g, s))
                        return true;
        return false;
}

static void note_step(struct table *t, const struct session_records *s, const struct request *by)
{
        struct table_cycle_step *step;

        if (t->cycle_count >= TABLE_CYCLE_MAX)
                return;
        step = &t->cycle[t->cycle_count];
        t->cycle_first[t->cycle_count++] = false;
        *step = (struct table_cycle_step){.session = s->id};
        if (by == NULL)
                return;
        step->key = by->resource->key;
        step->mode = by->mode;
}

static void begin_cycle(struct table *t)
{
        t->cycle_at = t->cycle_count < TABLE_CYCLE_MAX ? t->cycle_count + 1 : 0;
}

static void end_cycle(struct table *t)
{
        if (t->cycle_at != 0)
                t->cycle_first[t->cycle_at - 1] = true;
}

/* From the start on, each with the way by which it waits for the next. */
static struct session_records *next_in_circle(const struct search *g, const struct session_records *s, struct way *way)
{
        *way = s == g->start ? g->back : s->way;
        return way->whom;
}

static struct request *newer(struct request *a, struct request *b)
{
        return a == NULL || (b != NULL && b->entered > a->entered) ? b : a;
}

static struct request *newest(const struct search *g)
{
        struct session_records *s = g->start;
        struct request *q = NULL;
        struct way way;

        do {
                s = next_in_circle(g, s, &way);
                q = newer(newer(q, way.by), way.behind);
        } while (s != g->start);
        return q;
}

static void keep_cycle(const struct search *g, const struct session_records *first)
{
        struct session_records *s = g->start, *next;
        bool found = false;
        struct way way;

        /* To the one that is refused; if it is a co-holder's upgrade it may have no step of its own: then from the start on. */
        do {
                found = s == first;
                if (!found)
                        s = next_in_circle(g, s, &way);
        } while (!found && s != g->start);
        begin_cycle(g->t);
        first = s;
        do {
                next = next_in_circle(g, s, &way);
                note_step(g->t, s, way.by);
                s = next;
        } while (s != first);
        end_cycle(g->t);
}

struct request *waitgraph_victim(struct table *t, struct session_records *s)
{
        struct search g = {.t = t, .start = s, .number = t->last_search + 1};
        struct request *victim;

        t->last_search++;
        if (s->concurrent || (LIST_EMPTY(&s->requests) && LIST_EMPTY(&s->children)) || !find_circle(&g))
                return NULL;    /* it waits for nobody, or nobody whom it waits for waits for it */
        victim = newest(&g);
        if (victim != NULL)
                keep_cycle(&g, victim->records);
        return victim;
}

void waitgraph_two_upgrades(struct table *t, const struct request *second, const struct request *first)
{
        begin_cycle(t);
        note_step(t, second->records, second);
        note_step(t, first->records, first);
        end_cycle(t);
}
