/* Memory comes with requests: a refused one leaves no trace, and whatever happens to the others later needs none. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "starve.h"
#include "table.h"

#include <stdlib.h>
#include <string.h>

#define CROWD 3000

struct crowd {
        struct table *table;
        struct table_effects fx;
        uint64_t op;            /* asked of the system and not answered */
        size_t replies[OUT_LIMIT + 1], drops;
};

static int set_up(void **state)
{
        struct crowd *c = calloc(1, sizeof *c);

        c->table = table_create();
        c->fx.items = calloc(TABLE_EFFECTS_FIRST, sizeof *c->fx.items);
        c->fx.cap = TABLE_EFFECTS_FIRST;
        *state = c;
        return 0;
}

static int tear_down(void **state)
{
        struct crowd *c = *state;

        table_destroy(c->table);
        free(c->fx.items);
        free(c);
        return 0;
}

static void step(struct crowd *c, const struct table_event *ev)
{
        size_t i;

        c->fx.count = 0;
        table_step(c->table, ev, &c->fx);
        for (i = 0; i < c->fx.count; i++) {
                const struct table_effect *fx = &c->fx.items[i];

                if (fx->kind == FX_REPLY)
                        c->replies[fx->outcome]++;
                if (fx->kind == FX_OS_LOCK)
                        c->op = fx->op;
                c->drops += fx->kind == FX_OS_DROP;
        }
}

static void ask(struct crowd *c, uint64_t session, enum table_mode mode)
{
        struct table_event ev = {.kind = EV_LOCK, .session = session, .cookie = session, .key = {1, 2}, .bearer = 7, .shared = true, .mode = mode,
                                 .deadline_ms = mode == TABLE_EX ? 1000 : TABLE_NEVER};

        step(c, &ev);
}

static void answer(struct crowd *c, enum table_os_result result)
{
        struct table_event ev = {.kind = EV_OS_DONE, .op = c->op, .result = result};

        step(c, &ev);
}

/* From here on no allocation succeeds; and none may even be tried until it ends. */
static void without_memory(void)
{
        starve_at(1, true);
}

static void and_none_was_needed(struct crowd *c)
{
        assert_false(starve_end());
        assert_null(table_check(c->table));
}

static void a_crowd_is_granted_and_leaves_without_memory(void **state)
{
        struct table_event end = {.kind = EV_SESSION_END};
        struct crowd *c = *state;
        uint64_t i;

        for (i = 1; i <= CROWD; i++)
                ask(c, i, TABLE_SH);
        assert_int_equal(c->replies[OUT_GRANTED], 0);
        without_memory();
        answer(c, OS_TAKEN);
        and_none_was_needed(c);
        assert_int_equal(c->replies[OUT_GRANTED], CROWD);
        without_memory();
        for (end.session = 1; end.session <= CROWD; end.session++)
                step(c, &end);
        and_none_was_needed(c);
        assert_int_equal(c->drops, CROWD);
}

/* A crowd whose time is over is told by and by: others have their turn in between. */
static void a_crowd_times_out_in_shares_without_memory(void **state)
{
        struct table_event timer = {.kind = EV_TIMER, .now_ms = 1000};
        struct crowd *c = *state;
        uint64_t i;

        ask(c, CROWD + 1, TABLE_SH);
        answer(c, OS_TAKEN);
        for (i = 1; i <= CROWD; i++)
                ask(c, i, TABLE_EX);
        without_memory();
        for (i = 1; table_next_deadline(c->table) <= 1000; i++) {
                step(c, &timer);
                assert_int_equal(c->replies[OUT_TIMED_OUT], i * TABLE_TIMEOUTS_MAX < CROWD ? i * TABLE_TIMEOUTS_MAX : CROWD);
        }
        and_none_was_needed(c);
        assert_int_equal(c->replies[OUT_TIMED_OUT], CROWD);
}

static void the_first_lock_of_all_is_granted_without_memory(void **state)
{
        struct crowd *c = *state;

        ask(c, 1, TABLE_EX);
        without_memory();
        answer(c, OS_TAKEN);
        and_none_was_needed(c);
        assert_int_equal(c->replies[OUT_GRANTED], 1);
}

/* A request with its n-th allocation failing, until none fails any more; before a crowd of `before`. */
static void refuse_in_turn(struct crowd *c, uint64_t before)
{
        struct table_counts n, now;
        uint64_t i;
        long k;

        for (i = 1; i <= before; i++)
                ask(c, i, TABLE_SH);
        table_count(c->table, &n);
        for (k = 1;; k++) {
                size_t limits = c->replies[OUT_LIMIT], drops = c->drops;

                starve_at(k, false);
                ask(c, before + 1, TABLE_SH);
                if (!starve_end())
                        break;
                assert_null(table_check(c->table));
                if (c->replies[OUT_LIMIT] == limits)
                        break;          /* it did without: an index that could not grow */
                assert_int_equal(c->drops, drops + 1);
                table_count(c->table, &now);
                assert_memory_equal(&n, &now, sizeof n);
        }
        assert_true(before > 0 || k > 5);
}

static void a_request_without_memory_leaves_no_trace(void **state)
{
        refuse_in_turn(*state, 0);
}

static void nor_does_it_where_everything_has_to_grow(void **state)
{
        uint64_t before;

        (void)state;
        for (before = 1; before < 700; before += before < 200 ? 1 : 13) {
                void *fresh;

                set_up(&fresh);
                refuse_in_turn(fresh, before);
                tear_down(&fresh);
        }
}

static void a_table_without_memory_is_none(void **state)
{
        bool failed = true;
        struct table *t;
        long k;

        (void)state;
        for (k = 1; failed; k++) {
                starve_at(k, false);
                t = table_create();
                failed = starve_end();
                assert_int_equal(t == NULL, failed);
                table_destroy(t);
        }
        assert_true(k > 4);
}

#define WITH_TABLE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                WITH_TABLE(a_crowd_is_granted_and_leaves_without_memory),
                WITH_TABLE(a_crowd_times_out_in_shares_without_memory),
                WITH_TABLE(the_first_lock_of_all_is_granted_without_memory),
                WITH_TABLE(a_request_without_memory_leaves_no_trace),
                cmocka_unit_test(nor_does_it_where_everything_has_to_grow),
                cmocka_unit_test(a_table_without_memory_is_none),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
