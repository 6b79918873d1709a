/* libportalock without memory: every allocation fails in turn, and nothing worse happens than what portalock.h says. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "client_fixture.h"
#include "starve.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What may come of a call when memory is short: that it says so, or that it did without. Without memory for an answer the session ends. */
static bool is_honest(int e)
{
        return e == 0 || e == PORTALOCK_E_NO_MEMORY || e == PORTALOCK_E_CONNECTION;
}

typedef int action(struct fixture *f, portalock_session *s);

/* The action is done with the n-th allocation failing, for n = 1, 2, ... until none fails any more, each time in a fresh session. */
static void starve_all(struct fixture *f, action *act)
{
        portalock_session *s;
        bool failed = true;
        long n;
        int e;

        for (n = 1; failed; n++) {
                assert_true(n < 10000);
                assert_int_equal(portalock_connect("starved", 0, &s), 0);
                starve_at(n, false);
                e = act(f, s);
                failed = starve_end();
                assert_true(is_honest(e));
                if (!failed)
                        assert_int_equal(e, 0);
                portalock_disconnect(s);
        }
        assert_true(n > 2);
}

static int lock_and_unlock(struct fixture *f, portalock_session *s)
{
        portalock_file *file;
        int e = portalock_open(s, f->path, &file);

        if (e == 0)
                e = portalock_lock(file, PORTALOCK_EX, 5000);
        if (e == 0)
                e = portalock_lock(file, PORTALOCK_SH, 5000);
        if (e == 0)
                e = portalock_unlock(file);
        assert_true(e == 0 || portalock_error(s)->text[0] != '\0');
        portalock_close(file);
        return e;
}

static int list(struct fixture *f, portalock_session *s)
{
        const char *paths[] = {f->path};
        char *json;
        int e = portalock_list_json(s, paths, 1, &json);

        if (e == 0)
                assert_memory_equal(json, "{\"locks\":[{", 11);
        else
                assert_null(json);
        free(json);
        return e;
}

static int call(struct fixture *f, portalock_session *s)
{
        char *json;
        int e = portalock_call_wait(s, "list", "{\"limit\":5,\"outside\":false}", 5000, &json);

        (void)f;
        assert_int_equal(json != NULL, e == 0);
        free(json);
        return e;
}

static int watch(struct fixture *f, portalock_session *s)
{
        return portalock_watch(s, f->path);
}

static void on_done(void *arg, portalock_file *file, int result)
{
        (void)file;
        *(int *)arg = result;
}

static void on_waiting(void *arg, portalock_file *file, int64_t position, const struct portalock_holder *holders, int count)
{
        (void)file;
        assert_true(position > 0 && count >= 0 && (count == 0 || holders != NULL));
        ++*(int *)arg;
}

static void on_event(void *arg, const struct portalock_event *e)
{
        assert_true(e->event[0] != '\0' && e->json != NULL);
        ++*(int *)arg;
}

/* A lock that another has is waited for, with notices and events, and given up. */
static int wait_and_cancel(struct fixture *f, portalock_session *s)
{
        int told = 0, result = 1;
        const struct portalock_callbacks callbacks = {.waiting = on_waiting, .event = on_event};
        portalock_file *file = NULL;
        char *json = NULL;
        int e;

        portalock_set_callbacks(s, &callbacks, &told);
        e = portalock_watch(s, NULL);
        if (e == 0)
                e = portalock_open(s, f->path, &file);
        if (e == 0)
                e = portalock_lock_start(file, PORTALOCK_EX, -1, on_done, &result);
        if (e == 0)
                e = portalock_call_wait(s, "ping", NULL, 5000, &json);
        if (e == 0)
                e = portalock_lock_cancel(file);
        while (e == 0 && result == 1) {
                struct pollfd p = {.fd = portalock_fd(s), .events = (short)portalock_events(s)};

                (void)poll(&p, 1, (int)portalock_timeout(s));
                e = portalock_process(s);
        }
        if (e == 0 && result != PORTALOCK_E_CANCELLED)
                e = result;
        if (e == 0)
                assert_true(told >= 2);         /* that it waits, and the event */
        free(json);
        portalock_close(file);
        return e;
}

static void waiting_without_memory_says_so(void **state)
{
        struct fixture *f = *state;
        portalock_file *file = open_file(f->b, f->path);

        assert_int_equal(portalock_lock(file, PORTALOCK_EX, -1), 0);
        starve_all(f, wait_and_cancel);
        portalock_close(file);
        assert_true(is_free(f->path));
}

static void locking_without_memory_leaves_no_lock_behind(void **state)
{
        struct fixture *f = *state;
        portalock_file *file;

        starve_all(f, lock_and_unlock);
        file = open_file(f->a, f->path);
        assert_int_equal(portalock_lock(file, PORTALOCK_EX, 5000), 0);
        portalock_close(file);
        assert_true(is_free(f->path));
}

static void lists_and_calls_without_memory_say_so(void **state)
{
        struct fixture *f = *state;
        portalock_file *file = open_file(f->b, f->path);

        assert_int_equal(portalock_lock(file, PORTALOCK_EX, -1), 0);
        starve_all(f, list);
        starve_all(f, call);
        starve_all(f, watch);
        portalock_close(file);
}

static void connecting_without_memory_says_so(void **state)
{
        portalock_session *s;
        bool failed = true;
        long n;
        int e;

        (void)state;
        for (n = 1; failed; n++) {
                assert_true(n < 1000);
                starve_at(n, false);
                e = portalock_connect("starved", 0, &s);
                failed = starve_end();
                assert_true(is_honest(e));
                assert_true(s != NULL || e == PORTALOCK_E_NO_MEMORY);
                if (e != 0)
                        assert_true(portalock_error(s)->text[0] != '\0');
                portalock_disconnect(s);
        }
        assert_true(n > 2);
}

static void a_descriptor_without_memory(void **state)
{
        struct fixture *f = *state;
        int fd = open(f->path, O_RDWR | O_CREAT, 0666), e;
        bool failed = true;
        long n;

        for (n = 1; failed; n++) {
                assert_true(n < 1000);
                starve_at(n, false);
                e = portalock_lock_fd(fd, PORTALOCK_EX);
                failed = starve_end();
                assert_true(is_honest(e));
                assert_int_equal(portalock_unlock_fd(fd), 0);
        }
        close(fd);
        assert_true(is_free(f->path));
}

#define WITH_DAEMON(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                WITH_DAEMON(locking_without_memory_leaves_no_lock_behind),
                WITH_DAEMON(lists_and_calls_without_memory_say_so),
                WITH_DAEMON(waiting_without_memory_says_so),
                WITH_DAEMON(connecting_without_memory_says_so),
                WITH_DAEMON(a_descriptor_without_memory),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
