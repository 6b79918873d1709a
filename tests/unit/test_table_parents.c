/* Histories of sessions that are each other's parents and children: a parent waits for its child. */
#include "history.h"

static void a_command_asks_for_what_its_parent_holds(void **state)
{
        struct trace *t = *state;

        trace_lock_file(t, 'A', 'x', EX, FOREVER);
        trace_introduce(t, 'B', 'A', false);
        trace_introduce(t, 'C', 'B', false);
        trace_lock_file(t, 'C', 'x', SH, FOREVER);
        trace_expect(t, "A has EX of x\nC deadlock: C waits for x, A waits for B, B waits for C\n");
        trace_end(t, 'B');      /* nobody waits for C any more */
        trace_lock_file(t, 'C', 'x', SH, FOREVER);
        trace_expect(t, "C waits for x\n");
}

/* It is over but for its locks: those who wait for them wait for nobody who waits. */
static void a_parent_whose_locks_are_given_back_later_waits_no_more(void **state)
{
        struct table_event over = {.kind = EV_SESSION_END, .session = 1, .locks_stay = true};
        struct trace *t = *state;

        trace_lock_file(t, 'A', 'x', EX, FOREVER);
        trace_lock_file(t, 'C', 'y', EX, FOREVER);
        trace_introduce(t, 'B', 'A', false);
        trace_lock_file(t, 'A', 'y', EX, FOREVER);
        trace_forget(t);
        trace_submit(t, over);
        trace_expect(t, "A cancelled\n");
        trace_lock_file(t, 'B', 'x', EX, FOREVER);
        trace_lock_file(t, 'C', 'x', SH, AT_ONCE);
        trace_expect(t, "B waits for x\nC refused\n");
        trace_unlock_file(t, 'A', 'x');
        trace_expect(t, "kernel: unlock\nB has EX of x\n");
        trace_end(t, 'A');
        trace_expect(t, "");
}

static void nested_commands_the_wrong_way_round(void **state)
{
        struct trace *t = *state;

        trace_lock_file(t, 'A', 'x', EX, FOREVER);
        trace_lock_file(t, 'B', 'y', EX, FOREVER);
        trace_introduce(t, 'C', 'A', false);
        trace_introduce(t, 'D', 'B', false);
        trace_lock_file(t, 'C', 'y', EX, FOREVER);
        trace_forget(t);
        trace_lock_file(t, 'D', 'x', EX, FOREVER);
        trace_expect(t, "D deadlock: D waits for x, A waits for C, C waits for y, B waits for D\n");
        trace_end(t, 'D');
        trace_end(t, 'B');
        trace_expect(t, "kernel: unlock\nC has EX of y\n");
}

/* A found seed of an earlier try: the one in the middle has neither locks nor requests. */
static void a_parent_without_anything_is_remembered(void **state)
{
        struct trace *t = *state;

        trace_introduce(t, 'B', 'A', false);
        trace_introduce(t, 'C', 'B', false);
        trace_lock_file(t, 'A', 'x', EX, FOREVER);
        trace_lock_file(t, 'D', 'y', EX, FOREVER);
        trace_lock_file(t, 'D', 'x', EX, FOREVER);
        trace_forget(t);
        trace_lock_file(t, 'C', 'y', EX, FOREVER);
        trace_expect(t, "C deadlock: C waits for y, D waits for x, A waits for B, B waits for C\n");
}

static void a_parent_that_comes_back_after_its_child_closes_a_circle(void **state)
{
        struct trace *t = *state;

        trace_lock_file(t, 'A', 'x', EX, FOREVER);
        trace_introduce(t, 'B', 'A', false);
        trace_lock_file(t, 'C', 'x', EX, FOREVER);
        trace_forget(t);
        trace_introduce(t, 'C', 'B', false);
        trace_expect(t, "C deadlock: C waits for x, A waits for B, B waits for C\n");
}

static void a_parent_that_is_concurrent_does_not_wait(void **state)
{
        struct trace *t = *state;

        trace_introduce(t, 'A', 0, true);
        trace_introduce(t, 'B', 'A', false);
        trace_lock_file(t, 'A', 'x', EX, FOREVER);
        trace_lock_file(t, 'B', 'x', EX, FOREVER);
        trace_expect(t, "A has EX of x\nB waits for x\n");
        /* Nor does it when it queues before its child. */
        trace_lock_file(t, 'D', 'y', EX, FOREVER);
        trace_advance(t, 10);
        trace_use_handle(t, 1);
        trace_lock_file(t, 'B', 'y', EX, FOREVER);
        trace_forget(t);
        trace_lock_file_again(t, 'A', 'y', EX, t->now - 5);
        trace_expect(t, "A waits for y\n");
}

static void nobody_is_his_own_ancestor(void **state)
{
        struct trace *t = *state;

        trace_introduce(t, 'A', 'A', false);
        trace_introduce(t, 'B', 'A', false);
        trace_introduce(t, 'A', 'B', false);
        trace_lock_file(t, 'B', 'x', EX, FOREVER);
        trace_lock_file(t, 'A', 'x', EX, FOREVER);
        trace_expect(t, "B has EX of x\nA waits for x\n");
}

static void a_parent_may_be_told_of_twice(void **state)
{
        struct trace *t = *state;

        trace_introduce(t, 'B', 'A', false);    /* of whom nothing else is known: the child alone keeps its record */
        trace_introduce(t, 'B', 'A', false);
        trace_lock_file(t, 'A', 'x', EX, FOREVER);
        trace_lock_file(t, 'B', 'x', EX, FOREVER);
        trace_expect(t, "A has EX of x\nB deadlock: B waits for x, A waits for B\n");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                HISTORY(a_command_asks_for_what_its_parent_holds),
                HISTORY(a_parent_whose_locks_are_given_back_later_waits_no_more),
                HISTORY(nested_commands_the_wrong_way_round),
                HISTORY(a_parent_without_anything_is_remembered),
                HISTORY(a_parent_that_comes_back_after_its_child_closes_a_circle),
                HISTORY(a_parent_that_is_concurrent_does_not_wait),
                HISTORY(nobody_is_his_own_ancestor),
                HISTORY(a_parent_may_be_told_of_twice),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
