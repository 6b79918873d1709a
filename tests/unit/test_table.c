/* Histories of one file: who is served, in which order, and what those who wait are told. */
#include "history.h"

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

int main(void)
{
        const struct CMUnitTest tests[] = {
                HISTORY(those_who_wait_are_served_in_the_order_of_asking),
                HISTORY(sharers_at_the_head_are_granted_together),
                HISTORY(a_new_sharer_does_not_overtake_a_waiting_writer),
                HISTORY(locking_again_what_one_holds_changes_nothing),
                HISTORY(two_handles_of_a_session_exclude_each_other),
                HISTORY(an_owner_waits_only_once_for_a_file),
                HISTORY(a_time_out_comes_at_its_time_and_serves_the_next),
                HISTORY(one_that_must_queue_again_gets_its_old_place),
                HISTORY(an_older_one_displaces_the_head_that_waits_in_the_kernel),
                HISTORY(one_that_may_not_wait_is_refused_when_an_older_one_comes_before_it),
                HISTORY(one_that_may_not_wait_is_refused_when_an_upgrade_comes_before_it),
                HISTORY(one_that_may_not_wait_and_whose_try_is_under_way_is_refused_too),
                HISTORY(holders_are_shown_by_lock_id_and_their_descriptions_are_counted),
                HISTORY(those_who_wait_hear_of_every_change_once),
                HISTORY(those_who_wait_hear_of_a_loss_and_of_a_downgrade),
                HISTORY(an_id_of_the_past_names_nobody),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
