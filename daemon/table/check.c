/* Every invariant in words; costs time in proportion to the table. */
#include "internal.h"

static const char *check_holders(const struct resource *r)
{
        const struct holder *h;
        size_t holders = 0, exclusive = 0;
        table_id last = 0;

        TAILQ_FOREACH(h, &r->holders, entry) {
                holders++;
                exclusive += h->mode == TABLE_EX;
                if (h->id <= last)
                        return "holders are not in the order of their lock ids";
                last = h->id;
                if (h->on_trial && (waiting_upgrade(h) == NULL || h->bearer->shared))
                        return "one holds who was not granted it and does not wait for it either";
                if (h->resource != r)
                        return "a holder stands under a resource that is not its own";
                if (h->bearer->mode < h->mode)
                        return "a holder's bearer does not hold its mode in the kernel";
                if (h->mode == TABLE_EX && r->holder_count > (h->bearer->shared ? 1 : h->bearer->holders))
                        return "somebody holds beside an exclusive holder";
        }
        if (r->bearer_count > holders || (r->bearer_count == 0) != (holders == 0) || holders != r->holder_count || (exclusive > 0) != r->exclusive)
                return "a count of holders differs from its list";
        return NULL;
}

static const char *check_queue(const struct table *t, const struct resource *r)
{
        const struct request *q, *head = TAILQ_FIRST(&r->line->queue), *before = NULL;
        size_t waiters = 0, leading = 0;

        TAILQ_FOREACH(q, &r->line->queue, entry) {
                waiters++;
                leading += !q->records->concurrent && (q->records->places > 1 || q->records->parent != NULL);
                if (!q->queued)
                        return "a request does not know that it is queued";
                if (q->state != REQUEST_WAITING)
                        return "a ghost stands in a queue";
                if (q->upgrade != NULL && q != head)
                        return "an upgrade is not at the head";
                if (q->nonblock && before != NULL && !before->nonblock)
                        return "one that may not wait stands behind one that does";
                if (q->nonblock && (r->line->op == NULL || (r->line->op->op_waits && !r->line->op->op_cancelled)))
                        return "one that may not wait waits for more than the end of an operation";
                /* With groups the one that was between them may have left. */
                if (before != NULL && before->upgrade == NULL && before->since_ms > q->since_ms && before->records->group == 0 && q->records->group == 0)
                        return "an older request stands behind a younger one";
                if (q->deadline_ms <= t->now_ms && !t->late)
                        return "a deadline has passed and nobody was told";
                if (q->upgrade == NULL && q->bearer->holders > 0 && !q->bearer->shared)
                        return "a bearer is queued behind its own waiters";
                before = q;
        }
        if (leading != r->line->leading)
                return "a count of waiters that lead on is wrong";
        if (waiters != r->line->waiter_count)
                return "a count of waiters differs from its list";
        if (r->moved || r->touched)
                return "a resource was left before it was at rest";
        if (head == NULL && r->line->op == NULL && r->holder_count == 0)
                return "an empty resource was not freed";
        if (head == NULL)
                return r->line->op == NULL && store_has_line(r) ? "a line is there for nobody" : NULL;
        if (head->upgrade == NULL && r->line->op == NULL && !head->in_hand &&
            (head->mode == TABLE_SH ? !r->exclusive : r->holder_count == 0))
                return "the head could be granted and nothing is under way";
        if (r->line->op != NULL && r->line->op->state == REQUEST_WAITING && r->line->op != head && r->line->op->op_waits && !r->line->op->op_cancelled)
                return "one that is not the head waits in the kernel";
        return NULL;
}

static const char *check_session(const struct session_records *s)
{
        const struct session_records *child;
        size_t places = 0, records = s->introduced;
        const struct request *q;
        const struct holder *h;

        LIST_FOREACH(h, &s->holders, of_session) {
                places++;
                records++;
                if (h->records != s)
                        return "a lock is in another session's records";
        }
        LIST_FOREACH(q, &s->requests, of_session) {
                places += q->queued;
                records++;
                if (q->records != s)
                        return "a request is in another session's records";
        }
        LIST_FOREACH(child, &s->children, of_parent) {
                records++;
                if (child->parent != s)
                        return "a child has another parent";
        }
        return places != s->places || records != s->count || records == 0 ? "a count of a session's records is wrong" : NULL;
}

/*
 * No circle among those who wait: take away whoever waits for nobody that is left, until all are gone or nobody can be taken. This goes forwards, from
 * each to those it waits for, and looks at everybody; the detection (waitgraph.c) goes the other way. `found` serves as the mark of those who are left.
 */
#define LEFT UINT64_MAX

static bool waits_for_one_left(const struct request *w)
{
        const struct request *p, *upgrade = store_upgrade(w->resource);
        const struct holder *h;

        TAILQ_FOREACH(h, &w->resource->holders, entry) {
                bool will_be_exclusive = upgrade != NULL && upgrade != w && !h->bearer->shared && h->bearer == upgrade->bearer;

                if (h->records->found == LEFT && (waits_for_holder(w, h) || (will_be_exclusive && !w->nonblock)))
                        return true;
        }
        for (p = TAILQ_FIRST(&w->resource->line->queue); p != w; p = TAILQ_NEXT(p, entry))
                if (p->records->found == LEFT && waits_for_request(w, p))
                        return true;
        return false;
}

static bool is_stuck(const struct session_records *s)
{
        const struct session_records *child;
        const struct request *w;

        LIST_FOREACH(child, &s->children, of_parent)
                if (child->found == LEFT)
                        return true;
        LIST_FOREACH(w, &s->requests, of_session)
                if (w->queued && waits_for_one_left(w))
                        return true;
        return false;
}

static const char *check_waiting(const struct table *t)
{
        struct session_records *s;
        struct link *l;
        size_t at;
        bool taken = true, left = false;

        CHAINS_FOREACH(s, &t->sessions, at, l, struct session_records, by_id)
                s->found = s->concurrent ? 0 : LEFT;
        while (taken) {
                taken = left = false;
                CHAINS_FOREACH(s, &t->sessions, at, l, struct session_records, by_id) {
                        if (s->found != LEFT)
                                continue;
                        if (is_stuck(s)) {
                                left = true;
                        } else {
                                s->found = 0;
                                taken = true;
                        }
                }
        }
        CHAINS_FOREACH(s, &t->sessions, at, l, struct session_records, by_id)
                s->found = 0;
        return left ? "sessions wait in a circle, and nobody was told" : NULL;
}

const char *table_check(const struct table *t)
{
        const struct session_records *s;
        const struct resource *r;
        const struct bearer *b;
        const char *wrong;
        struct link *l;
        size_t at, i, locks = 0, waiting = 0, resources = 0, bearing = 0, held = 0;

        CHAINS_FOREACH(r, &t->resources, at, l, struct resource, by_key) {
                wrong = check_holders(r);
                if (wrong == NULL)
                        wrong = check_queue(t, r);
                if (wrong != NULL)
                        return wrong;
                resources++;
                locks += r->holder_count;
                waiting += r->line->waiter_count;
                bearing += r->bearer_count;
        }
        CHAINS_FOREACH(s, &t->sessions, at, l, struct session_records, by_id) {
                wrong = check_session(s);
                if (wrong != NULL)
                        return wrong;
        }
        wrong = check_waiting(t);
        if (wrong != NULL)
                return wrong;
        CHAINS_FOREACH(b, &t->bearers, at, l, struct bearer, by_id) {
                if (b->users == 0)
                        return "a bearer without users was not dropped";
                if (b->holders == 0 && b->mode != TABLE_NONE)
                        return "a bearer without holders is said to hold a lock";
                if (b->holders == 0 && b->has_trial)
                        return "a bearer without holders is said to have one on trial";
                if (b->holders > 0 && b->left != TABLE_NONE)
                        return "a bearer with holders is said to be left";
                bearing -= b->holders > 0;
                held += b->holders;
        }
        for (i = 1; i <= t->heap_count; i++) {
                if (t->heap[i].request->due_index != i || (i > 1 && t->heap[i / 2].at_ms > t->heap[i].at_ms))
                        return "the heap of deadlines is out of order";
        }
        if (bearing != 0 || held != locks)
                return "a count of bearers or of their holders is wrong";
        if (t->locks.members != locks)
                return "a lock cannot be found by its id";
        if (t->owners.members != locks)
                return "a lock cannot be found by its owner";
        if (t->resource_pool.used != resources || t->holder_pool.used != locks || t->bearer_pool.used != t->bearers.members)
                return "a record is in use that nobody knows";
        if (resources != t->counts.resources || locks != t->counts.locks || waiting != t->counts.waiting)
                return "a gauge differs from what it counts";
        return NULL;
}
