/* The bound of the numbers: written ahead, believed only when whole, never in the loop's way. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "folder.h"
#include "lane.h"
#include "log.h"
#include "state.h"
#include "statefile.h"
#include "table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define CLOCK 1785000000000000ull       /* a summer day of 2026 */
#define SECOND 1000000ull
#define PATH_BYTES (FOLDER_PATH_MAX + 64)
#define NAME_OF_A "tokens-276270f9aac3f90b"     /* only to see that names do not change from one version to the next */

struct fixture {
        uv_loop_t loop;
        struct lane *lane;
        struct state *state;
        char base[FOLDER_PATH_MAX], folder[FOLDER_PATH_MAX + 16];
        unsigned holds;
        bool held, raised;
        uint64_t floor;
};

static void on_hold(void *arg, bool on)
{
        struct fixture *f = arg;

        assert_true(f->held != on);
        f->held = on;
        f->holds += on;
}

static void on_raise(void *arg, uint64_t floor)
{
        struct fixture *f = arg;

        f->raised = true;
        f->floor = floor;
}

static void start_at(struct fixture *f, const char *folder, uint64_t clock)
{
        struct state_options options = {.folder = folder, .socket = "/run/a", .hold = on_hold, .raise = on_raise, .arg = f};

        f->lane = lane_create(&f->loop, 1);
        assert_non_null(f->lane);
        f->holds = 0;
        f->state = state_create(&f->loop, f->lane, &options, clock);
        assert_non_null(f->state);
}

static void start(struct fixture *f, uint64_t clock)
{
        start_at(f, f->folder, clock);
}

static void await_written(struct fixture *f)
{
        while (state_is_busy(f->state))
                uv_run(&f->loop, UV_RUN_ONCE);
}

/* As when it is killed: what is under way does not get to its end. */
static void stop(struct fixture *f)
{
        state_destroy(f->state);
        lane_destroy(f->lane);
        f->state = NULL;
        f->held = false;
        uv_run(&f->loop, UV_RUN_DEFAULT);
}

static void path_of_file(const struct fixture *f, char out[PATH_BYTES])
{
        snprintf(out, PATH_BYTES, "%s/" NAME_OF_A, f->folder);
}

static void read_text(const struct fixture *f, char out[256])
{
        char path[PATH_BYTES];

        path_of_file(f, path);
        assert_true(file_get(path, out, 256) > 0);
}

static void write_text(const struct fixture *f, const char *text, size_t len)
{
        char path[PATH_BYTES];

        path_of_file(f, path);
        folder_make(f->folder);
        file_put(path, text, len);
}

static uint64_t bound(const struct fixture *f)
{
        char text[256];
        uint64_t n;

        read_text(f, text);
        assert_int_equal(sscanf(text, "portalock-bound 1 %" SCNu64 " ", &n), 1);
        return n;
}

/* A file with this bound, as a daemon has left it. */
static void leave(struct fixture *f, uint64_t n)
{
        char text[128];
        uint64_t sum = 14695981039346656037u;
        int i, len = snprintf(text, sizeof text, "portalock-bound 1 %" PRIu64, n);

        for (i = 0; i < len; i++)
                sum = (sum ^ (unsigned char)text[i]) * 1099511628211u;
        len += snprintf(text + len, sizeof text - (size_t)len, " %016" PRIx64 "\n", sum);
        write_text(f, text, (size_t)len);
}

static uint64_t floor_found(struct fixture *f)
{
        uint64_t floor;

        start(f, CLOCK);
        floor = state_floor(f->state);
        stop(f);
        return floor;
}

static int set_up_state(void **state)
{
        struct fixture *f = calloc(1, sizeof *f);

        assert_non_null(f);
        folder_create(f->base);
        snprintf(f->folder, sizeof f->folder, "%s/state", f->base);
        uv_loop_init(&f->loop);
        log_set_level(LOG_ERROR);
        *state = f;
        return 0;
}

static int tear_down_state(void **state)
{
        struct fixture *f = *state;

        if (f->state != NULL)
                stop(f);
        assert_int_equal(uv_loop_close(&f->loop), 0);
        folder_remove(f->base);
        free(f);
        return 0;
}

static void a_bound_stands_in_the_file_before_the_first_number_is_drawn(void **state)
{
        struct fixture *f = *state;

        start(f, CLOCK);
        assert_int_equal(state_floor(f->state), 0);
        assert_int_equal(bound(f), CLOCK + 10 * SECOND);
}

static void after_a_kill_and_a_clock_set_back_numbers_begin_above_the_bound(void **state)
{
        struct fixture *f = *state;

        start(f, CLOCK);
        stop(f);
        start(f, CLOCK - 3600 * SECOND);
        assert_int_equal(state_floor(f->state), CLOCK + 10 * SECOND);
        assert_true(bound(f) > CLOCK + 10 * SECOND);
}

static void a_new_bound_is_written_when_half_of_the_way_is_used_up_and_nobody_waits_for_it(void **state)
{
        struct fixture *f = *state;

        start(f, CLOCK);
        state_drawn(f->state, CLOCK + 5 * SECOND, CLOCK + 5 * SECOND);
        assert_false(state_is_busy(f->state));
        state_drawn(f->state, CLOCK + 5 * SECOND + 1, CLOCK + 5 * SECOND + 1);
        assert_true(state_is_busy(f->state));
        state_drawn(f->state, CLOCK + 9 * SECOND, CLOCK + 9 * SECOND);
        await_written(f);
        assert_int_equal(bound(f), CLOCK + 15 * SECOND + 1);
        state_drawn(f->state, CLOCK + 11 * SECOND, CLOCK + 11 * SECOND);
        assert_int_equal(f->holds, 0);
}

static void what_exceeds_the_bound_is_held_back_until_the_file_says_so(void **state)
{
        struct fixture *f = *state;

        start(f, CLOCK);
        state_drawn(f->state, CLOCK + 60 * SECOND, CLOCK + 60 * SECOND);
        assert_true(f->held);
        state_drawn(f->state, CLOCK + 61 * SECOND, CLOCK + 61 * SECOND);
        while (f->held)
                uv_run(&f->loop, UV_RUN_ONCE);
        assert_true(bound(f) >= CLOCK + 61 * SECOND);
        assert_int_equal(f->holds, 1);
}

static void a_bound_that_was_outrun_while_it_was_written_holds_on(void **state)
{
        struct fixture *f = *state;

        start(f, CLOCK);
        state_drawn(f->state, CLOCK + 60 * SECOND, CLOCK + 60 * SECOND);
        state_drawn(f->state, CLOCK + 3600 * SECOND, CLOCK + 3600 * SECOND);    /* the clock jumps */
        while (f->held)
                uv_run(&f->loop, UV_RUN_ONCE);
        assert_int_equal(bound(f), CLOCK + 3610 * SECOND);
        assert_int_equal(f->holds, 1);
}

static void an_orderly_end_leaves_the_last_number(void **state)
{
        struct fixture *f = *state;

        start(f, CLOCK);
        state_drawn(f->state, CLOCK + 7, CLOCK + 7);
        state_finish(f->state);
        await_written(f);
        assert_int_equal(bound(f), CLOCK + 7);
        state_finish(f->state);
        assert_false(state_is_busy(f->state));
        /* Should one be drawn all the same, it is not seen before the file says so. */
        state_drawn(f->state, CLOCK + 8, CLOCK + 8);
        assert_true(f->held);
        await_written(f);
        assert_false(f->held);
        assert_true(bound(f) > CLOCK + 8);
}

static void a_number_drawn_while_the_last_is_written_is_not_lost(void **state)
{
        struct fixture *f = *state;

        start(f, CLOCK);
        state_drawn(f->state, CLOCK + 7, CLOCK + 7);
        state_finish(f->state);
        state_drawn(f->state, CLOCK + 8, CLOCK + 8);
        assert_true(f->held);
        await_written(f);
        assert_true(bound(f) >= CLOCK + 8);
}

static void without_a_number_the_end_leaves_what_it_found(void **state)
{
        struct fixture *f = *state;

        leave(f, CLOCK - 77);
        start(f, CLOCK);
        state_finish(f->state);
        await_written(f);
        assert_int_equal(bound(f), CLOCK - 77);
}

static void killed_in_a_loop_it_does_not_run_away_from_the_clock(void **state)
{
        struct fixture *f = *state;
        uint64_t before = 0;
        int i;

        for (i = 0; i < 50; i++) {
                start(f, CLOCK);
                assert_true(state_floor(f->state) > before || i == 0);
                before = state_floor(f->state);
                state_drawn(f->state, before + 1 > CLOCK ? before + 1 : CLOCK, CLOCK);
                stop(f);
        }
        assert_true(bound(f) <= CLOCK + 10 * SECOND + 50 * SECOND);
}

static void what_is_not_whole_is_not_believed(void **state)
{
        struct fixture *f = *state;
        char text[256], broken[256];
        size_t i, len;

        leave(f, CLOCK + 1);
        read_text(f, text);
        len = strlen(text);
        assert_int_equal(floor_found(f), CLOCK + 1);
        for (i = 0; i < len; i++) {
                write_text(f, text, i);
                assert_int_equal(floor_found(f), 0);
                memcpy(broken, text, len);
                broken[i] = (char)(broken[i] ^ 1);
                write_text(f, broken, len);
                assert_int_equal(floor_found(f), 0);
                broken[i] = '\0';
                write_text(f, broken, len);
                assert_int_equal(floor_found(f), 0);
        }
        memcpy(broken, text, len);
        broken[len] = '\n';
        write_text(f, broken, len + 1);
        assert_int_equal(floor_found(f), 0);
        memset(broken, '9', sizeof broken);
        for (i = 0; i < 3; i++)
                write_text(f, broken, sizeof broken);
        assert_int_equal(floor_found(f), 0);
        /* And it has been replaced by a whole one each time. */
        assert_int_equal(floor_found(f), CLOCK + 10 * SECOND);
}

static void a_far_future_is_minded_but_the_end_of_all_numbers_is_not(void **state)
{
        struct fixture *f = *state;
        const uint64_t end = UINT64_C(1) << 53, near_end = end - (UINT64_C(1) << 40);

        leave(f, CLOCK + 14 * 365 * 86400 * SECOND);
        assert_int_equal(floor_found(f), CLOCK + 14 * 365 * 86400 * SECOND);
        leave(f, near_end - 1);
        assert_int_equal(floor_found(f), near_end - 1);
        leave(f, near_end);
        assert_int_equal(floor_found(f), 0);
        leave(f, end - 1);
        assert_int_equal(floor_found(f), 0);
        leave(f, UINT64_MAX);
        assert_int_equal(floor_found(f), 0);
        leave(f, 0);
        assert_int_equal(floor_found(f), 0);
}

static void a_clock_beyond_its_limit_does_not_use_up_the_numbers(void **state)
{
        struct table *t = table_create();
        uint64_t a, b;

        (void)state;
        assert_non_null(t);
        a = table_next_number(t, UINT64_MAX);
        b = table_next_number(t, UINT64_MAX);
        assert_int_equal(a, TABLE_CLOCK_MAX);
        assert_int_equal(b, a + 1);
        assert_true(TABLE_NUMBER_MAX - b > (UINT64_C(1) << 40));
        table_raise_numbers(t, b + 10);
        assert_int_equal(table_next_number(t, 5), b + 11);
        table_raise_numbers(t, 3);
        assert_int_equal(table_last_number(t), b + 11);
        table_destroy(t);
}

static void whatever_else_bears_its_name_is_left_alone(void **state)
{
        struct fixture *f = *state;
        char path[PATH_BYTES], below[PATH_BYTES + 16], text[8];

        folder_make(f->folder);
        path_of_file(f, path);
        folder_make(path);
        snprintf(below, sizeof below, "%s/other", path);
        file_put(below, "keep me", 7);
        start(f, CLOCK);
        assert_int_equal(state_floor(f->state), 0);
        state_drawn(f->state, CLOCK + 100 * SECOND, CLOCK + 100 * SECOND);
        assert_false(f->held);  /* it is of no use to wait */
        stop(f);
        assert_int_equal(file_get(below, text, sizeof text), 7);
        assert_string_equal(text, "keep me");
        assert_int_equal(folder_count(f->folder), 1);
}

static void what_a_killed_writer_left_is_in_nobodys_way(void **state)
{
        struct fixture *f = *state;
        char path[PATH_BYTES];

        leave(f, CLOCK + 1);
        path_of_file(f, path);
        strcat(path, ".new");
        file_put(path, "", 0);
        start(f, CLOCK);
        assert_int_equal(bound(f), CLOCK + 10 * SECOND);
        assert_int_equal(folder_count(f->folder), 1);
}

static void when_there_is_no_place_for_it_the_clock_carries(void **state)
{
        struct fixture *f = *state;
        char under_a_file[PATH_BYTES + 16], *long_path = malloc(6000);

        leave(f, CLOCK);
        path_of_file(f, under_a_file);
        strcat(under_a_file, "/state");
        memset(long_path, 'x', 5999);
        long_path[5999] = '\0';
        start_at(f, under_a_file, CLOCK);
        state_drawn(f->state, CLOCK + 100 * SECOND, CLOCK + 100 * SECOND);
        assert_false(f->held);
        state_finish(f->state);
        assert_false(state_is_busy(f->state));
        stop(f);
        start_at(f, long_path, CLOCK);
        state_drawn(f->state, CLOCK + 100 * SECOND, CLOCK + 100 * SECOND);
        state_finish(f->state);
        assert_false(f->held || state_is_busy(f->state));
        free(long_path);
}

/* A job that keeps the lane's one thread until it is let go. */
struct blocker {
        struct lane_job job;
        uv_sem_t go;
};

static void block(struct lane_job *job)
{
        uv_sem_wait(&((struct blocker *)job)->go);
}

static void unblocked(struct lane_job *job)
{
        (void)job;
}

static void a_disk_that_hangs_holds_for_a_moment_only(void **state)
{
        struct fixture *f = *state;
        struct blocker b = {.job = {.work = block, .done = unblocked}};
        uint64_t began;

        uv_sem_init(&b.go, 0);
        start(f, CLOCK);
        lane_submit(f->lane, &b.job);
        state_drawn(f->state, CLOCK + 60 * SECOND, CLOCK + 60 * SECOND);
        assert_true(f->held);
        began = uv_hrtime();
        while (f->held)
                uv_run(&f->loop, UV_RUN_ONCE);
        assert_true(uv_hrtime() - began >= 90000000);
        assert_true(state_is_busy(f->state));
        state_drawn(f->state, CLOCK + 90 * SECOND, CLOCK + 90 * SECOND);
        assert_false(f->held);          /* nobody waits for it a second time */
        uv_sem_post(&b.go);
        await_written(f);
        assert_true(bound(f) >= CLOCK + 90 * SECOND);
        state_drawn(f->state, CLOCK + 160 * SECOND, CLOCK + 160 * SECOND);
        assert_true(f->held);           /* but once it has been written, it counts again */
        await_written(f);
        uv_sem_destroy(&b.go);
}

static void a_start_goes_on_without_a_file_that_hangs_and_minds_it_later(void **state)
{
        struct fixture *f = *state;
        struct state_options options = {.folder = f->folder, .socket = "/run/a", .hold = on_hold, .raise = on_raise, .arg = f};
        struct blocker b = {.job = {.work = block, .done = unblocked}};

        leave(f, CLOCK + 1234);
        uv_sem_init(&b.go, 0);
        f->lane = lane_create(&f->loop, 1);
        lane_submit(f->lane, &b.job);
        f->state = state_create(&f->loop, f->lane, &options, CLOCK);
        assert_int_equal(state_floor(f->state), 0);
        assert_false(f->raised);
        state_drawn(f->state, CLOCK + 1, CLOCK + 1);
        assert_false(f->held);
        uv_sem_post(&b.go);
        await_written(f);
        assert_true(f->raised);
        assert_int_equal(f->floor, CLOCK + 1234);
        uv_sem_destroy(&b.go);
}

#define STATE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up_state, tear_down_state)

int main(void)
{
        const struct CMUnitTest tests[] = {
                STATE_TEST(a_bound_stands_in_the_file_before_the_first_number_is_drawn),
                STATE_TEST(after_a_kill_and_a_clock_set_back_numbers_begin_above_the_bound),
                STATE_TEST(a_new_bound_is_written_when_half_of_the_way_is_used_up_and_nobody_waits_for_it),
                STATE_TEST(what_exceeds_the_bound_is_held_back_until_the_file_says_so),
                STATE_TEST(a_bound_that_was_outrun_while_it_was_written_holds_on),
                STATE_TEST(an_orderly_end_leaves_the_last_number),
                STATE_TEST(a_number_drawn_while_the_last_is_written_is_not_lost),
                STATE_TEST(without_a_number_the_end_leaves_what_it_found),
                STATE_TEST(killed_in_a_loop_it_does_not_run_away_from_the_clock),
                STATE_TEST(what_is_not_whole_is_not_believed),
                STATE_TEST(a_far_future_is_minded_but_the_end_of_all_numbers_is_not),
                STATE_TEST(a_clock_beyond_its_limit_does_not_use_up_the_numbers),
                STATE_TEST(whatever_else_bears_its_name_is_left_alone),
                STATE_TEST(what_a_killed_writer_left_is_in_nobodys_way),
                STATE_TEST(when_there_is_no_place_for_it_the_clock_carries),
                STATE_TEST(a_disk_that_hangs_holds_for_a_moment_only),
                STATE_TEST(a_start_goes_on_without_a_file_that_hangs_and_minds_it_later),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
