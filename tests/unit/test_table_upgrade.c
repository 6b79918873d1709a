/* Histories of one file: from shared to exclusive and back. */
#include "history.h"

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

static void who_tries_again_while_a_conversion_is_under_way_that_he_gave_up_loses_with_it(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'A', SH, FOREVER);
        t->slow = true;
        trace_lock(t, 'A', EX, 50);
        trace_advance(t, 50);
        trace_forget(t);
        trace_lock(t, 'A', EX, FOREVER);        /* the one before is still with the system, which takes its time */
        trace_answer(t, OS_LOST);
        trace_expect(t, "A waits\nA is told of its loss\nA lost it\n");
        t->slow = false;
        trace_lock(t, 'C', EX, AT_ONCE);
        trace_expect(t, "C has EX\n");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                HISTORY(a_downgrade_lets_sharers_in_at_once),
                HISTORY(an_upgrade_waits_at_the_head_and_keeps_its_shared_lock),
                HISTORY(a_second_upgrader_is_a_deadlock_and_keeps_its_shared_lock),
                HISTORY(a_refused_upgrade_keeps_its_shared_lock),
                HISTORY(an_unlock_during_a_waiting_upgrade_cancels_it),
                HISTORY(an_upgrade_that_only_an_outsider_blocks_tries_again_later_and_later),
                HISTORY(an_upgrade_lost_to_an_outsider_is_told_to_all_who_held),
                HISTORY(who_tries_again_while_a_conversion_is_under_way_that_he_gave_up_loses_with_it),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
