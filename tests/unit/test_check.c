/* The judge is judged: each invariant of table_check() is broken on purpose, and it must say which. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "internal.h"
#include "trace.h"

#include <string.h>

#define SHARED TABLE_SH
#define EXCLUSIVE TABLE_EX
#define FOREVER (-1)

/* A table in which: A and B hold SH by two descriptions, A waits to upgrade, C and D wait behind it, C until a deadline. */
struct parts {
        struct table *t;
        struct resource *r;
        struct holder *first, *second;
        struct request *upgrade, *next, *last;
};

static struct resource *only_resource(struct table *t)
{
        struct resource *r = NULL;
        struct link *l;
        size_t i;

        CHAINS_FOREACH(r, &t->resources, i, l, struct resource, by_key)
                return r;
        return NULL;
}

static struct parts parts_of(struct trace *t)
{
        struct parts p = {.t = t->table};

        trace_pass(t, 'A', 10, SHARED, FOREVER, TABLE_NONE);
        trace_pass(t, 'B', 11, SHARED, FOREVER, TABLE_NONE);
        trace_pass(t, 'A', 10, EXCLUSIVE, FOREVER, TABLE_NONE);
        trace_lock(t, 'C', SHARED, 1000);
        trace_lock(t, 'D', EXCLUSIVE, FOREVER);
        trace_forget(t);
        p.r = only_resource(p.t);
        p.first = TAILQ_FIRST(&p.r->holders);
        p.second = TAILQ_NEXT(p.first, entry);
        p.upgrade = TAILQ_FIRST(&p.r->line->queue);
        p.next = TAILQ_NEXT(p.upgrade, entry);
        p.last = TAILQ_NEXT(p.next, entry);
        assert_non_null(p.last);
        assert_ptr_equal(waiting_upgrade(p.first), p.upgrade);
        assert_null(table_check(p.t));
        return p;
}

#pragma GCC diagnostic ignored "-Wconversion"    /* of what is kept in a few bits */

/* The place is spoilt with `value`, judged and put right again. */
#define SPOILT(place, value, sentence)                          \
        do {                                                    \
                __typeof__((place) + 0) right_ = (place);             \
                const char *said_;                              \
                (place) = (value);                              \
                said_ = table_check(p.t);                       \
                (place) = right_;                               \
                assert_non_null(said_);                         \
                assert_string_equal(said_, sentence);           \
                assert_null(table_check(p.t));                  \
        } while (0)

static void what_is_wrong_with_holders_is_seen(void **state)
{
        struct parts p = parts_of(*state);

        SPOILT(p.second->id, p.first->id, "holders are not in the order of their lock ids");
        SPOILT(p.second->on_trial, true, "one holds who was not granted it and does not wait for it either");
        SPOILT(p.second->resource, NULL, "a holder stands under a resource that is not its own");
        SPOILT(p.second->bearer->mode, TABLE_NONE, "a holder's bearer does not hold its mode in the kernel");
        p.second->bearer->mode = TABLE_EX;
        SPOILT(p.second->mode, TABLE_EX, "somebody holds beside an exclusive holder");
        p.second->bearer->mode = TABLE_SH;
        SPOILT(p.r->exclusive, true, "a count of holders differs from its list");
        SPOILT(p.r->holder_count, 3, "a count of holders differs from its list");
        SPOILT(p.r->bearer_count, 0, "a count of holders differs from its list");
}

static void what_is_wrong_with_a_queue_is_seen(void **state)
{
        struct parts p = parts_of(*state);

        SPOILT(p.last->state, REQUEST_GHOST, "a ghost stands in a queue");
        SPOILT(p.next->upgrade, p.second, "an upgrade is not at the head");
        SPOILT(p.last->nonblock, true, "one that may not wait stands behind one that does");
        SPOILT(p.upgrade->nonblock, true, "one that may not wait waits for more than the end of an operation");
        SPOILT(p.last->since_ms, -5, "an older request stands behind a younger one");
        SPOILT(p.next->deadline_ms, 0, "a deadline has passed and nobody was told");
        SPOILT(p.next->bearer, p.second->bearer, "a bearer is queued behind its own waiters");
        SPOILT(p.r->line->waiter_count, 2, "a count of waiters differs from its list");
        SPOILT(p.r->moved, true, "a resource was left before it was at rest");
        SPOILT(p.r->touched, true, "a resource was left before it was at rest");
        p.last->op_waits = true;
        SPOILT(p.r->line->op, p.last, "one that is not the head waits in the kernel");
        p.last->op_waits = false;
}

static void what_is_wrong_with_the_rest_is_seen(void **state)
{
        struct parts p = parts_of(*state);
        struct bearer *path = p.next->bearer;

        assert_int_equal(path->holders, 0);
        SPOILT(path->users, 0, "a bearer without users was not dropped");
        SPOILT(path->mode, TABLE_SH, "a bearer without holders is said to hold a lock");
        SPOILT(path->has_trial, true, "a bearer without holders is said to have one on trial");
        SPOILT(p.second->bearer->left, TABLE_SH, "a bearer with holders is said to be left");
        SPOILT(p.second->bearer->holders, 2, "a count of bearers or of their holders is wrong");
        SPOILT(p.next->due_index, 7, "the heap of deadlines is out of order");
        SPOILT(p.t->counts.waiting, 1, "a gauge differs from what it counts");
        SPOILT(p.t->counts.locks, 1, "a gauge differs from what it counts");
        SPOILT(p.t->counts.resources, 2, "a gauge differs from what it counts");
        SPOILT(p.first->records->count, 7, "a count of a session's records is wrong");
        SPOILT(p.t->locks.members, 3, "a lock cannot be found by its id");
        SPOILT(p.t->owners.members, 3, "a lock cannot be found by its owner");
        SPOILT(p.t->holder_pool.used, 3, "a record is in use that nobody knows");
}

/* A file that nobody has and one waits for, with nothing under way: nobody would ever wake it. */
static void a_stall_is_seen(void **state)
{
        struct trace *t = *state;
        struct parts p = {.t = t->table};
        struct bearer bearer = {.shared = true, .mode = TABLE_SH};
        struct holder alone = {.id = 1, .bearer = &bearer, .mode = TABLE_SH};
        struct request *q;

        t->outside = TABLE_EX;
        trace_lock(t, 'A', EXCLUSIVE, FOREVER);
        trace_forget(t);
        p.r = only_resource(p.t);
        q = TAILQ_FIRST(&p.r->line->queue);
        assert_ptr_equal(p.r->line->op, q);
        SPOILT(p.r->line->op, NULL, "the head could be granted and nothing is under way");
        TAILQ_REMOVE(&p.r->line->queue, q, entry);
        p.r->line->waiter_count = 0;
        p.r->line->op = NULL;
        assert_string_equal(table_check(p.t), "an empty resource was not freed");
        p.r->holder_count = p.r->bearer_count = 1;
        TAILQ_INSERT_TAIL(&p.r->holders, &alone, entry);
        alone.resource = p.r;
        assert_string_equal(table_check(p.t), "a line is there for nobody");
        TAILQ_REMOVE(&p.r->holders, &alone, entry);
        p.r->holder_count = p.r->bearer_count = 0;
        TAILQ_INSERT_HEAD(&p.r->line->queue, q, entry);
        p.r->line->waiter_count = 1;
        p.r->line->op = q;
        assert_null(table_check(p.t));
}

#define WITH_TRACE(test) cmocka_unit_test_setup_teardown(test, trace_set_up, trace_tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                WITH_TRACE(what_is_wrong_with_holders_is_seen),
                WITH_TRACE(what_is_wrong_with_a_queue_is_seen),
                WITH_TRACE(what_is_wrong_with_the_rest_is_seen),
                WITH_TRACE(a_stall_is_seen),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
