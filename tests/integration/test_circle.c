/* Deadlocks as libportalock tells them: the code, at once, and who waits for whom. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "client_fixture.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ms(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* 100 ms, or more under sanitizers. */
static int64_t at_once(void)
{
        const char *slow = getenv("PORTALOCK_SLOW");

        return 100 * (slow != NULL ? atoi(slow) : 1);
}

static portalock_file *locked(struct fixture *f, portalock_session *s, const char *name)
{
        char path[128];
        portalock_file *file;

        snprintf(path, sizeof path, "%s/%s", f->folder, name);
        file = open_file(s, path);
        assert_int_equal(portalock_lock(file, PORTALOCK_EX, -1), 0);
        return file;
}

struct wait {
        portalock_file *file;
        int done, result;
};

static void on_done(void *arg, portalock_file *file, int result)
{
        struct wait *w = arg;

        (void)file;
        w->done++;
        w->result = result;
}

static void count_waiting(void *arg, const struct portalock_row *r)
{
        *(int *)arg += strcmp(r->state, "waiting") == 0;
}

/* A request that waits: on return the daemon has queued it. */
static void begin_wait(struct fixture *f, portalock_session *s, portalock_session *other, const char *name, struct wait *w)
{
        char path[128];
        int waiting = 0;

        snprintf(path, sizeof path, "%s/%s", f->folder, name);
        w->file = open_file(s, path);
        assert_int_equal(portalock_lock_start(w->file, PORTALOCK_EX, -1, on_done, w), 0);
        while (waiting == 0) {
                assert_int_equal(portalock_process(s), 0);
                assert_int_equal(w->done, 0);
                assert_int_equal(portalock_list(other, (const char *[]){path}, 1, count_waiting, &waiting), 0);
        }
}

static void expect_step(const struct fixture *f, const struct portalock_cycle_step *step, const char *client, const char *name)
{
        char path[128];

        assert_int_equal(step->pid, getpid());
        assert_int_equal(step->uid, getuid());
        assert_string_equal(step->command, "test_circle");
        assert_string_equal(step->client, client);
        snprintf(path, sizeof path, "%s/%s", f->folder, name);
        assert_string_equal(step->path, name[0] != '\0' ? path : "");
        assert_int_equal(step->mode, name[0] != '\0' ? PORTALOCK_EX : 0);
}

static void three_in_a_circle(void **state)
{
        struct fixture *f = *state;
        const struct portalock_error_info *e;
        struct wait first = {0}, second = {0};
        portalock_session *c, *looks;
        portalock_file *x, *y, *z, *wanted;
        char path[128];
        int64_t began;

        assert_int_equal(portalock_connect("third", 0, &c), 0);
        assert_int_equal(portalock_connect("looks on", 0, &looks), 0);
        x = locked(f, f->a, "x");
        y = locked(f, f->b, "y");
        z = locked(f, c, "z");
        begin_wait(f, f->a, looks, "y", &first);
        begin_wait(f, f->b, looks, "z", &second);
        snprintf(path, sizeof path, "%s/x", f->folder);
        wanted = open_file(c, path);
        began = now_ms();
        assert_int_equal(portalock_lock(wanted, PORTALOCK_EX, 600000), PORTALOCK_E_DEADLOCK);
        assert_true(now_ms() - began < at_once());
        e = portalock_error(c);
        assert_int_equal(e->code, PORTALOCK_E_DEADLOCK);
        assert_int_equal(e->cycle_count, 3);
        expect_step(f, &e->cycle[0], "third", "x");
        expect_step(f, &e->cycle[1], "first", "y");
        expect_step(f, &e->cycle[2], "second", "z");
        assert_int_equal(portalock_lock(wanted, PORTALOCK_EX | PORTALOCK_NB, -1), PORTALOCK_E_LOCK_FAILED);
        assert_int_equal(portalock_error(c)->cycle_count, 0);
        assert_int_equal(portalock_mode(z), PORTALOCK_EX);
        assert_false(is_free(path));
        /* It gives up what it has, and all go on. */
        portalock_close(wanted);
        portalock_close(z);
        while (second.done == 0)
                assert_int_equal(portalock_process(f->b), 0);
        assert_int_equal(second.result, 0);
        portalock_close(second.file);
        portalock_close(y);
        while (first.done == 0)
                assert_int_equal(portalock_process(f->a), 0);
        assert_int_equal(first.result, 0);
        portalock_close(first.file);
        portalock_close(x);
        portalock_disconnect(c);
        portalock_disconnect(looks);
}

static portalock_session *run_under(const char *session)
{
        portalock_session *s;

        setenv("PORTALOCK_SESSION", session, 1);
        assert_int_equal(portalock_connect("below", 0, &s), 0);
        unsetenv("PORTALOCK_SESSION");
        return s;
}

static void what_runs_under_a_lock_and_asks_for_it(void **state)
{
        struct fixture *f = *state;
        static const char *const no_ids[] = {"", "0", "-1", "12x", " 1", "99999999999999999999999"};
        portalock_file *x = locked(f, f->a, "x"), *wanted;
        const struct portalock_error_info *e;
        portalock_session *below;
        char id[32], path[128];
        size_t i;

        snprintf(path, sizeof path, "%s/x", f->folder);
        snprintf(id, sizeof id, "%" PRId64, portalock_session_id(f->a));
        below = run_under(id);
        wanted = open_file(below, path);
        assert_int_equal(portalock_lock(wanted, PORTALOCK_EX, -1), PORTALOCK_E_DEADLOCK);
        e = portalock_error(below);
        assert_int_equal(e->cycle_count, 2);
        expect_step(f, &e->cycle[0], "below", "x");
        expect_step(f, &e->cycle[1], "first", "");
        portalock_close(wanted);
        portalock_disconnect(below);
        for (i = 0; i < sizeof no_ids / sizeof no_ids[0]; i++) {
                below = run_under(no_ids[i]);
                wanted = open_file(below, path);
                assert_int_equal(portalock_lock(wanted, PORTALOCK_EX, 20), PORTALOCK_E_TIMED_OUT);
                portalock_close(wanted);
                portalock_disconnect(below);
        }
        portalock_close(x);
}

#define WITH_DAEMON(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                WITH_DAEMON(three_in_a_circle),
                WITH_DAEMON(what_runs_under_a_lock_and_asks_for_it),
        };

        unsetenv("PORTALOCK_SESSION");
        return cmocka_run_group_tests(tests, NULL, NULL);
}
