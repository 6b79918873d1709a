/*
 * What os/oslock.h promises, tried against the real system and against the fake one: with outsiders in other descriptions of the
 * same file. What a fake cannot break without the contract noticing, a test that uses it may believe.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <uv.h>

#include "descriptions.h"
#include "oslock.h"

#include <stdlib.h>

#define ANSWERS_MAX 64

struct fixture {
        uv_loop_t loop;
        struct oslock_pool *pool;
        int ours, outsider;
        struct {
                uv_idle_t idle; /* stands for a thread elsewhere: the try is made in a later turn of the loop */
                uint64_t op;
                int fd;
                enum oslock_mode mode;
        } elsewhere;
        size_t tried_elsewhere;
        size_t answers;
        uint64_t ops[ANSWERS_MAX];
        enum oslock_result results[ANSWERS_MAX];
};

static void on_done(void *arg, uint64_t op, enum oslock_result result, int error)
{
        struct fixture *f = arg;

        (void)error;
        assert_true(f->answers < ANSWERS_MAX);
        f->ops[f->answers] = op;
        f->results[f->answers++] = result;
}

static void try_it(uv_idle_t *idle)
{
        struct fixture *f = idle->data;
        enum oslock_result result;
        int error = 0;

        uv_idle_stop(idle);
        f->tried_elsewhere++;
        result = oslock_try(f->elsewhere.fd, f->elsewhere.mode, &error);
        oslock_pool_tried(f->pool, f->elsewhere.op, result, error);
}

static int try_elsewhere(void *arg, uint64_t op, int fd, enum oslock_mode mode, uint64_t user)
{
        struct fixture *f = arg;

        (void)user;
        assert_false(uv_is_active((uv_handle_t *)&f->elsewhere.idle));
        f->elsewhere.op = op;
        f->elsewhere.fd = fd;
        f->elsewhere.mode = mode;
        uv_idle_start(&f->elsewhere.idle, try_it);
        return 0;
}

static int set_up_with(void **state, unsigned threads, oslock_try_elsewhere *elsewhere)
{
        struct fixture *f = calloc(1, sizeof *f);

        descriptions_begin();
        uv_loop_init(&f->loop);
        uv_idle_init(&f->loop, &f->elsewhere.idle);
        f->elsewhere.idle.data = f;
        f->pool = oslock_pool_create(&f->loop, threads, on_done, elsewhere, f);
        f->ours = description_open();
        f->outsider = description_open();
        *state = f;
        return f->pool == NULL;
}

static int set_up(void **state)
{
        return set_up_with(state, 4, NULL);
}

static int set_up_without_threads(void **state)
{
        return set_up_with(state, 0, NULL);
}

static int set_up_with_retries_elsewhere(void **state)
{
        return set_up_with(state, 0, try_elsewhere);
}

static int tear_down(void **state)
{
        struct fixture *f = *state;

        if (f->pool != NULL)
                oslock_pool_destroy(f->pool);
        uv_close((uv_handle_t *)&f->elsewhere.idle, NULL);
        uv_run(&f->loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&f->loop), 0);
        description_close(f->ours);
        description_close(f->outsider);
        descriptions_end();
        free(f);
        return 0;
}

static void await_answers(struct fixture *f, size_t count)
{
        while (f->answers < count)
                uv_run(&f->loop, UV_RUN_ONCE);
}

static void a_try_takes_what_is_free_and_says_busy_otherwise(void **state)
{
        struct fixture *f = *state;
        int error = 0;

        assert_int_equal(oslock_try(f->ours, OSLOCK_EX, &error), OSLOCK_TAKEN);
        assert_int_equal(oslock_bears(f->ours), OSLOCK_EX);
        assert_int_equal(oslock_try(f->outsider, OSLOCK_SH, &error), OSLOCK_BUSY);
        oslock_unlock(f->ours);
        assert_int_equal(oslock_bears(f->ours), OSLOCK_NONE);
        assert_int_equal(oslock_try(f->outsider, OSLOCK_SH, &error), OSLOCK_TAKEN);
        assert_int_equal(oslock_try(f->ours, OSLOCK_SH, &error), OSLOCK_TAKEN);
}

static void a_refused_upgrade_keeps_its_shared_lock(void **state)
{
        struct fixture *f = *state;
        int error = 0;

        assert_int_equal(oslock_try(f->ours, OSLOCK_SH, &error), OSLOCK_TAKEN);
        assert_int_equal(oslock_try(f->outsider, OSLOCK_SH, &error), OSLOCK_TAKEN);
        assert_int_equal(oslock_upgrade(f->ours, &error), OSLOCK_BUSY);
        assert_int_equal(oslock_bears(f->ours), OSLOCK_SH);
        oslock_unlock(f->outsider);
        assert_int_equal(oslock_upgrade(f->ours, &error), OSLOCK_TAKEN);
        assert_int_equal(oslock_bears(f->ours), OSLOCK_EX);
        oslock_downgrade(f->ours);
        assert_int_equal(oslock_bears(f->ours), OSLOCK_SH);
}

static void a_duplicate_bears_the_lock_until_the_last_one_is_closed(void **state)
{
        struct fixture *f = *state;
        int other = description_dup(f->ours), error = 0;

        assert_int_equal(oslock_try(f->ours, OSLOCK_EX, &error), OSLOCK_TAKEN);
        assert_int_equal(oslock_bears(other), OSLOCK_EX);
        description_close(f->ours);
        assert_int_equal(oslock_try(f->outsider, OSLOCK_EX, &error), OSLOCK_BUSY);
        description_close(other);
        assert_int_equal(oslock_try(f->outsider, OSLOCK_EX, &error), OSLOCK_TAKEN);
        f->ours = description_open();
}

static void a_wait_is_answered_when_the_outsider_lets_go(void **state)
{
        struct fixture *f = *state;
        int error = 0;

        assert_int_equal(oslock_try(f->outsider, OSLOCK_EX, &error), OSLOCK_TAKEN);
        assert_int_equal(oslock_wait(f->pool, 7, f->ours, OSLOCK_EX, false, 0), 0);
        assert_int_equal(f->answers, 0);
        oslock_unlock(f->outsider);
        await_answers(f, 1);
        assert_int_equal(f->ops[0], 7);
        assert_int_equal(f->results[0], OSLOCK_TAKEN);
        assert_int_equal(oslock_bears(f->ours), OSLOCK_EX);
}

static void a_cancelled_wait_is_answered_once_and_holds_nothing(void **state)
{
        struct fixture *f = *state;
        int i, error = 0;

        assert_int_equal(oslock_try(f->outsider, OSLOCK_EX, &error), OSLOCK_TAKEN);
        for (i = 0; i < 50; i++) {
                assert_int_equal(oslock_wait(f->pool, (uint64_t)i + 1, f->ours, OSLOCK_EX, false, 0), 0);
                oslock_cancel(f->pool, (uint64_t)i + 1);
                oslock_cancel(f->pool, (uint64_t)i + 1);
                await_answers(f, (size_t)i + 1);
                assert_int_equal(f->ops[i], i + 1);
                assert_int_equal(f->results[i], OSLOCK_CANCELLED);
                assert_int_equal(oslock_bears(f->ours), OSLOCK_NONE);
        }
        assert_int_equal(f->answers, 50);
}

static void a_lock_that_came_with_the_cancel_is_reported_truly(void **state)
{
        struct fixture *f = *state;
        int i, error = 0;

        for (i = 0; i < 50; i++) {
                assert_int_equal(oslock_try(f->outsider, OSLOCK_EX, &error), OSLOCK_TAKEN);
                assert_int_equal(oslock_wait(f->pool, 1, f->ours, OSLOCK_EX, false, 0), 0);
                oslock_unlock(f->outsider);
                oslock_cancel(f->pool, 1);
                await_answers(f, (size_t)i + 1);
                assert_int_equal(oslock_bears(f->ours), f->results[i] == OSLOCK_TAKEN ? OSLOCK_EX : OSLOCK_NONE);
                oslock_unlock(f->ours);
        }
}

static void the_pool_can_go_while_somebody_waits(void **state)
{
        struct fixture *f = *state;
        int error = 0;

        assert_int_equal(oslock_try(f->outsider, OSLOCK_EX, &error), OSLOCK_TAKEN);
        assert_int_equal(oslock_wait(f->pool, 1, f->ours, OSLOCK_EX, false, 0), 0);
        oslock_pool_destroy(f->pool);
        f->pool = NULL;
        assert_int_equal(f->answers, 0);
        assert_int_equal(oslock_bears(f->ours), OSLOCK_NONE);
}

static void one_wait_past_the_bound_of_threads_retries(void **state)
{
        struct fixture *f = *state;
        struct oslock_stats stats;
        int fds[5], i, error = 0;

        assert_int_equal(oslock_try(f->outsider, OSLOCK_EX, &error), OSLOCK_TAKEN);
        for (i = 0; i < 5; i++) {
                fds[i] = description_open();
                assert_int_equal(oslock_wait(f->pool, (uint64_t)i + 1, fds[i], OSLOCK_SH, false, 0), 0);
        }
        oslock_pool_stats(f->pool, &stats);
        assert_int_equal(stats.threads, 4);
        assert_int_equal(stats.retrying, 1);
        oslock_unlock(f->outsider);
        await_answers(f, 5);
        for (i = 0; i < 5; i++) {
                assert_int_equal(f->results[i], OSLOCK_TAKEN);
                description_close(fds[i]);
        }
}

static void run_for(struct fixture *f, uint64_t ms)
{
        uint64_t until = uv_hrtime() + ms * 1000000;

        while (uv_hrtime() < until)
                uv_run(&f->loop, UV_RUN_NOWAIT);
}

static void retries_become_ever_more_seldom(void **state)
{
        struct fixture *f = *state;
        struct oslock_stats stats;
        int error = 0;

        assert_int_equal(oslock_try(f->outsider, OSLOCK_EX, &error), OSLOCK_TAKEN);
        assert_int_equal(oslock_wait(f->pool, 1, f->ours, OSLOCK_EX, false, 0), 0);
        run_for(f, 500);
        oslock_pool_stats(f->pool, &stats);
        assert_in_range(stats.tries_total, 0, 12);      /* 1, 2, 4, ... 256 ms, and a few more for the jitter */
        oslock_unlock(f->outsider);
        await_answers(f, 1);
        assert_int_equal(f->results[0], OSLOCK_TAKEN);
}

static void a_thread_that_becomes_free_goes_to_the_oldest_retry(void **state)
{
        struct fixture *f = *state;
        struct oslock_stats stats;
        int fds[20], i, error = 0;

        assert_int_equal(oslock_try(f->outsider, OSLOCK_EX, &error), OSLOCK_TAKEN);
        for (i = 0; i < 20; i++) {
                fds[i] = description_open();
                assert_int_equal(oslock_wait(f->pool, (uint64_t)i + 1, fds[i], OSLOCK_EX, false, 0), 0);
        }
        for (i = 0; i < 16; i++) {
                oslock_cancel(f->pool, (uint64_t)i + 1);
                await_answers(f, (size_t)i + 1);
                assert_int_equal(f->ops[i], i + 1);
        }
        oslock_pool_stats(f->pool, &stats);
        assert_int_equal(stats.threads, 4);
        assert_int_equal(stats.retrying, 0);
        oslock_unlock(f->outsider);
        for (i = 16; i < 20; i++) {
                await_answers(f, (size_t)i + 1);
                assert_int_equal(f->results[i], OSLOCK_TAKEN);
                oslock_unlock(fds[f->ops[i] - 1]);
        }
        for (i = 0; i < 20; i++)
                description_close(fds[i]);
}

/* Four threads: a quarter is one. */
static void one_user_gets_no_more_than_a_quarter_of_the_threads(void **state)
{
        struct fixture *f = *state;
        struct oslock_stats stats;
        int fds[8], i, error = 0;

        assert_int_equal(oslock_try(f->outsider, OSLOCK_EX, &error), OSLOCK_TAKEN);
        for (i = 0; i < 8; i++) {
                fds[i] = description_open();
                assert_int_equal(oslock_wait(f->pool, (uint64_t)i + 1, fds[i], OSLOCK_SH, false, i < 4 ? 1000 : i < 6 ? 1001 : 0), 0);
        }
        oslock_pool_stats(f->pool, &stats);
        assert_int_equal(stats.threads, 4);             /* one of the first user, one of the second, and two that are nobody's */
        assert_int_equal(stats.retrying, 4);
        oslock_cancel(f->pool, 7);
        await_answers(f, 1);
        oslock_pool_stats(f->pool, &stats);
        assert_int_equal(stats.threads, 3);             /* free, but for none of those */
        assert_int_equal(stats.retrying, 4);
        oslock_cancel(f->pool, 1);
        await_answers(f, 2);
        oslock_pool_stats(f->pool, &stats);
        assert_int_equal(stats.threads, 3);             /* his next one has it */
        assert_int_equal(stats.retrying, 3);
        oslock_unlock(f->outsider);
        await_answers(f, 8);
        for (i = 0; i < 8; i++)
                description_close(fds[i]);
        oslock_pool_stats(f->pool, &stats);
        assert_int_equal(stats.threads, 0);
}

#define WITH(test, how) cmocka_unit_test_setup_teardown(test, how, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                WITH(a_try_takes_what_is_free_and_says_busy_otherwise, set_up),
                WITH(a_refused_upgrade_keeps_its_shared_lock, set_up),
                WITH(a_duplicate_bears_the_lock_until_the_last_one_is_closed, set_up),
                WITH(a_wait_is_answered_when_the_outsider_lets_go, set_up),
                WITH(a_wait_is_answered_when_the_outsider_lets_go, set_up_without_threads),
                WITH(a_cancelled_wait_is_answered_once_and_holds_nothing, set_up),
                WITH(a_cancelled_wait_is_answered_once_and_holds_nothing, set_up_without_threads),
                WITH(a_lock_that_came_with_the_cancel_is_reported_truly, set_up),
                WITH(the_pool_can_go_while_somebody_waits, set_up),
                WITH(the_pool_can_go_while_somebody_waits, set_up_without_threads),
                WITH(one_wait_past_the_bound_of_threads_retries, set_up),
                WITH(a_wait_is_answered_when_the_outsider_lets_go, set_up_with_retries_elsewhere),
                WITH(a_cancelled_wait_is_answered_once_and_holds_nothing, set_up_with_retries_elsewhere),
                WITH(a_lock_that_came_with_the_cancel_is_reported_truly, set_up_with_retries_elsewhere),
                WITH(the_pool_can_go_while_somebody_waits, set_up_with_retries_elsewhere),
                WITH(retries_become_ever_more_seldom, set_up_without_threads),
                WITH(retries_become_ever_more_seldom, set_up_with_retries_elsewhere),
                WITH(a_thread_that_becomes_free_goes_to_the_oldest_retry, set_up),
                WITH(one_user_gets_no_more_than_a_quarter_of_the_threads, set_up),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
