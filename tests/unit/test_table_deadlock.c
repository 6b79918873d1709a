/* Histories of several files: who would wait for ever is told at once, and nobody else. */
#include "history.h"

#include <stdlib.h>

#define A_SECOND 1000

static void two_files_in_different_order(void **state)
{
        struct trace *t = *state;

        trace_lock_file(t, 'A', 'x', EX, FOREVER);
        trace_lock_file(t, 'B', 'y', EX, FOREVER);
        trace_lock_file(t, 'A', 'y', EX, FOREVER);
        trace_lock_file(t, 'B', 'x', EX, A_SECOND);     /* that it would give up some day does not help */
        trace_expect(t, "A has EX of x\nB has EX of y\nA waits for y\nB deadlock: B waits for x, A waits for y\n");
        trace_lock_file(t, 'B', 'x', EX, AT_ONCE);
        trace_expect(t, "B refused\n");
        trace_unlock(t, 'B', false);
        trace_expect(t, "kernel: unlock\nA has EX of y\n");
}

static void a_circle_of_three(void **state)
{
        struct trace *t = *state;

        trace_lock_file(t, 'A', 'x', EX, FOREVER);
        trace_lock_file(t, 'B', 'y', SH, FOREVER);
        trace_lock_file(t, 'C', 'z', EX, FOREVER);
        trace_lock_file(t, 'A', 'y', EX, FOREVER);
        trace_lock_file(t, 'B', 'z', SH, FOREVER);
        trace_forget(t);
        trace_lock_file(t, 'C', 'x', SH, FOREVER);
        trace_expect(t, "C deadlock: C waits for x, A waits for y, B waits for z\n");
}

static void a_line_is_no_circle(void **state)
{
        struct trace *t = *state;

        trace_lock_file(t, 'A', 'x', EX, FOREVER);
        trace_lock_file(t, 'B', 'y', EX, FOREVER);
        trace_lock_file(t, 'B', 'x', EX, FOREVER);
        trace_lock_file(t, 'C', 'y', EX, FOREVER);
        trace_lock_file(t, 'C', 'x', EX, FOREVER);
        trace_expect(t, "A has EX of x\nB has EX of y\nB waits for x\nC waits for y\nC waits for x\n");
}

static void sharers_do_not_wait_for_each_other(void **state)
{
        struct trace *t = *state;

        /* C and D stand behind each other's requests, but they share. */
        trace_lock_file(t, 'A', 'x', EX, FOREVER);
        trace_lock_file(t, 'B', 'y', EX, FOREVER);
        trace_lock_file(t, 'C', 'x', SH, FOREVER);
        trace_lock_file(t, 'D', 'y', SH, FOREVER);
        trace_lock_file(t, 'C', 'y', SH, FOREVER);
        trace_lock_file(t, 'D', 'x', SH, FOREVER);
        trace_expect(t, "A has EX of x\nB has EX of y\nC waits for x\nD waits for y\nC waits for y\nD waits for x\n");
}

static void who_stands_before_is_waited_for_as_well(void **state)
{
        struct trace *t = *state;

        /* B holds nothing that A wants: but it comes first, and then it holds. */
        trace_lock_file(t, 'A', 'x', EX, FOREVER);
        trace_lock_file(t, 'C', 'y', SH, FOREVER);
        trace_lock_file(t, 'B', 'y', EX, FOREVER);
        trace_lock_file(t, 'B', 'x', EX, FOREVER);
        trace_forget(t);
        trace_lock_file(t, 'A', 'y', SH, FOREVER);
        trace_expect(t, "A deadlock: A waits for y, B waits for x\n");
        trace_unlock_file(t, 'A', 'x');
        trace_expect(t, "kernel: unlock\nB has EX of x\n");
}

static void a_sharer_waits_for_the_exclusive_one_between(void **state)
{
        struct trace *t = *state;

        trace_lock_file(t, 'A', 'x', SH, FOREVER);
        trace_lock_file(t, 'B', 'x', EX, FOREVER);
        trace_lock_file(t, 'C', 'y', EX, FOREVER);
        trace_lock_file(t, 'C', 'x', SH, FOREVER);
        trace_forget(t);
        trace_lock_file(t, 'A', 'y', EX, FOREVER);
        trace_expect(t, "A deadlock: A waits for y, C waits for x, B waits for x\n");
}

static void two_handles_of_one_session(void **state)
{
        struct trace *t = *state;

        trace_lock_file(t, 'A', 'x', SH, FOREVER);
        trace_use_handle(t, 1);
        trace_lock_file(t, 'A', 'x', SH, FOREVER);
        trace_lock_file(t, 'A', 'x', EX, FOREVER);
        trace_expect(t, "A has SH of x\nA has SH of x\nA deadlock: A waits for x\n");
        trace_lock_file(t, 'B', 'y', EX, FOREVER);
        trace_lock_file(t, 'C', 'y', EX, FOREVER);
        trace_use_handle(t, 2);
        trace_forget(t);
        trace_lock_file(t, 'C', 'y', SH, FOREVER);      /* it would have to be told of the first before it can give that back */
        trace_expect(t, "C deadlock: C waits for y\n");
}

static void a_passed_description_and_a_path_of_one_session(void **state)
{
        struct trace *t = *state;

        t->cycles = true;
        trace_pass(t, 'A', 7, EX, FOREVER, TABLE_NONE);
        trace_lock(t, 'A', SH, FOREVER);
        trace_expect(t, "A has EX\nA deadlock: A waits for x\n");
}

static void a_concurrent_session_goes_on(void **state)
{
        struct trace *t = *state;

        trace_introduce(t, 'A', 0, true);
        trace_lock_file(t, 'A', 'x', EX, FOREVER);
        trace_lock_file(t, 'B', 'y', EX, FOREVER);
        trace_lock_file(t, 'A', 'y', EX, FOREVER);
        trace_lock_file(t, 'B', 'x', EX, FOREVER);
        trace_use_handle(t, 1);
        trace_lock_file(t, 'A', 'x', EX, FOREVER);
        trace_expect(t, "A has EX of x\nB has EX of y\nA waits for y\nB waits for x\nA waits for x\n");
        trace_unlock_file(t, 'A', 'x');
        trace_expect(t, "kernel: unlock\nB has EX of x\n");
}

static void those_behind_a_concurrent_one_wait_for_whom_they_wait_themselves(void **state)
{
        struct trace *t = *state;

        trace_introduce(t, 'B', 0, true);
        trace_lock_file(t, 'A', 'x', SH, FOREVER);
        trace_lock_file(t, 'B', 'x', EX, FOREVER);
        trace_lock_file(t, 'C', 'y', EX, FOREVER);
        trace_lock_file(t, 'C', 'x', SH, FOREVER);      /* only for B, who may go away */
        trace_lock_file(t, 'D', 'z', EX, FOREVER);
        trace_lock_file(t, 'D', 'x', EX, FOREVER);      /* also for A */
        trace_forget(t);
        trace_lock_file(t, 'A', 'y', EX, FOREVER);
        trace_expect(t, "A waits for y\n");
        trace_cancel(t, 'A');
        trace_forget(t);
        trace_lock_file(t, 'A', 'z', EX, FOREVER);
        trace_expect(t, "A deadlock: A waits for z, D waits for x\n");
}

static void an_upgrade_waits_for_a_sharer_that_waits_for_its_session(void **state)
{
        struct trace *t = *state;

        trace_lock_file(t, 'A', 'x', SH, FOREVER);
        trace_lock_file(t, 'B', 'x', SH, FOREVER);
        trace_lock_file(t, 'A', 'y', EX, FOREVER);
        trace_lock_file(t, 'B', 'y', SH, FOREVER);
        trace_forget(t);
        trace_lock_file(t, 'A', 'x', EX, FOREVER);
        trace_expect(t, "A deadlock: A waits for x, B waits for y\n");
        trace_lock_file(t, 'A', 'x', EX, AT_ONCE);
        trace_expect(t, "A refused\n");
        trace_lock_file(t, 'A', 'x', SH, FOREVER);
        trace_expect(t, "A still has SH of x\n");
}

static void an_upgrade_gets_before_a_sharer(void **state)
{
        struct trace *t = *state;

        /* C waits for D alone, who may go away; it does not wait for A, with whom it shares. Now A wants all of it, and B waits for C. */
        trace_introduce(t, 'D', 0, true);
        trace_lock_file(t, 'A', 'x', SH, FOREVER);
        trace_lock_file(t, 'B', 'x', SH, FOREVER);
        trace_lock_file(t, 'D', 'x', EX, FOREVER);
        trace_lock_file(t, 'C', 'y', EX, FOREVER);
        trace_lock_file(t, 'C', 'x', SH, FOREVER);
        trace_lock_file(t, 'B', 'y', SH, FOREVER);
        trace_forget(t);
        trace_lock_file(t, 'A', 'x', EX, FOREVER);
        trace_expect(t, "A deadlock: A waits for x, B waits for y, C waits for x\n");
}

static void one_that_may_not_wait_is_refused_and_no_deadlock(void **state)
{
        struct trace *t = *state;

        /* As before, but nobody shares with A, who waits for C already: it could be granted at once, and C would wait for it. */
        trace_introduce(t, 'D', 0, true);
        trace_lock_file(t, 'A', 'x', SH, FOREVER);
        trace_lock_file(t, 'D', 'x', EX, FOREVER);
        trace_lock_file(t, 'C', 'y', EX, FOREVER);
        trace_lock_file(t, 'C', 'x', SH, FOREVER);
        trace_lock_file(t, 'A', 'y', EX, FOREVER);
        trace_forget(t);
        trace_lock_file(t, 'A', 'x', EX, AT_ONCE);
        trace_expect(t, "A refused\n");
}

static void an_upgrade_makes_its_co_holder_exclusive(void **state)
{
        struct trace *t = *state;

        /* B holds x together with A; C waits for D alone, until A wants B to hold all of x. */
        trace_introduce(t, 'D', 0, true);
        trace_pass(t, 'A', 7, SH, FOREVER, TABLE_NONE);
        trace_pass(t, 'B', 7, SH, FOREVER, TABLE_NONE);
        trace_pass(t, 'E', 8, SH, FOREVER, TABLE_NONE);
        trace_lock(t, 'D', EX, FOREVER);
        trace_lock_file(t, 'C', 'y', EX, FOREVER);
        trace_lock(t, 'C', SH, FOREVER);
        trace_lock_file(t, 'B', 'y', SH, FOREVER);
        trace_forget(t);
        trace_pass(t, 'A', 7, EX, FOREVER, SH);
        trace_expect(t, "A deadlock: B waits for y, C waits for x\n");
}

static void an_older_one_gets_before_a_younger_one(void **state)
{
        struct trace *t = *state;

        /* A's file was replaced: it queues for x at its old place, before B, who has what A's session waits for already. */
        trace_lock_file(t, 'C', 'x', SH, FOREVER);
        trace_lock_file(t, 'B', 'y', EX, FOREVER);
        trace_advance(t, 10);
        trace_lock_file(t, 'B', 'x', EX, FOREVER);
        trace_lock_file(t, 'A', 'y', EX, FOREVER);
        trace_forget(t);
        trace_lock_file_again(t, 'A', 'x', EX, t->now - 5);
        trace_expect(t, "A deadlock: A waits for y, B waits for x\n");
}

static void a_co_holder_that_joins_is_granted_and_one_who_waits_is_told(void **state)
{
        struct trace *t = *state;

        trace_pass(t, 'A', 7, EX, FOREVER, TABLE_NONE);
        trace_lock_file(t, 'C', 'y', EX, FOREVER);
        trace_lock(t, 'C', EX, FOREVER);
        trace_lock_file(t, 'B', 'y', EX, FOREVER);
        trace_forget(t);
        trace_pass(t, 'B', 7, EX, FOREVER, EX);
        trace_expect(t, "B still has EX\nB deadlock: B waits for y, C waits for x\n");
}

static void one_whose_description_bears_the_lock_is_granted_and_one_who_waits_is_told(void **state)
{
        struct trace *t = *state;

        trace_introduce(t, 'D', 'B', false);
        trace_lock_file(t, 'C', 'z', EX, FOREVER);
        t->outside = EX;        /* that is B's description, as a daemon before us granted it */
        trace_lock(t, 'C', EX, FOREVER);
        trace_forget(t);
        t->outside = TABLE_NONE;
        trace_lock_file(t, 'D', 'z', EX, FOREVER);
        trace_expect(t, "D waits for z\n");
        trace_pass(t, 'B', 9, EX, FOREVER, EX);
        trace_expect(t, "B still has EX\nD deadlock: D waits for z, C waits for x, B waits for D\n");
        trace_end(t, 'C');      /* its wait in the kernel ends with it */
        trace_forget(t);
}

static void a_try_of_the_system_that_fails_adds_nobody_to_wait_for(void **state)
{
        struct trace *t = *state;

        trace_lock_file(t, 'A', 'y', EX, FOREVER);
        t->slow = true;
        trace_lock(t, 'A', EX, FOREVER);
        trace_lock_file(t, 'B', 'x', EX, FOREVER);
        trace_forget(t);
        trace_answer(t, OS_BUSY);
        trace_expect(t, "kernel: wait EX for A\nA waits\n");
        trace_lock_file(t, 'B', 'y', EX, FOREVER);      /* A waits for an outsider */
        trace_expect(t, "B waits for y\n");
        trace_answer(t, OS_TAKEN);
        trace_expect(t, "A has EX\n");
        trace_lock_file(t, 'A', 'z', EX, FOREVER);
        trace_answer(t, OS_TAKEN);
        t->slow = false;
}

static void the_refused_one_can_be_granted_later(void **state)
{
        struct trace *t = *state;

        two_files_in_different_order(state);
        trace_unlock_file(t, 'A', 'x');
        trace_unlock_file(t, 'A', 'y');
        trace_lock_file(t, 'B', 'x', EX, FOREVER);
        trace_expect(t, "kernel: unlock\nkernel: unlock\nB has EX of x\n");
}

static void a_long_circle_is_shown_in_part(void **state)
{
        enum { COUNT = TABLE_CYCLE_MAX + 10 };
        struct table *t = table_create();
        struct table_effects fx = {0};
        struct table_cycle_step step;
        uint64_t i, shown = 0;

        (void)state;
        for (i = 0; i < 2 * COUNT; i++) {
                struct table_event ev = {.kind = EV_LOCK, .session = i % COUNT + 1, .cookie = i, .key = {8, (i % COUNT + i / COUNT) % COUNT}, .bearer = 0, .shared = true,
                                         .mode = EX, .deadline_ms = TABLE_NEVER};

                ev.bearer = ev.key.inode + 1;
                fx.count = 0;
                table_step(t, &ev, &fx);
                if (fx.count > 0 && fx.items[0].kind == FX_OS_LOCK) {
                        struct table_event done = {.kind = EV_OS_DONE, .op = fx.items[0].op, .result = OS_TAKEN};

                        fx.count = 0;
                        table_step(t, &done, &fx);
                }
        }
        assert_int_equal(fx.items[0].kind, FX_REPLY);
        assert_int_equal(fx.items[0].outcome, OUT_DEADLOCK);
        for (i = 0; table_cycle(t, fx.items[0].cycle, i, &step); i++, shown++)
                assert_int_equal(step.session, (COUNT - 1 + i) % COUNT + 1);
        assert_int_equal(shown, TABLE_CYCLE_MAX);
        for (i = 0; i < COUNT; i++)
                table_step(t, &(struct table_event){.kind = EV_SESSION_END, .session = i + 1}, &fx);
        free(fx.items);
        table_destroy(t);
}

/* ---- many ---- */

#define MANY 10000u
#define HOLDER 1u

struct crowd {
        struct table *table;
        struct table_effects fx;
        size_t visits;          /* of the last request, before the kernel answered */
};

/* Everybody by path; a try of the system succeeds at once. The outcome of this request, or -1: it waits. */
static int ask(struct crowd *c, uint64_t session, uint64_t inode, enum table_mode mode, int64_t handle)
{
        struct table_event ev = {.kind = EV_LOCK, .session = session, .cookie = 1, .key = {8, inode}, .bearer = inode, .shared = true, .mode = mode, .handle = handle,
                                 .deadline_ms = TABLE_NEVER};
        size_t i;

        c->fx.count = 0;
        table_step(c->table, &ev, &c->fx);
        c->visits = table_search_visits(c->table);
        for (i = 0; i < c->fx.count; i++) {
                if (c->fx.items[i].kind == FX_REPLY)
                        return (int)c->fx.items[i].outcome;
                if (c->fx.items[i].kind == FX_OS_LOCK && !c->fx.items[i].wait) {
                        struct table_event done = {.kind = EV_OS_DONE, .op = c->fx.items[i].op, .result = OS_TAKEN};

                        c->fx.count = 0;
                        table_step(c->table, &done, &c->fx);
                        i = (size_t)-1;
                }
        }
        return -1;
}

static struct crowd gather(void)
{
        return (struct crowd){.table = table_create()};
}

static void leave(struct crowd *c)
{
        free(c->fx.items);
        table_destroy(c->table);
}

#define FREE 1000000u   /* inodes that nobody else has: + session */

static void ten_thousand_who_share_and_ten_thousand_who_wait_cost_nothing(void **state)
{
        struct crowd c = gather();
        uint64_t i;

        (void)state;
        for (i = 0; i < MANY; i++)
                assert_int_equal(ask(&c, 1 + i, 100, SH, 0), OUT_GRANTED);
        for (i = 0; i < MANY; i++)
                assert_int_equal(ask(&c, 1 + MANY + i, 100, EX, 0), -1);
        assert_int_equal(ask(&c, 3 * MANY, 200, EX, 0), OUT_GRANTED);
        /* Each of those who share goes on to wait for another file ... */
        for (i = 0; i < 100; i++) {
                assert_int_equal(ask(&c, 1 + i, 200, EX, 0), -1);
                assert_true(table_search_visits(c.table) < 200);
        }
        /* ... or for all of this one. */
        assert_int_equal(ask(&c, 1 + MANY / 2, 100, EX, 0), -1);
        assert_true(table_search_visits(c.table) < MANY + 10);  /* once along the queue */
        assert_int_equal(ask(&c, 2 + MANY / 2, 100, EX, 0), OUT_DEADLOCK);
        /* One more who waits, by whatever it has in other files. */
        assert_int_equal(ask(&c, 4 * MANY, FREE, EX, 0), OUT_GRANTED);
        assert_int_equal(ask(&c, 4 * MANY, 100, SH, 0), -1);
        assert_true(table_search_visits(c.table) < 10);
        leave(&c);
}

static void a_crowd_that_has_other_locks_is_gone_through_once(void **state)
{
        struct crowd c = gather();
        uint64_t i;

        (void)state;
        /* All hold a share of 300 and a file of their own, and wait for 100. */
        assert_int_equal(ask(&c, HOLDER, 100, EX, 0), OUT_GRANTED);
        for (i = 0; i < MANY; i++) {
                assert_int_equal(ask(&c, 2 + i, 300, SH, 0), OUT_GRANTED);
                assert_int_equal(ask(&c, 2 + i, FREE + i, EX, 0), OUT_GRANTED);
                assert_int_equal(ask(&c, 2 + i, 100, EX, 0), -1);
                assert_true(table_search_visits(c.table) < 10);
        }
        assert_int_equal(ask(&c, 3 * MANY, 200, EX, 0), OUT_GRANTED);
        assert_int_equal(ask(&c, HOLDER, 200, EX, 0), -1);
        assert_true(table_search_visits(c.table) < 6 * MANY);
        assert_int_equal(ask(&c, HOLDER, 300, EX, 0), OUT_DEADLOCK);
        leave(&c);
}

static void the_locks_of_a_session_do_not_make_its_next_one_slow(void **state)
{
        struct crowd c = gather();
        uint64_t i;

        (void)state;
        for (i = 0; i < MANY; i++) {
                assert_int_equal(ask(&c, HOLDER, FREE + i, i % 2 == 0 ? EX : SH, 0), OUT_GRANTED);
                assert_true(c.visits < 10);
        }
        for (i = 1; i < MANY; i += 1000) {
                assert_int_equal(ask(&c, HOLDER, FREE + i, EX, 0), OUT_GRANTED);
                assert_true(c.visits < 10);
        }
        leave(&c);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                HISTORY(two_files_in_different_order),
                HISTORY(a_circle_of_three),
                HISTORY(a_line_is_no_circle),
                HISTORY(sharers_do_not_wait_for_each_other),
                HISTORY(who_stands_before_is_waited_for_as_well),
                HISTORY(a_sharer_waits_for_the_exclusive_one_between),
                HISTORY(two_handles_of_one_session),
                HISTORY(a_passed_description_and_a_path_of_one_session),
                HISTORY(a_concurrent_session_goes_on),
                HISTORY(those_behind_a_concurrent_one_wait_for_whom_they_wait_themselves),
                HISTORY(an_upgrade_waits_for_a_sharer_that_waits_for_its_session),
                HISTORY(an_upgrade_gets_before_a_sharer),
                HISTORY(one_that_may_not_wait_is_refused_and_no_deadlock),
                HISTORY(an_upgrade_makes_its_co_holder_exclusive),
                HISTORY(an_older_one_gets_before_a_younger_one),
                HISTORY(a_co_holder_that_joins_is_granted_and_one_who_waits_is_told),
                HISTORY(one_whose_description_bears_the_lock_is_granted_and_one_who_waits_is_told),
                HISTORY(a_try_of_the_system_that_fails_adds_nobody_to_wait_for),
                HISTORY(the_refused_one_can_be_granted_later),
                cmocka_unit_test(a_long_circle_is_shown_in_part),
                cmocka_unit_test(ten_thousand_who_share_and_ten_thousand_who_wait_cost_nothing),
                cmocka_unit_test(a_crowd_that_has_other_locks_is_gone_through_once),
                cmocka_unit_test(the_locks_of_a_session_do_not_make_its_next_one_slow),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
