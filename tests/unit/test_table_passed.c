/* Histories of one file by passed descriptions: co-holders, locks that were found, detached ones, and requests that hope for more. */
#include "history.h"

static void one_description_in_two_sessions_is_one_lock(void **state)
{
        struct trace *t = *state;

        trace_pass(t, 'A', 7, EX, FOREVER, TABLE_NONE);
        trace_pass(t, 'B', 7, EX, FOREVER, EX);
        trace_lock(t, 'C', EX, FOREVER);
        trace_unlock(t, 'A', false);
        trace_expect(t, "A has EX\nB still has EX\nC waits\n");
        assert_int_equal(t->tokens[0], t->tokens[1]);
        trace_unlock(t, 'B', false);
        trace_expect(t, "kernel: unlock\nC has EX\n");
}

static void a_description_that_bears_the_lock_never_queues_behind_its_waiters(void **state)
{
        struct trace *t = *state;

        t->outside = EX;        /* granted before the daemon died: the table does not know */
        trace_lock(t, 'A', EX, FOREVER);
        trace_pass(t, 'B', 7, EX, FOREVER, EX);
        trace_expect(t, "kernel: wait EX for A\nA waits\nB still has EX\n");
}

static void a_passed_description_is_closed_at_the_end_and_never_unlocked(void **state)
{
        struct trace *t = *state;

        trace_pass(t, 'A', 7, EX, FOREVER, TABLE_NONE);
        trace_end(t, 'A');
        trace_expect(t, "A has EX\n");
        trace_pass(t, 'B', 8, EX, FOREVER, TABLE_NONE);
        trace_unlock(t, 'B', true);
        trace_expect(t, "B has EX\n");
        trace_lock(t, 'C', EX, FOREVER);
        trace_end(t, 'C');
        trace_expect(t, "C has EX\nkernel: unlock\n");
}

static void a_detached_lock_has_no_owner_here(void **state)
{
        struct trace *t = *state;
        struct table_event ev = {.kind = EV_LOCK, .session = 1, .cookie = 26 * 99, .key = {8, 42}, .bearer = 7, .mode = EX, .detach = true, .deadline_ms = TABLE_NEVER};
        struct table_counts n;

        trace_submit(t, ev);
        trace_expect(t, "A has EX\n");
        assert_int_equal(t->locks[0], 0);
        table_count(t->table, &n);
        assert_int_equal(n.locks, 0);
        assert_int_equal(t->references, 0);
}

static size_t locks_held(const struct trace *t)
{
        struct table_counts n;

        table_count(t->table, &n);
        return n.locks;
}

static void a_refused_request_by_a_description_that_is_held_makes_no_holder(void **state)
{
        struct trace *t = *state;

        trace_pass(t, 'A', 7, SH, FOREVER, TABLE_NONE);
        trace_lock(t, 'C', SH, FOREVER);
        trace_pass(t, 'B', 7, EX, AT_ONCE, SH);
        trace_expect(t, "A has SH\nC has SH\nB refused\n");
        assert_int_equal(locks_held(t), 2);
        trace_unlock(t, 'C', false);
        trace_unlock(t, 'A', false);
        trace_lock(t, 'D', EX, AT_ONCE);
        trace_expect(t, "kernel: unlock\nkernel: unlock\nD has EX\n");
}

static void nor_does_one_that_is_a_deadlock_or_too_late_or_withdrawn(void **state)
{
        struct trace *t = *state;

        trace_pass(t, 'A', 7, SH, FOREVER, TABLE_NONE);
        trace_lock(t, 'C', SH, FOREVER);
        trace_pass(t, 'B', 7, EX, 50, SH);
        trace_pass(t, 'D', 8, EX, FOREVER, SH);
        trace_advance(t, 50);
        trace_pass(t, 'B', 7, EX, FOREVER, SH);
        trace_cancel(t, 'B');
        trace_expect(t, "A has SH\nC has SH\nB waits\nD deadlock\nB timed out\nB waits\nB cancelled\n");
        assert_int_equal(locks_held(t), 2);
        trace_unlock(t, 'A', false);
        trace_expect(t, "kernel: unlock\n");
}

static void a_refused_request_leaves_a_lock_that_was_found_as_it_was(void **state)
{
        struct trace *t = *state;
        struct table_event detached = {.kind = EV_LOCK, .session = 2, .cookie = 26 * 99 + 1, .key = {8, 42}, .bearer = 7, .mode = EX, .bears = SH, .nonblock = true,
                                       .detach = true, .deadline_ms = TABLE_NEVER};

        trace_lock(t, 'C', SH, FOREVER);
        trace_pass(t, 'B', 7, EX, AT_ONCE, SH);
        trace_submit(t, detached);
        trace_expect(t, "C has SH\nB refused\nB refused\n");
        assert_int_equal(locks_held(t), 1);
        trace_unlock(t, 'C', false);
        t->outside = SH;        /* another one: the kernel refuses */
        trace_pass(t, 'B', 7, EX, AT_ONCE, SH);
        trace_expect(t, "kernel: unlock\nkernel: upgrade for B\nB refused\n");
        assert_int_equal(locks_held(t), 0);
}

static void a_found_lock_that_is_lost_is_told_by_the_answer_alone(void **state)
{
        struct trace *t = *state;

        t->slow = true;
        trace_pass(t, 'A', 7, EX, FOREVER, SH);
        trace_answer(t, OS_LOST);
        trace_expect(t, "kernel: upgrade for A\nA lost it\n");
        assert_int_equal(locks_held(t), 0);
}

static void an_upgrade_withdrawn_too_late_goes_back_to_what_was_found(void **state)
{
        struct trace *t = *state;

        t->slow = true;
        trace_pass(t, 'A', 7, EX, 50, SH);
        trace_advance(t, 50);
        trace_answer(t, OS_TAKEN);
        trace_expect(t, "kernel: upgrade for A\nA timed out\nkernel: downgrade\n");
}

static void an_upgrade_of_a_session_that_ended_goes_back_to_what_a_child_may_have_inherited(void **state)
{
        struct trace *t = *state;

        trace_pass(t, 'A', 7, SH, FOREVER, TABLE_NONE);
        t->slow = true;
        trace_pass(t, 'A', 7, EX, FOREVER, SH);
        trace_end(t, 'A');
        trace_answer(t, OS_TAKEN);
        trace_expect(t, "A has SH\nkernel: upgrade for A\nA cancelled\nkernel: downgrade\n");
}

static void the_last_unlock_of_a_description_counts_even_if_somebody_hoped_for_more(void **state)
{
        struct trace *t = *state;

        trace_pass(t, 'A', 7, SH, FOREVER, TABLE_NONE);
        trace_lock(t, 'C', SH, FOREVER);
        trace_pass(t, 'B', 7, EX, 50, SH);
        trace_unlock(t, 'A', false);
        trace_expect(t, "A has SH\nC has SH\nB waits\n");
        trace_advance(t, 50);
        trace_expect(t, "B timed out\nkernel: unlock\n");
        trace_pass(t, 'A', 7, SH, FOREVER, TABLE_NONE);
        trace_pass(t, 'B', 7, EX, 50, SH);
        trace_end(t, 'A');
        trace_advance(t, 50);
        trace_expect(t, "A has SH\nB waits\nB timed out\n");
}

static void what_hopes_for_more_can_be_unlocked_and_can_be_granted(void **state)
{
        struct trace *t = *state;
        struct table_holder h;

        trace_lock(t, 'C', SH, FOREVER);
        trace_pass(t, 'B', 7, EX, FOREVER, SH);
        assert_true(table_holder_at(t->table, (struct table_key){8, 42}, 1, &h));
        t->locks['B' - 'A'] = h.lock;
        trace_unlock(t, 'B', false);
        trace_expect(t, "C has SH\nB waits\nB cancelled\nkernel: unlock\n");
        trace_pass(t, 'B', 7, EX, FOREVER, SH);
        trace_unlock(t, 'C', false);
        trace_expect(t, "B waits\nkernel: unlock\nkernel: upgrade for B\nB has EX\n");
        trace_unlock(t, 'B', false);
        trace_expect(t, "kernel: unlock\n");
}

static void a_lock_that_is_detached_by_locking_again_is_named_as_gone(void **state)
{
        struct trace *t = *state;
        struct table_event detached = {.kind = EV_LOCK, .session = 1, .cookie = 26 * 99, .key = {8, 42}, .bearer = 7, .mode = SH, .bears = SH, .detach = true,
                                       .deadline_ms = TABLE_NEVER};
        table_id lock;

        trace_submit(t, detached);
        assert_int_equal(t->dropped, 0);        /* it never had a name */
        trace_pass(t, 'A', 7, SH, FOREVER, SH);
        lock = t->locks[0];
        trace_submit(t, detached);
        assert_int_equal(t->dropped, lock);
        assert_int_equal(locks_held(t), 0);
        trace_pass(t, 'A', 7, SH, FOREVER, SH);
        lock = t->locks[0];
        detached.mode = EX;
        trace_submit(t, detached);
        assert_int_equal(t->dropped, lock);
        assert_int_equal(locks_held(t), 0);
        detached.bears = SH;
        trace_submit(t, detached);
        assert_int_equal(t->dropped, 0);
        trace_expect(t, "A still has SH\nA still has SH\nA still has SH\nA still has SH\nkernel: upgrade for A\nA has EX\nkernel: upgrade for A\nA has EX\n");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                HISTORY(one_description_in_two_sessions_is_one_lock),
                HISTORY(a_description_that_bears_the_lock_never_queues_behind_its_waiters),
                HISTORY(a_passed_description_is_closed_at_the_end_and_never_unlocked),
                HISTORY(a_detached_lock_has_no_owner_here),
                HISTORY(a_refused_request_by_a_description_that_is_held_makes_no_holder),
                HISTORY(nor_does_one_that_is_a_deadlock_or_too_late_or_withdrawn),
                HISTORY(a_refused_request_leaves_a_lock_that_was_found_as_it_was),
                HISTORY(a_found_lock_that_is_lost_is_told_by_the_answer_alone),
                HISTORY(an_upgrade_withdrawn_too_late_goes_back_to_what_was_found),
                HISTORY(an_upgrade_of_a_session_that_ended_goes_back_to_what_a_child_may_have_inherited),
                HISTORY(the_last_unlock_of_a_description_counts_even_if_somebody_hoped_for_more),
                HISTORY(what_hopes_for_more_can_be_unlocked_and_can_be_granted),
                HISTORY(a_lock_that_is_detached_by_locking_again_is_named_as_gone),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
