/* Histories of one file whose locks are broken: who loses what, who is told, and what is left in the kernel. */
#include "history.h"

static const struct table_key the_file = {.device = 8, .inode = 42};

static table_id lock_of(const struct trace *t, char who)
{
        return t->locks[who - 'A'];
}

/* Of the holder at that place, though it may not have been told of it. */
static table_id lock_at(const struct trace *t, size_t index)
{
        struct table_holder h;

        assert_true(table_holder_at(t->table, the_file, index, &h));
        return h.lock;
}

static void a_broken_lock_is_free_and_its_holder_is_told(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'A', EX, FOREVER);
        trace_break(t, lock_of(t, 'A'));
        trace_expect(t, "A has EX\nA is told of its loss: it was broken\nkernel: unlock\n");
        assert_false(table_knows(t->table, the_file));
        trace_unlock(t, 'A', false);    /* it has nothing to give up any more */
        trace_lock(t, 'B', EX, AT_ONCE);
        trace_expect(t, "B has EX\n");
}

static void a_passed_description_is_unlocked_too(void **state)
{
        struct trace *t = *state;

        trace_pass(t, 'A', 7, EX, FOREVER, TABLE_NONE);
        trace_break(t, lock_of(t, 'A'));
        trace_expect(t, "A has EX\nA is told of its loss: it was broken\nkernel: unlock\n");
        assert_int_equal(t->references, 0);
        trace_pass(t, 'A', 7, EX, FOREVER, TABLE_NONE); /* like anybody */
        trace_expect(t, "A has EX\n");
}

static void who_waits_for_a_broken_lock_is_granted_it(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'A', EX, FOREVER);
        trace_lock(t, 'B', SH, FOREVER);
        trace_pass(t, 'C', 7, SH, FOREVER, TABLE_NONE);
        trace_lock(t, 'D', EX, FOREVER);
        t->moved = 0;
        trace_break(t, lock_of(t, 'A'));
        trace_expect(t, "A has EX\nB waits\nC waits\nD waits\n"
                        "A is told of its loss: it was broken\nkernel: unlock\nB has SH\nC has SH\n");
        assert_int_equal(t->moved, 3);  /* A has gone, B has it, C has it */
}

static void all_who_hold_by_a_description_lose_it(void **state)
{
        struct trace *t = *state;

        trace_pass(t, 'A', 7, SH, FOREVER, TABLE_NONE);
        trace_pass(t, 'X', 8, SH, FOREVER, TABLE_NONE);
        trace_lock(t, 'Y', SH, FOREVER);
        trace_pass(t, 'B', 7, SH, FOREVER, SH);
        trace_pass(t, 'C', 7, SH, FOREVER, SH);
        trace_forget(t);
        trace_break(t, lock_of(t, 'B'));
        trace_expect(t, "A is told of its loss: it was broken\n"
                        "B is told of its loss: it was broken\n"
                        "C is told of its loss: it was broken\n"
                        "kernel: unlock\n");
        assert_int_equal(table_holder_count(t->table, the_file), 2);
        assert_int_equal(lock_at(t, 0), lock_of(t, 'X'));
        assert_int_equal(lock_at(t, 1), lock_of(t, 'Y'));
}

static void by_path_only_its_owner_loses_a_shared_lock(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'A', SH, FOREVER);
        trace_lock(t, 'B', SH, FOREVER);
        trace_lock(t, 'C', SH, FOREVER);
        trace_forget(t);
        trace_break(t, lock_of(t, 'B'));
        trace_expect(t, "B is told of its loss: it was broken\n");
        trace_lock(t, 'D', EX, AT_ONCE);
        trace_break(t, lock_of(t, 'A'));
        trace_break(t, lock_of(t, 'C'));
        trace_expect(t, "D refused\n"
                        "A is told of its loss: it was broken\n"
                        "C is told of its loss: it was broken\n"
                        "kernel: unlock\n");
}

static void a_waiting_upgrade_of_it_is_lost(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'A', SH, FOREVER);
        trace_lock(t, 'B', SH, FOREVER);
        trace_lock(t, 'A', EX, FOREVER);
        trace_lock(t, 'C', EX, FOREVER);
        trace_forget(t);
        trace_break(t, lock_of(t, 'A'));
        trace_expect(t, "A is told of its loss: it was broken\nA lost it: it was broken\n");
        trace_lock(t, 'B', EX, FOREVER);        /* no longer a deadlock */
        trace_expect(t, "kernel: upgrade for B\nB has EX\n");
}

static void a_waiting_upgrade_of_a_co_holder_is_lost(void **state)
{
        struct trace *t = *state;

        trace_pass(t, 'A', 7, SH, FOREVER, TABLE_NONE);
        trace_pass(t, 'B', 7, SH, FOREVER, SH);
        trace_lock(t, 'C', SH, FOREVER);
        trace_pass(t, 'A', 7, EX, 50, SH);
        trace_forget(t);
        trace_break(t, lock_of(t, 'B'));
        trace_expect(t, "A is told of its loss: it was broken\n"
                        "A lost it: it was broken\n"
                        "B is told of its loss: it was broken\n"
                        "kernel: unlock\n");
        trace_advance(t, 50);
        trace_expect(t, "");
}

static void a_waiting_upgrade_of_another_goes_on(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'A', SH, FOREVER);
        trace_lock(t, 'B', SH, FOREVER);
        trace_lock(t, 'A', EX, FOREVER);
        trace_forget(t);
        trace_break(t, lock_of(t, 'B'));
        trace_expect(t, "B is told of its loss: it was broken\nkernel: upgrade for A\nA has EX\n");
}

static void an_upgrade_that_a_break_lets_through_may_still_be_lost_to_an_outsider(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'A', SH, FOREVER);
        trace_lock(t, 'B', SH, FOREVER);
        trace_lock(t, 'A', EX, FOREVER);
        trace_forget(t);
        t->slow = true;
        trace_break(t, lock_of(t, 'B'));
        trace_answer(t, OS_LOST);
        trace_expect(t, "B is told of its loss: it was broken\nkernel: upgrade for A\nA is told of its loss\nA lost it\n");
}

static void an_upgrade_that_waits_for_outsiders_is_lost(void **state)
{
        struct trace *t = *state;

        t->outside = SH;
        trace_lock(t, 'A', SH, FOREVER);
        trace_lock(t, 'A', EX, FOREVER);
        trace_break(t, lock_of(t, 'A'));
        trace_expect(t, "A has SH\nkernel: upgrade for A\nA waits\n"
                        "A is told of its loss: it was broken\nA lost it: it was broken\nkernel: unlock\n");
        assert_true(table_next_deadline(t->table) == TABLE_NEVER);
}

/* A conversion is under way when its lock is broken. The answer comes later; whatever it is, the kernel has nothing at the end, and who waits is served. */
static void break_during_a_conversion(struct trace *t, uint64_t passed, enum table_os_result result, const char *then)
{
        if (passed != 0)
                trace_pass(t, 'A', passed, SH, FOREVER, TABLE_NONE);
        else
                trace_lock(t, 'A', SH, FOREVER);
        t->slow = true;
        if (passed != 0)
                trace_pass(t, 'A', passed, EX, FOREVER, SH);
        else
                trace_lock(t, 'A', EX, FOREVER);
        t->slow = false;
        trace_lock(t, 'B', EX, FOREVER);
        trace_expect(t, "A has SH\nkernel: upgrade for A\nB waits\n");
        trace_break(t, lock_of(t, 'A'));
        trace_expect(t, "A is told of its loss: it was broken\nA lost it: it was broken\nkernel: unlock\n");
        trace_answer(t, result);
        trace_expect(t, then);
        trace_unlock(t, 'B', false);
        trace_expect(t, "kernel: unlock\n");
        assert_false(table_knows(t->table, the_file));
}

static void what_a_conversion_under_way_still_wins_is_given_back(void **state)
{
        break_during_a_conversion(*state, 0, OS_TAKEN, "kernel: unlock\nB has EX\n");
        break_during_a_conversion(*state, 7, OS_TAKEN, "kernel: unlock\nB has EX\n");
}

static void what_a_conversion_under_way_does_not_win_is_forgotten(void **state)
{
        static const enum table_os_result results[] = {OS_BUSY, OS_LOST, OS_FAILED, OS_CANCELLED};
        size_t i;

        for (i = 0; i < sizeof results / sizeof results[0]; i++) {
                break_during_a_conversion(*state, 0, results[i], "B has EX\n");
                break_during_a_conversion(*state, 7, results[i], "B has EX\n");
        }
}

static void a_conversion_that_was_withdrawn_but_is_under_way_gives_back_all(void **state)
{
        struct trace *t = *state;

        trace_lock(t, 'A', SH, FOREVER);
        t->slow = true;
        trace_lock(t, 'A', EX, 50);
        trace_advance(t, 50);
        trace_break(t, lock_of(t, 'A'));
        trace_answer(t, OS_TAKEN);
        trace_expect(t, "A has SH\nkernel: upgrade for A\nA timed out\n"
                        "A is told of its loss: it was broken\nkernel: unlock\nkernel: unlock\n");
}

/* B hopes for more than the description bears and was never told that it holds. */
static void hope_for_more(struct trace *t)
{
        trace_lock(t, 'C', SH, FOREVER);
        trace_pass(t, 'B', 7, EX, FOREVER, SH);
        trace_forget(t);
}

static void one_on_trial_is_answered_and_not_told(void **state)
{
        struct trace *t = *state;

        trace_pass(t, 'A', 7, SH, FOREVER, TABLE_NONE);
        hope_for_more(t);
        trace_break(t, lock_of(t, 'A'));
        trace_expect(t, "A is told of its loss: it was broken\nB lost it: it was broken\nkernel: unlock\n");
        assert_int_equal(table_holder_count(t->table, the_file), 1);
}

static void the_id_of_one_on_trial_breaks_its_description(void **state)
{
        struct trace *t = *state;

        trace_pass(t, 'A', 7, SH, FOREVER, TABLE_NONE);
        hope_for_more(t);
        trace_break(t, lock_at(t, 2));
        trace_expect(t, "A is told of its loss: it was broken\nB lost it: it was broken\nkernel: unlock\n");
        hope_for_more(t);       /* this time by a lock that was found on the description */
        trace_break(t, lock_at(t, 1));
        trace_expect(t, "B lost it: it was broken\nkernel: unlock\n");
}

static void one_on_trial_whose_conversion_is_under_way_is_answered_and_not_told(void **state)
{
        struct trace *t = *state;

        trace_pass(t, 'A', 7, SH, FOREVER, TABLE_NONE);
        t->slow = true;
        trace_pass(t, 'B', 7, EX, AT_ONCE, SH);
        trace_break(t, lock_of(t, 'A'));
        trace_answer(t, OS_TAKEN);
        trace_expect(t, "A has SH\nkernel: upgrade for B\n"
                        "A is told of its loss: it was broken\nB lost it: it was broken\nkernel: unlock\n"
                        "kernel: unlock\n");
}

static void one_on_trial_that_all_others_have_left_is_answered_and_not_told(void **state)
{
        struct trace *t = *state;

        trace_pass(t, 'A', 7, SH, FOREVER, TABLE_NONE);
        hope_for_more(t);
        trace_unlock(t, 'A', true);     /* closed: the lock on it would stay */
        trace_break(t, lock_at(t, 1));
        trace_expect(t, "B lost it: it was broken\nkernel: unlock\n");
}

static void an_id_that_nobody_holds_by_breaks_nothing(void **state)
{
        struct trace *t = *state;
        struct table_event detach = {.kind = EV_LOCK, .session = 1, .cookie = 26 * 99, .key = {8, 42}, .bearer = 7, .mode = EX, .bears = EX, .detach = true,
                                     .deadline_ms = TABLE_NEVER};
        table_id old;

        trace_break(t, 0);
        trace_break(t, 12345);
        trace_pass(t, 'A', 7, EX, FOREVER, TABLE_NONE);
        old = lock_of(t, 'A');
        trace_break(t, old + 1);
        trace_submit(t, detach);
        trace_break(t, old);
        trace_expect(t, "A has EX\nA still has EX\n");
        trace_lock(t, 'B', EX, AT_ONCE);
        old = lock_of(t, 'B');
        trace_break(t, old);
        trace_lock(t, 'B', EX, AT_ONCE);
        trace_break(t, old);    /* another lock by now */
        trace_expect(t, "B has EX\nB is told of its loss: it was broken\nkernel: unlock\nB has EX\n");
}

static void a_break_is_a_hand_over_like_an_unlock(void **state)
{
        struct trace *t = *state;
        int i;

        trace_lock(t, 'A', EX, FOREVER);
        trace_lock(t, 'B', EX, FOREVER);
        for (i = 0; i < TABLE_HANDOVERS_MAX; i++) {
                trace_break(t, lock_of(t, (char)('A' + i % 2)));
                trace_forget(t);
                trace_lock(t, (char)('A' + i % 2), EX, FOREVER);
        }
        trace_expect(t, "kernel: wait EX for B on a new description\nB waits\n");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                HISTORY(a_broken_lock_is_free_and_its_holder_is_told),
                HISTORY(a_passed_description_is_unlocked_too),
                HISTORY(who_waits_for_a_broken_lock_is_granted_it),
                HISTORY(all_who_hold_by_a_description_lose_it),
                HISTORY(by_path_only_its_owner_loses_a_shared_lock),
                HISTORY(a_waiting_upgrade_of_it_is_lost),
                HISTORY(a_waiting_upgrade_of_a_co_holder_is_lost),
                HISTORY(a_waiting_upgrade_of_another_goes_on),
                HISTORY(an_upgrade_that_a_break_lets_through_may_still_be_lost_to_an_outsider),
                HISTORY(an_upgrade_that_waits_for_outsiders_is_lost),
                HISTORY(what_a_conversion_under_way_still_wins_is_given_back),
                HISTORY(what_a_conversion_under_way_does_not_win_is_forgotten),
                HISTORY(a_conversion_that_was_withdrawn_but_is_under_way_gives_back_all),
                HISTORY(one_on_trial_is_answered_and_not_told),
                HISTORY(the_id_of_one_on_trial_breaks_its_description),
                HISTORY(one_on_trial_whose_conversion_is_under_way_is_answered_and_not_told),
                HISTORY(one_on_trial_that_all_others_have_left_is_answered_and_not_told),
                HISTORY(an_id_that_nobody_holds_by_breaks_nothing),
                HISTORY(a_break_is_a_hand_over_like_an_unlock),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
