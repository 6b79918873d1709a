/* Histories of one file: who is served, in which order, and what is asked of the system for it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "trace.h"

#define SH TABLE_SH
#define EX TABLE_EX
#define FOREVER (-1)
#define AT_ONCE 0

static void those_who_wait_are_served_in_the_order_of_asking(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'A', EX, FOREVER);
        trace_lock(t, 'B', EX, FOREVER);
        trace_lock(t, 'C', EX, FOREVER);
        trace_unlock(t, 'A', false);
        trace_unlock(t, 'B', false);
        trace_expect(t, "A has EX\n"
                        "B waits\n"
                        "C waits\n"
                        "kernel: unlock\n"
                        "B has EX\n"
                        "kernel: unlock\n"
                        "C has EX\n");
}

static void sharers_at_the_head_are_granted_together(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'A', EX, FOREVER);
        trace_lock(t, 'B', SH, FOREVER);
        trace_lock(t, 'C', SH, FOREVER);
        trace_lock(t, 'D', EX, FOREVER);
        trace_lock(t, 'E', SH, FOREVER);
        trace_expect(t, "A has EX\nB waits\nC waits\nD waits\nE waits\n");
        trace_unlock(t, 'A', false);
        trace_expect(t, "kernel: unlock\nB has SH\nC has SH\n");
}

static void a_new_sharer_does_not_overtake_a_waiting_writer(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'A', SH, FOREVER);
        trace_lock(t, 'B', EX, FOREVER);
        trace_lock(t, 'C', SH, FOREVER);
        trace_lock(t, 'D', SH, AT_ONCE);
        trace_expect(t, "A has SH\nB waits\nC waits\nD refused\n");
        trace_unlock(t, 'A', false);
        trace_expect(t, "kernel: unlock\nB has EX\n");
        trace_unlock(t, 'B', false);
        trace_expect(t, "kernel: unlock\nC has SH\n");
}

static void locking_again_what_one_holds_changes_nothing(void **state)
{
        struct trace *t = *state;
        uint64_t token;

        trace_lock(t, 'A', EX, FOREVER);
        token = t->tokens[0];
        trace_lock(t, 'A', EX, FOREVER);
        trace_lock(t, 'A', EX, AT_ONCE);
        assert_int_equal(t->tokens[0], token);
        trace_unlock(t, 'A', false);
        trace_lock(t, 'B', EX, AT_ONCE);
        trace_expect(t, "A has EX\nA still has EX\nA still has EX\nkernel: unlock\nB has EX\n");
}

static void two_handles_of_a_session_exclude_each_other(void **state)
{
        struct trace *t = *state;
        struct table_event second = {.kind = EV_LOCK, .session = 1, .cookie = 26 * 99, .key = {8, 42}, .bearer = TRACE_PATH_BEARER, .shared = true,
                                     .handle = 1, .mode = EX, .nonblock = true, .deadline_ms = TABLE_NEVER};

        trace_lock(t, 'A', EX, FOREVER);
        trace_submit(t, second);
        trace_expect(t, "A has EX\nA refused\n");
}

static void a_downgrade_lets_sharers_in_at_once(void **state)
{
        struct trace *t = *state;
        uint64_t token;

        trace_lock(t, 'A', EX, FOREVER);
        token = t->tokens[0];
        trace_lock(t, 'B', SH, FOREVER);
        trace_lock(t, 'A', SH, FOREVER);
        trace_expect(t, "A has EX\nB waits\nkernel: downgrade\nA still has SH\nB has SH\n");
        assert_int_equal(t->tokens[0], token);
}

static void an_upgrade_waits_at_the_head_and_keeps_its_shared_lock(void **state)
{
        struct trace *t = *state;
        uint64_t token;

        trace_lock(t, 'A', SH, FOREVER);
        token = t->tokens[0];
        trace_lock(t, 'B', SH, FOREVER);
        trace_lock(t, 'C', EX, FOREVER);
        trace_lock(t, 'A', EX, FOREVER);
        trace_expect(t, "A has SH\nB has SH\nC waits\nA waits\n");
        trace_unlock(t, 'B', false);
        trace_expect(t, "kernel: upgrade for A\nA has EX\n");
        assert_true(t->tokens[0] > token);
        trace_unlock(t, 'A', false);
        trace_expect(t, "kernel: unlock\nC has EX\n");
}

static void a_second_upgrader_is_a_deadlock_and_keeps_its_shared_lock(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'A', SH, FOREVER);
        trace_lock(t, 'B', SH, FOREVER);
        trace_lock(t, 'A', EX, FOREVER);
        trace_lock(t, 'B', EX, FOREVER);
        trace_lock(t, 'B', EX, AT_ONCE);
        trace_expect(t, "A has SH\nB has SH\nA waits\nB deadlock\nB refused\n");
        trace_unlock(t, 'B', false);
        trace_expect(t, "kernel: upgrade for A\nA has EX\n");
}

static void a_refused_upgrade_keeps_its_shared_lock(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'A', SH, FOREVER);
        trace_lock(t, 'B', SH, FOREVER);
        trace_lock(t, 'A', EX, AT_ONCE);
        trace_lock(t, 'C', EX, AT_ONCE);
        trace_unlock(t, 'B', false);
        trace_lock(t, 'C', EX, AT_ONCE);
        trace_expect(t, "A has SH\nB has SH\nA refused\nC refused\nC refused\n");
}

static void an_unlock_during_a_waiting_upgrade_cancels_it(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'A', SH, FOREVER);
        trace_lock(t, 'B', SH, FOREVER);
        trace_lock(t, 'A', EX, FOREVER);
        trace_unlock(t, 'A', false);
        trace_expect(t, "A has SH\nB has SH\nA waits\nA cancelled\n");
        trace_unlock(t, 'B', false);
        trace_expect(t, "kernel: unlock\n");
}

static void an_owner_waits_only_once_for_a_file(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'A', EX, FOREVER);
        trace_lock(t, 'B', EX, FOREVER);
        trace_lock(t, 'B', SH, FOREVER);
        trace_expect(t, "A has EX\nB waits\nB asked twice\n");
}

static void a_time_out_comes_at_its_time_and_serves_the_next(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'A', SH, FOREVER);
        trace_lock(t, 'B', EX, 50);
        trace_lock(t, 'C', SH, FOREVER);
        trace_advance(t, 49);
        trace_expect(t, "A has SH\nB waits\nC waits\n");
        assert_int_equal(table_next_deadline(t->table), t->now + 1);
        trace_advance(t, 1);
        trace_expect(t, "B timed out\nC has SH\n");
        assert_true(table_next_deadline(t->table) == TABLE_NEVER);
}

static void an_outsider_is_waited_for_in_the_kernel(void **state)
{
        struct trace *t = *state;

        t->outside = EX;
        trace_lock(t, 'A', EX, AT_ONCE);
        trace_lock(t, 'A', EX, FOREVER);
        trace_lock(t, 'B', EX, FOREVER);
        trace_expect(t, "A refused\nkernel: wait EX for A\nA waits\nB waits\n");
        t->outside = TABLE_NONE;
        trace_answer(t, OS_TAKEN);
        trace_expect(t, "A has EX\n");
}

static void sharers_follow_the_head_that_got_past_an_outsider(void **state)
{
        struct trace *t = *state;

        t->outside = EX;
        trace_lock(t, 'A', SH, FOREVER);
        trace_lock(t, 'B', SH, FOREVER);
        t->outside = TABLE_NONE;
        trace_answer(t, OS_TAKEN);
        trace_expect(t, "kernel: wait SH for A\nA waits\nB waits\nA has SH\nB has SH\n");
}

static void a_time_out_while_the_kernels_lock_arrives_gives_it_back(void **state)
{
        struct trace *t = *state;

        t->outside = EX;
        trace_lock(t, 'A', EX, 50);
        trace_lock(t, 'B', EX, FOREVER);
        trace_expect(t, "kernel: wait EX for A\nA waits\nB waits\n");
        trace_advance(t, 50);
        trace_expect(t, "A timed out\nkernel: end the wait\n");
        t->outside = TABLE_NONE;
        trace_answer(t, OS_TAKEN);
        trace_expect(t, "kernel: unlock\nB has EX\n");
}

static void a_cancel_that_loses_the_race_leaves_no_ghost(void **state)
{
        struct trace *t = *state;

        t->outside = EX;
        trace_lock(t, 'A', EX, FOREVER);
        trace_cancel(t, 'A');
        trace_expect(t, "kernel: wait EX for A\nA waits\nA cancelled\nkernel: end the wait\n");
        t->outside = TABLE_NONE;
        trace_answer(t, OS_TAKEN);
        trace_expect(t, "kernel: unlock\n");
        trace_lock(t, 'B', EX, AT_ONCE);
        trace_expect(t, "B has EX\n");
}

static void a_session_that_ends_while_it_waits_leaves_no_ghost(void **state)
{
        struct trace *t = *state;

        t->outside = EX;
        trace_lock(t, 'A', EX, FOREVER);
        trace_end(t, 'A');
        trace_lock(t, 'B', EX, AT_ONCE);
        trace_expect(t, "kernel: wait EX for A\nA waits\nA cancelled\nkernel: end the wait\n");
        t->outside = TABLE_NONE;
        trace_answer(t, OS_TAKEN);
        trace_expect(t, "kernel: unlock\nB has EX\n");
}

static void a_failure_of_the_system_is_told_and_the_next_is_tried(void **state)
{
        struct trace *t = *state;

        t->slow = true;
        trace_lock(t, 'A', EX, FOREVER);
        trace_lock(t, 'B', EX, FOREVER);
        trace_answer(t, OS_FAILED);
        trace_answer(t, OS_TAKEN);
        trace_expect(t, "kernel: try EX for A\nB waits\nA failed\nkernel: try EX for B\nB has EX\n");
}

/* A and B hand the lock to and fro. */
static void hand_over(struct trace *t, int times)
{
        int i;

        for (i = 0; i < times; i++) {
                trace_unlock(t, (char)('A' + i % 2), false);
                trace_lock(t, (char)('A' + i % 2), EX, FOREVER);
        }
        trace_forget(t);
}

static void after_sixteen_hand_overs_outsiders_get_their_turn(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'A', EX, FOREVER);
        trace_lock(t, 'B', EX, FOREVER);
        hand_over(t, TABLE_HANDOVERS_MAX - 1);
        trace_unlock(t, 'B', false);
        trace_expect(t, "kernel: unlock\nA has EX\n");
        trace_lock(t, 'B', EX, FOREVER);
        trace_expect(t, "kernel: wait EX for B on a new description\nB waits\n");
        trace_unlock(t, 'A', false);
        trace_expect(t, "kernel: unlock\n");
        trace_answer(t, OS_TAKEN);
        trace_expect(t, "B has EX\n");
        trace_lock(t, 'A', EX, FOREVER);
        trace_expect(t, "A waits\n");
}

static void after_a_tenth_of_a_second_outsiders_get_their_turn(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'A', EX, FOREVER);
        trace_lock(t, 'B', EX, FOREVER);
        hand_over(t, 1);
        t->now += TABLE_HANDOVERS_MS;
        trace_unlock(t, 'B', false);
        trace_lock(t, 'B', EX, FOREVER);
        trace_expect(t, "kernel: unlock\nA has EX\nkernel: wait EX for B on a new description\nB waits\n");
}

static void without_a_wait_to_be_had_our_own_queue_goes_on(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'A', EX, FOREVER);
        trace_lock(t, 'B', EX, FOREVER);
        hand_over(t, TABLE_HANDOVERS_MAX);
        trace_answer(t, OS_BUSY);
        trace_expect(t, "");
        trace_unlock(t, 'A', false);
        trace_expect(t, "kernel: unlock\nB has EX\n");
}

static void an_upgrade_that_only_an_outsider_blocks_tries_again_later_and_later(void **state)
{
        struct trace *t = *state;
        int64_t wait = TABLE_UPGRADE_RETRY_MIN_MS, sum = 0;

        t->outside = SH;
        trace_lock(t, 'A', SH, FOREVER);
        trace_lock(t, 'A', EX, FOREVER);
        trace_expect(t, "A has SH\nkernel: upgrade for A\nA waits\n");
        while (sum < 5000) {
                assert_int_equal(table_next_deadline(t->table), t->now + wait);
                trace_advance(t, wait);
                trace_expect(t, "kernel: upgrade for A\n");
                sum += wait;
                wait = wait * 2 < TABLE_UPGRADE_RETRY_MAX_MS ? wait * 2 : TABLE_UPGRADE_RETRY_MAX_MS;
        }
        t->outside = TABLE_NONE;
        trace_advance(t, wait);
        trace_expect(t, "kernel: upgrade for A\nA has EX\n");
}

static void an_upgrade_lost_to_an_outsider_is_told_to_all_who_held(void **state)
{
        struct trace *t = *state;

        trace_pass(t, 'A', 7, SH, FOREVER, TABLE_NONE);
        trace_pass(t, 'B', 7, SH, FOREVER, TABLE_NONE);
        t->slow = true;
        trace_pass(t, 'A', 7, EX, FOREVER, SH);
        trace_answer(t, OS_LOST);
        trace_expect(t, "A has SH\nB still has SH\nkernel: upgrade for A\nA is told of its loss\nB is told of its loss\nA lost it\n");
        t->slow = false;
        trace_lock(t, 'C', EX, AT_ONCE);
        trace_expect(t, "C has EX\n");
}

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

static void one_that_must_queue_again_gets_its_old_place(void **state)
{
        struct trace *t = *state;
        struct table_event old = {.kind = EV_LOCK, .session = 3, .cookie = 26 * 99 + 2, .key = {8, 42}, .bearer = TRACE_PATH_BEARER, .shared = true,
                                  .mode = EX, .since_ms = 500, .deadline_ms = TABLE_NEVER};

        trace_lock(t, 'A', EX, FOREVER);
        trace_lock(t, 'B', EX, FOREVER);
        trace_submit(t, old);
        trace_unlock(t, 'A', false);
        trace_expect(t, "A has EX\nB waits\nC waits\nkernel: unlock\nC has EX\n");
}

static void an_older_one_displaces_the_head_that_waits_in_the_kernel(void **state)
{
        struct trace *t = *state;
        struct table_event old = {.kind = EV_LOCK, .session = 3, .cookie = 26 * 99 + 2, .key = {8, 42}, .bearer = TRACE_PATH_BEARER, .shared = true,
                                  .mode = EX, .since_ms = 500, .deadline_ms = TABLE_NEVER};

        t->outside = EX;
        trace_lock(t, 'A', EX, FOREVER);
        trace_submit(t, old);
        trace_expect(t, "kernel: wait EX for A\nA waits\nkernel: end the wait\nC waits\n");
        trace_answer(t, OS_CANCELLED);
        trace_expect(t, "kernel: wait EX for C\nC waits\n");
}

static void one_that_may_not_wait_is_refused_when_an_older_one_comes_before_it(void **state)
{
        struct trace *t = *state;
        struct table_event old = {.kind = EV_LOCK, .session = 4, .cookie = 26 * 99 + 3, .key = {8, 42}, .bearer = TRACE_PATH_BEARER, .shared = true,
                                  .mode = EX, .since_ms = 500, .deadline_ms = TABLE_NEVER};

        t->outside = EX;
        trace_lock(t, 'A', EX, FOREVER);
        trace_cancel(t, 'A');
        trace_expect(t, "kernel: wait EX for A\nA waits\nA cancelled\nkernel: end the wait\n");
        trace_lock(t, 'B', EX, AT_ONCE);        /* in a moment it will be known whether it can have it */
        trace_lock(t, 'C', SH, AT_ONCE);
        trace_expect(t, "");
        trace_submit(t, old);
        trace_expect(t, "B refused\nC refused\nD waits\n");
        trace_answer(t, OS_CANCELLED);
        trace_expect(t, "kernel: wait EX for D\nD waits\n");
}

static void one_that_may_not_wait_is_refused_when_an_upgrade_comes_before_it(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'A', SH, FOREVER);
        trace_lock(t, 'D', SH, FOREVER);
        t->slow = true;
        trace_pass(t, 'B', 7, SH, FOREVER, TABLE_NONE);
        trace_end(t, 'B');
        trace_pass(t, 'C', 8, SH, AT_ONCE, TABLE_NONE);
        trace_expect(t, "A has SH\nD has SH\nkernel: try SH for B\nB cancelled\n");
        trace_lock(t, 'A', EX, FOREVER);
        trace_expect(t, "C refused\nA waits\n");
        trace_answer(t, OS_TAKEN);
        trace_expect(t, "kernel: unlock\n");
}

static void one_that_may_not_wait_and_whose_try_is_under_way_is_refused_too(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'A', SH, FOREVER);
        trace_lock(t, 'D', SH, FOREVER);
        t->slow = true;
        trace_pass(t, 'B', 7, SH, AT_ONCE, TABLE_NONE);
        trace_lock(t, 'A', EX, FOREVER);
        trace_answer(t, OS_TAKEN);
        trace_expect(t, "A has SH\nD has SH\nkernel: try SH for B\nB refused\nA waits\nkernel: unlock\n");
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

static void holders_are_shown_by_lock_id_and_their_descriptions_are_counted(void **state)
{
        struct trace *t = *state;
        struct table_key key = {8, 42};
        struct table_holder h;
        table_id last = 0;
        size_t i;

        assert_int_equal(table_bearers_held(t->table, key), 0);
        trace_pass(t, 'A', 7, SH, FOREVER, TABLE_NONE);
        trace_lock(t, 'C', SH, FOREVER);
        trace_lock(t, 'D', SH, FOREVER);
        trace_pass(t, 'B', 7, SH, FOREVER, SH); /* the token of A, but its own place */
        for (i = 0; table_holder_at(t->table, key, i, &h); i++) {
                assert_true(h.lock > last);
                last = h.lock;
        }
        assert_int_equal(i, 4);
        assert_int_equal(h.lock, t->locks['B' - 'A']);
        assert_int_equal(table_bearers_held(t->table, key), 2);
        trace_unlock(t, 'A', false);
        assert_int_equal(table_bearers_held(t->table, key), 2);
        trace_unlock(t, 'B', false);
        assert_int_equal(table_bearers_held(t->table, key), 1);
}

/* How often those who wait were told that something has changed, since the last call. */
static int changes(struct trace *t)
{
        int moved = t->moved;

        t->moved = 0;
        return moved;
}

static void those_who_wait_hear_of_every_change_once(void **state)
{
        struct trace *t = *state;

        trace_pass(t, 'A', 7, SH, FOREVER, TABLE_NONE);
        trace_lock(t, 'B', SH, FOREVER);
        trace_lock(t, 'Z', SH, FOREVER);
        trace_lock(t, 'C', EX, FOREVER);
        trace_lock(t, 'D', EX, 50);
        trace_lock(t, 'E', EX, 50);
        trace_lock(t, 'F', EX, FOREVER);
        trace_lock(t, 'G', SH, AT_ONCE);
        trace_lock(t, 'B', SH, FOREVER);
        assert_int_equal(changes(t), 0);        /* who comes last or goes away at once changes nothing for the others */
        trace_advance(t, 50);
        assert_int_equal(changes(t), 1);        /* D and E, who were before F, have gone */
        trace_end(t, 'C');
        assert_int_equal(changes(t), 1);
        trace_end(t, 'Z');
        assert_int_equal(changes(t), 1);
        trace_lock(t, 'B', EX, FOREVER);
        assert_int_equal(changes(t), 1);        /* an upgrade comes before F */
        trace_cancel(t, 'B');
        assert_int_equal(changes(t), 1);
        trace_pass(t, 'G', 7, SH, FOREVER, SH);
        assert_int_equal(changes(t), 1);        /* a co-holder more */
        trace_pass(t, 'H', 7, EX, AT_ONCE, SH);
        assert_int_equal(changes(t), 0);
        trace_unlock(t, 'A', false);
        trace_unlock(t, 'G', false);
        assert_int_equal(changes(t), 2);
        trace_lock(t, 'H', EX, FOREVER);
        trace_unlock(t, 'B', false);
        assert_int_equal(changes(t), 2);        /* B has gone; F has it and H is first now */
        trace_unlock(t, 'F', false);
        assert_int_equal(changes(t), 1);        /* F has gone */
        trace_unlock(t, 'H', false);
        assert_int_equal(changes(t), 0);
}

static void those_who_wait_hear_of_a_loss_and_of_a_downgrade(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'A', SH, FOREVER);
        trace_lock(t, 'B', EX, FOREVER);
        trace_lock(t, 'C', EX, FOREVER);
        t->slow = true;
        trace_lock(t, 'A', EX, FOREVER);
        assert_int_equal(changes(t), 1);
        t->slow = false;
        trace_answer(t, OS_LOST);
        assert_int_equal(changes(t), 2);        /* the loss; then B has it */
        trace_lock(t, 'B', SH, FOREVER);
        assert_int_equal(changes(t), 1);
}

static void an_id_of_the_past_names_nobody(void **state)
{
        struct trace *t = *state;
        table_id old;

        trace_lock(t, 'A', EX, FOREVER);
        old = t->locks[0];
        trace_unlock(t, 'A', false);
        trace_lock(t, 'A', EX, FOREVER);
        assert_true(t->locks[0] != old);
        trace_submit(t, (struct table_event){.kind = EV_UNLOCK, .session = 1, .lock = old});
        trace_submit(t, (struct table_event){.kind = EV_UNLOCK, .session = 2, .lock = t->locks[0]});
        trace_lock(t, 'B', EX, AT_ONCE);
        trace_expect(t, "A has EX\nkernel: unlock\nA has EX\nB refused\n");
}

#define HISTORY(test) cmocka_unit_test_setup_teardown(test, trace_set_up, trace_tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                HISTORY(those_who_wait_are_served_in_the_order_of_asking),
                HISTORY(sharers_at_the_head_are_granted_together),
                HISTORY(a_new_sharer_does_not_overtake_a_waiting_writer),
                HISTORY(locking_again_what_one_holds_changes_nothing),
                HISTORY(two_handles_of_a_session_exclude_each_other),
                HISTORY(a_downgrade_lets_sharers_in_at_once),
                HISTORY(an_upgrade_waits_at_the_head_and_keeps_its_shared_lock),
                HISTORY(a_second_upgrader_is_a_deadlock_and_keeps_its_shared_lock),
                HISTORY(a_refused_upgrade_keeps_its_shared_lock),
                HISTORY(an_unlock_during_a_waiting_upgrade_cancels_it),
                HISTORY(an_owner_waits_only_once_for_a_file),
                HISTORY(a_time_out_comes_at_its_time_and_serves_the_next),
                HISTORY(an_outsider_is_waited_for_in_the_kernel),
                HISTORY(sharers_follow_the_head_that_got_past_an_outsider),
                HISTORY(a_time_out_while_the_kernels_lock_arrives_gives_it_back),
                HISTORY(a_cancel_that_loses_the_race_leaves_no_ghost),
                HISTORY(a_session_that_ends_while_it_waits_leaves_no_ghost),
                HISTORY(a_failure_of_the_system_is_told_and_the_next_is_tried),
                HISTORY(after_sixteen_hand_overs_outsiders_get_their_turn),
                HISTORY(after_a_tenth_of_a_second_outsiders_get_their_turn),
                HISTORY(without_a_wait_to_be_had_our_own_queue_goes_on),
                HISTORY(an_upgrade_that_only_an_outsider_blocks_tries_again_later_and_later),
                HISTORY(an_upgrade_lost_to_an_outsider_is_told_to_all_who_held),
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
                HISTORY(one_that_must_queue_again_gets_its_old_place),
                HISTORY(an_older_one_displaces_the_head_that_waits_in_the_kernel),
                HISTORY(one_that_may_not_wait_is_refused_when_an_older_one_comes_before_it),
                HISTORY(one_that_may_not_wait_is_refused_when_an_upgrade_comes_before_it),
                HISTORY(one_that_may_not_wait_and_whose_try_is_under_way_is_refused_too),
                HISTORY(a_lock_that_is_detached_by_locking_again_is_named_as_gone),
                HISTORY(holders_are_shown_by_lock_id_and_their_descriptions_are_counted),
                HISTORY(those_who_wait_hear_of_every_change_once),
                HISTORY(those_who_wait_hear_of_a_loss_and_of_a_downgrade),
                HISTORY(an_id_of_the_past_names_nobody),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
