/* Histories of one file whose locks are older than the table: holders who claim them, waiters who come back to their places. */
#include "history.h"

#define OLD 500 /* a token from before */

static void what_the_description_still_bears_is_given_back_with_its_token(void **state)
{
        struct trace *t = *state;
        struct table_holder h;

        trace_claim(t, 'A', 7, EX, OLD, EX);
        trace_claim(t, 'B', 8, EX, OLD + 1, TABLE_NONE);
        trace_expect(t, "A still has EX\nB lost it\n");
        assert_int_equal(t->tokens[0], OLD);
        assert_true(table_lock(t->table, t->locks[0], &h, NULL));
        assert_true(h.mode == EX && h.token == OLD && h.lock > OLD);
        trace_unlock(t, 'A', false);
        trace_lock(t, 'C', EX, FOREVER);
        trace_expect(t, "kernel: unlock\nC has EX\n");
        assert_true(t->tokens[2] > OLD);
}

static void what_it_does_not_bear_is_lost_even_if_it_is_free(void **state)
{
        struct trace *t = *state;

        trace_claim(t, 'A', 7, EX, OLD, TABLE_NONE);
        trace_claim(t, 'A', 7, SH, OLD, TABLE_NONE);
        trace_claim(t, 'A', 7, EX, OLD, SH);
        trace_expect(t, "A lost it\nA lost it\nA lost it\n");
        trace_lock(t, 'B', EX, AT_ONCE);
        trace_expect(t, "B has EX\n");
}

static void a_lost_claim_does_not_push_the_tokens(void **state)
{
        struct trace *t = *state;

        trace_claim(t, 'A', 7, EX, UINT64_C(1) << 50, TABLE_NONE);
        trace_lock(t, 'B', EX, FOREVER);
        assert_true(t->tokens[1] < OLD);
        trace_forget(t);
}

static void more_than_is_claimed_is_brought_down(void **state)
{
        struct trace *t = *state;

        trace_claim(t, 'A', 7, SH, OLD, EX);    /* the upgrade was in the kernel when the daemon died */
        trace_expect(t, "kernel: downgrade\nA still has SH\n");
        trace_lock(t, 'B', SH, FOREVER);
        trace_pass(t, 'A', 7, EX, AT_ONCE, SH);
        trace_expect(t, "B has SH\nA refused\n");
        assert_int_equal(t->tokens[0], OLD);
}

static void a_lock_by_path_ends_with_its_daemon(void **state)
{
        struct trace *t = *state;

        trace_submit(t, (struct table_event){.kind = EV_LOCK, .session = 1, .cookie = 26, .key = {8, 42}, .bearer = TRACE_PATH_BEARER, .shared = true, .mode = EX,
                                             .claims = EX, .claimed_token = OLD, .deadline_ms = TABLE_NEVER});
        trace_expect(t, "A lost it\n");
}

static void who_claims_the_same_description_joins_with_its_token(void **state)
{
        struct trace *t = *state;

        trace_claim(t, 'A', 7, EX, OLD, EX);
        trace_claim(t, 'B', 7, EX, OLD, EX);
        trace_lock(t, 'C', EX, FOREVER);
        trace_unlock(t, 'A', false);
        trace_expect(t, "A still has EX\nB still has EX\nC waits\n");
        assert_int_equal(t->tokens[1], OLD);
        trace_unlock(t, 'B', false);
        trace_expect(t, "kernel: unlock\nC has EX\n");
}

static void a_claim_never_queues_behind_those_who_wait_for_it(void **state)
{
        struct trace *t = *state;

        t->outside = EX;        /* A's: the table does not know it yet */
        trace_lock(t, 'B', EX, FOREVER);
        trace_claim(t, 'A', 7, EX, OLD, EX);
        trace_expect(t, "kernel: wait EX for B\nB waits\nA still has EX\n");
        assert_int_equal(t->moved, 1);
        t->outside = TABLE_NONE;
        trace_unlock(t, 'A', false);
        trace_answer(t, OS_TAKEN);
        trace_expect(t, "kernel: unlock\nB has EX\n");
}

static void what_a_waiter_has_just_won_with_it_is_not_what_is_claimed(void **state)
{
        struct trace *t = *state;

        t->outside = EX;
        trace_pass(t, 'A', 7, EX, FOREVER, TABLE_NONE);
        trace_claim(t, 'B', 7, EX, OLD, EX);    /* the kernel has given it to A's wait, and the answer is on its way */
        trace_expect(t, "kernel: wait EX for A\nA waits\nB lost it\n");
        trace_answer(t, OS_TAKEN);
        trace_expect(t, "A has EX\n");
}

static void a_claim_during_an_upgrade_joins_and_outlives_its_failure(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'C', SH, FOREVER);
        trace_pass(t, 'A', 7, EX, 50, SH);      /* found, not claimed */
        trace_claim(t, 'B', 7, SH, OLD, SH);
        trace_expect(t, "C has SH\nA waits\nB still has SH\n");
        assert_int_equal(t->tokens[1], OLD);
        trace_advance(t, 50);
        trace_expect(t, "A timed out\n");
        trace_unlock(t, 'B', false);
        trace_expect(t, "kernel: unlock\n");
}

static void a_claim_of_ones_own_waiting_upgrade_keeps_the_shared_lock(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'C', SH, FOREVER);
        trace_pass(t, 'A', 7, EX, 50, SH);
        trace_claim(t, 'A', 7, SH, OLD, SH);
        trace_advance(t, 50);
        trace_expect(t, "C has SH\nA waits\nA still has SH\nA timed out\n");
        trace_unlock(t, 'A', false);
        trace_expect(t, "kernel: unlock\n");
}

static void a_claim_while_the_kernel_converts_believes_the_table(void **state)
{
        struct trace *t = *state;

        trace_claim(t, 'A', 7, SH, OLD, SH);
        t->slow = true;
        trace_pass(t, 'A', 7, EX, FOREVER, SH);
        trace_claim(t, 'B', 7, SH, OLD, TABLE_NONE);    /* between the two calls of a conversion it bears nothing */
        trace_claim(t, 'D', 7, EX, OLD, EX);
        trace_expect(t, "A still has SH\nkernel: upgrade for A\nB still has SH\nD lost it\n");
        trace_answer(t, OS_TAKEN);
        trace_expect(t, "A has EX\n");
}

static void a_co_holder_whose_description_was_unlocked_behind_our_back_has_lost_it(void **state)
{
        struct trace *t = *state;

        trace_claim(t, 'A', 7, EX, OLD, EX);
        trace_claim(t, 'B', 7, EX, OLD, TABLE_NONE);
        trace_expect(t, "A still has EX\nB lost it\n");
}

static void a_claim_that_is_detached_has_no_owner(void **state)
{
        struct trace *t = *state;
        struct table_counts n;

        trace_submit(t, (struct table_event){.kind = EV_LOCK, .session = 1, .cookie = 26, .key = {8, 42}, .bearer = 7, .mode = EX, .bears = EX, .claims = EX,
                                             .claimed_token = OLD, .detach = true, .deadline_ms = TABLE_NEVER});
        trace_expect(t, "A still has EX\n");
        table_count(t->table, &n);
        assert_int_equal(n.locks, 0);
}

static void waiters_come_back_to_their_places(void **state)
{
        struct trace *t = *state;

        t->outside = EX;        /* the holder has not come back yet */
        trace_lock(t, 'N', EX, FOREVER);
        trace_wait_again(t, 'B', EX, 200, 0);
        trace_expect(t, "kernel: wait EX for N\nN waits\nkernel: end the wait\nB waits\n");
        trace_answer(t, OS_CANCELLED);
        trace_expect(t, "kernel: wait EX for B\nB waits\n");
        trace_wait_again(t, 'C', SH, 100, 0);
        trace_wait_again(t, 'A', EX, 300, 0);
        trace_expect(t, "C waits\nkernel: end the wait\nA waits\n");
        trace_answer(t, OS_CANCELLED);
        trace_expect(t, "kernel: wait EX for A\nA waits\n");
        trace_answer(t, OS_TAKEN);
        t->outside = TABLE_NONE;
        trace_unlock(t, 'A', false);
        trace_unlock(t, 'B', false);
        trace_unlock(t, 'C', false);
        trace_expect(t, "A has EX\nkernel: unlock\nB has EX\nkernel: unlock\nC has SH\nkernel: unlock\nN has EX\n");
}

static void the_age_of_one_group_is_nothing_to_another(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'H', EX, FOREVER);
        trace_wait_again(t, 'A', EX, 10, 1);
        trace_wait_again(t, 'B', EX, 10, 2);
        trace_wait_again(t, 'C', EX, 900, 2);   /* before B, not before A */
        trace_wait_again(t, 'D', EX, 990, 1);   /* behind all: the first that it meets is another's */
        trace_forget(t);
        trace_unlock(t, 'H', false);
        trace_unlock(t, 'A', false);
        trace_unlock(t, 'C', false);
        trace_unlock(t, 'B', false);
        trace_expect(t, "kernel: unlock\nA has EX\nkernel: unlock\nC has EX\nkernel: unlock\nB has EX\nkernel: unlock\nD has EX\n");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                HISTORY(what_the_description_still_bears_is_given_back_with_its_token),
                HISTORY(what_it_does_not_bear_is_lost_even_if_it_is_free),
                HISTORY(a_lost_claim_does_not_push_the_tokens),
                HISTORY(more_than_is_claimed_is_brought_down),
                HISTORY(a_lock_by_path_ends_with_its_daemon),
                HISTORY(who_claims_the_same_description_joins_with_its_token),
                HISTORY(a_claim_never_queues_behind_those_who_wait_for_it),
                HISTORY(what_a_waiter_has_just_won_with_it_is_not_what_is_claimed),
                HISTORY(a_claim_during_an_upgrade_joins_and_outlives_its_failure),
                HISTORY(a_claim_of_ones_own_waiting_upgrade_keeps_the_shared_lock),
                HISTORY(a_claim_while_the_kernel_converts_believes_the_table),
                HISTORY(a_co_holder_whose_description_was_unlocked_behind_our_back_has_lost_it),
                HISTORY(a_claim_that_is_detached_has_no_owner),
                HISTORY(waiters_come_back_to_their_places),
                HISTORY(the_age_of_one_group_is_nothing_to_another),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
