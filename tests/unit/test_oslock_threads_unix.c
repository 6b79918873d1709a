/* The threads that wait in flock(2): they stay for the next wait, but not all of a crowd. What a wait promises is tried in contract/test_oslock.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <uv.h>

#include "descriptions.h"
#include "oslock.h"

#include <dirent.h>
#include <stdlib.h>

#define CROWD 30
#define KEPT 8                  /* oslock_thread.c */

struct fixture {
        uv_loop_t loop;
        struct oslock_pool *pool;
        int outsider, ours[CROWD];
        size_t taken, cancelled;
        unsigned threads_before;
};

static void on_done(void *arg, uint64_t op, enum oslock_result result, int error)
{
        struct fixture *f = arg;

        (void)error;
        if (result == OSLOCK_TAKEN)
                oslock_unlock(f->ours[op]);
        f->taken += result == OSLOCK_TAKEN;
        f->cancelled += result == OSLOCK_CANCELLED;
}

static unsigned threads(void)
{
        DIR *d = opendir("/proc/self/task");
        unsigned n = 0;

        assert_non_null(d);
        while (readdir(d) != NULL)
                n++;
        closedir(d);
        return n - 2;
}

static int set_up(void **state)
{
        struct fixture *f = calloc(1, sizeof *f);
        int i;

        descriptions_begin();
        uv_loop_init(&f->loop);
        f->threads_before = threads();
        f->pool = oslock_pool_create(&f->loop, CROWD, on_done, NULL, f);
        f->outsider = description_open();
        for (i = 0; i < CROWD; i++)
                f->ours[i] = description_open();
        *state = f;
        return f->pool == NULL;
}

static int tear_down(void **state)
{
        struct fixture *f = *state;
        int i;

        oslock_pool_destroy(f->pool);
        uv_run(&f->loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&f->loop), 0);
        for (i = 0; i < CROWD; i++)
                description_close(f->ours[i]);
        description_close(f->outsider);
        descriptions_end();
        free(f);
        return 0;
}

static void outsider_locks(struct fixture *f)
{
        int error;

        while (oslock_try(f->outsider, OSLOCK_EX, &error) != OSLOCK_TAKEN)
                uv_run(&f->loop, UV_RUN_NOWAIT);
}

static void wait_for(struct fixture *f, int op)
{
        assert_int_equal(oslock_wait(f->pool, (uint64_t)op, f->ours[op], OSLOCK_EX, false, 0), 0);
}

static void await(struct fixture *f, const size_t *count, size_t wanted)
{
        while (*count < wanted)
                uv_run(&f->loop, UV_RUN_ONCE);
}

static unsigned started(const struct fixture *f)
{
        return threads() - f->threads_before;
}

/* They are joined in turns of their own, and are to be seen for a moment after that. */
static void await_threads(struct fixture *f, unsigned count)
{
        while (started(f) > count)
                uv_run(&f->loop, UV_RUN_NOWAIT);
        assert_int_equal(started(f), count);
}

static void one_thread_serves_one_wait_after_another(void **state)
{
        struct fixture *f = *state;
        size_t i;

        for (i = 1; i <= 50; i++) {
                outsider_locks(f);
                wait_for(f, 1);
                oslock_unlock(f->outsider);
                await(f, &f->taken, i);
                assert_int_equal(started(f), 1);
        }
}

/* Also after one that was cancelled. */
static void a_thread_that_was_interrupted_serves_the_next_wait(void **state)
{
        struct fixture *f = *state;
        size_t i;

        for (i = 1; i <= 50; i++) {
                outsider_locks(f);
                wait_for(f, 1);
                oslock_cancel(f->pool, 1);
                await(f, &f->cancelled, i);
                wait_for(f, 2);
                oslock_unlock(f->outsider);
                await(f, &f->taken, i);
                assert_int_equal(started(f), 1);
        }
}

static void of_a_crowd_only_some_stay(void **state)
{
        struct fixture *f = *state;
        int i;

        outsider_locks(f);
        for (i = 0; i < CROWD; i++)
                wait_for(f, i);
        assert_int_equal(started(f), CROWD);
        oslock_unlock(f->outsider);
        await(f, &f->taken, CROWD);
        await_threads(f, KEPT);
        outsider_locks(f);
        for (i = 0; i < KEPT; i++)
                wait_for(f, i);
        assert_int_equal(started(f), KEPT);
        wait_for(f, KEPT);
        assert_int_equal(started(f), KEPT + 1);
        oslock_unlock(f->outsider);
        await(f, &f->taken, CROWD + KEPT + 1);
}

static void the_pool_can_go_while_threads_are_idle_wait_and_end(void **state)
{
        struct fixture *f = *state;
        int i;

        outsider_locks(f);
        for (i = 0; i < CROWD - 1; i++)
                wait_for(f, i);
        for (i = 0; i < CROWD - 2; i++)
                oslock_cancel(f->pool, (uint64_t)i);
        await(f, &f->cancelled, CROWD - 2);
        oslock_pool_destroy(f->pool);
        f->pool = NULL;
        await_threads(f, 0);
        assert_int_equal(f->taken, 0);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

static void nothing(void *arg)
{
        (void)arg;
}

int main(void)
{
        uv_thread_t first;
        const struct CMUnitTest tests[] = {
                WITH(one_thread_serves_one_wait_after_another),
                WITH(a_thread_that_was_interrupted_serves_the_next_wait),
                WITH(of_a_crowd_only_some_stay),
                WITH(the_pool_can_go_while_threads_are_idle_wait_and_end),
        };

        /* A sanitizer starts its own thread with the first one. */
        uv_thread_create(&first, nothing, NULL);
        uv_thread_join(&first);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
