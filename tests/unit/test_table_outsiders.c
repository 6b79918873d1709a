/* Histories of one file that somebody outside locks too: waits in the kernel, answers that come too late, the outsiders' turn. */
#include "history.h"

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
        /* Whoever was woken for nothing, and came too late for that turn, is in the queue by the next one. */
        trace_lock(t, 'A', EX, FOREVER);
        trace_expect(t, "kernel: wait EX for A\nA waits\n");
        trace_unlock(t, 'B', false);
        trace_answer(t, OS_TAKEN);
        trace_expect(t, "kernel: unlock\nA has EX\n");
        trace_lock(t, 'B', EX, FOREVER);
        trace_expect(t, "B waits\n");
        hand_over(t, 1);
        trace_lock(t, 'C', EX, FOREVER);
        trace_expect(t, "C waits\n");
}

/* One that comes in the way of a try has had its turn: nothing more is owed. */
static void an_outsider_that_got_in_by_itself_has_had_its_turn(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'A', EX, FOREVER);
        trace_lock(t, 'B', EX, FOREVER);
        hand_over(t, TABLE_HANDOVERS_MAX - 1);
        t->outside = EX;
        trace_unlock(t, 'B', false);
        trace_expect(t, "kernel: unlock\nkernel: wait EX for A\nA waits\n");
        t->outside = TABLE_NONE;
        trace_answer(t, OS_TAKEN);
        trace_expect(t, "A has EX\n");
        trace_lock(t, 'B', EX, FOREVER);
        trace_expect(t, "B waits\n");
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

int main(void)
{
        const struct CMUnitTest tests[] = {
                HISTORY(an_outsider_is_waited_for_in_the_kernel),
                HISTORY(sharers_follow_the_head_that_got_past_an_outsider),
                HISTORY(a_time_out_while_the_kernels_lock_arrives_gives_it_back),
                HISTORY(a_cancel_that_loses_the_race_leaves_no_ghost),
                HISTORY(a_session_that_ends_while_it_waits_leaves_no_ghost),
                HISTORY(a_failure_of_the_system_is_told_and_the_next_is_tried),
                HISTORY(after_sixteen_hand_overs_outsiders_get_their_turn),
                HISTORY(an_outsider_that_got_in_by_itself_has_had_its_turn),
                HISTORY(after_a_tenth_of_a_second_outsiders_get_their_turn),
                HISTORY(without_a_wait_to_be_had_our_own_queue_goes_on),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
