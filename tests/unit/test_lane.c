/* The lane: order per key, a bound on threads, an end that waits for nobody for ever. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "lane.h"

#include <stdlib.h>
#include <uv.h>

#define THREADS 4

struct fixture {
        uv_loop_t loop;
        struct lane *lane;
        uv_mutex_t mutex;
        uv_cond_t changed;
        unsigned running, most_running, ran;
        bool open;              /* jobs may end */
        size_t done, dropped;
        int order[64];
};

struct item {
        struct lane_job job;
        struct fixture *f;
        int number;
        bool waits;
};

static void work(struct lane_job *job)
{
        struct item *i = (struct item *)job;
        struct fixture *f = i->f;

        uv_mutex_lock(&f->mutex);
        f->order[f->ran++] = i->number;
        if (++f->running > f->most_running)
                f->most_running = f->running;
        uv_cond_broadcast(&f->changed);
        while (i->waits && !f->open)
                uv_cond_wait(&f->changed, &f->mutex);
        f->running--;
        uv_mutex_unlock(&f->mutex);
}

static void done(struct lane_job *job)
{
        struct item *i = (struct item *)job;

        i->f->done += !job->dropped;
        i->f->dropped += job->dropped;
        free(i);
}

static void submit_of(struct fixture *f, uint64_t user, uint64_t key, int number, bool waits)
{
        struct item *i = calloc(1, sizeof *i);

        assert_non_null(i);
        *i = (struct item){.job = {.work = work, .done = done, .key = key, .user = user}, .f = f, .number = number, .waits = waits};
        lane_submit(f->lane, &i->job);
}

static void submit(struct fixture *f, uint64_t key, int number, bool waits)
{
        submit_of(f, 0, key, number, waits);
}

static void await_running(struct fixture *f, unsigned count)
{
        uv_mutex_lock(&f->mutex);
        while (f->running < count)
                uv_cond_wait(&f->changed, &f->mutex);
        uv_mutex_unlock(&f->mutex);
}

static void let_all_end(struct fixture *f)
{
        uv_mutex_lock(&f->mutex);
        f->open = true;
        uv_cond_broadcast(&f->changed);
        uv_mutex_unlock(&f->mutex);
}

static void run_until_done(struct fixture *f, size_t count)
{
        while (f->done < count)
                uv_run(&f->loop, UV_RUN_ONCE);
        assert_int_equal(f->done, count);
        assert_int_equal(lane_pending(f->lane), 0);
}

static int set_up(void **state)
{
        struct fixture *f = calloc(1, sizeof *f);

        uv_loop_init(&f->loop);
        uv_mutex_init(&f->mutex);
        uv_cond_init(&f->changed);
        f->lane = lane_create(&f->loop, THREADS);
        *state = f;
        return f->lane == NULL;
}

static int tear_down(void **state)
{
        struct fixture *f = *state;

        lane_destroy(f->lane);
        uv_run(&f->loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&f->loop), 0);
        uv_cond_destroy(&f->changed);
        uv_mutex_destroy(&f->mutex);
        free(f);
        return 0;
}

static void jobs_of_one_key_run_one_by_one_in_their_order(void **state)
{
        struct fixture *f = *state;
        int i;

        for (i = 0; i < 64; i++)
                submit(f, 7, i, false);
        run_until_done(f, 64);
        assert_int_equal(f->most_running, 1);
        for (i = 0; i < 64; i++)
                assert_int_equal(f->order[i], i);
}

static void one_that_hangs_holds_up_its_own_key_alone(void **state)
{
        struct fixture *f = *state;

        submit(f, 1, 0, true);
        await_running(f, 1);
        submit(f, 1, 9, false);
        submit(f, 2, 1, false);
        submit(f, 0, 2, false);
        while (f->done < 2)
                uv_run(&f->loop, UV_RUN_ONCE);
        assert_int_equal(lane_pending(f->lane), 2);
        let_all_end(f);
        run_until_done(f, 4);
        assert_int_equal(f->order[3], 9);
}

static void threads_are_bounded_and_the_rest_waits_for_one(void **state)
{
        struct fixture *f = *state;
        int i;

        for (i = 0; i < 3 * THREADS; i++)
                submit(f, 0, i, true);
        await_running(f, THREADS);
        let_all_end(f);
        run_until_done(f, 3 * THREADS);
        assert_int_equal(f->most_running, THREADS);
}

/* Four threads: a quarter is one. */
static void one_user_keeps_no_more_than_a_quarter_of_the_threads(void **state)
{
        struct fixture *f = *state;
        int i;

        for (i = 0; i < 3 * THREADS; i++)
                submit_of(f, 1000, (uint64_t)i + 1, i, true);
        await_running(f, 1);
        submit_of(f, 1001, 0, 20, false);
        submit(f, 0, 21, false);
        while (f->done < 2)
                uv_run(&f->loop, UV_RUN_ONCE);
        assert_int_equal(f->running, 1);
        let_all_end(f);
        run_until_done(f, 3 * THREADS + 2);
        for (i = 0; i < 3 * THREADS; i++)       /* the first, those of the others in some order, and the rest of his one by one */
                assert_int_equal(f->order[i == 0 ? 0 : i + 2], i);
}

static void at_the_end_nothing_more_is_reported_and_nothing_is_lost(void **state)
{
        struct fixture *f = *state;
        int i;

        submit(f, 1, 0, true);
        await_running(f, 1);
        for (i = 1; i < 6; i++)
                submit(f, 1, i, false);
        let_all_end(f);         /* however many of them still run: the loop does not turn before the end */
        lane_destroy(f->lane);
        f->lane = NULL;
        assert_int_equal(f->done, 0);
        assert_int_equal(f->dropped, 6);
}

#define WITH_LANE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                WITH_LANE(jobs_of_one_key_run_one_by_one_in_their_order),
                WITH_LANE(one_that_hangs_holds_up_its_own_key_alone),
                WITH_LANE(threads_are_bounded_and_the_rest_waits_for_one),
                WITH_LANE(one_user_keeps_no_more_than_a_quarter_of_the_threads),
                WITH_LANE(at_the_end_nothing_more_is_reported_and_nothing_is_lost),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
