/* libportalock in an event loop: nothing waits, callbacks tell. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "client_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

/* One turn of a loop over both sessions, as a program would write it. */
static void turn(struct fixture *f)
{
        portalock_session *sessions[2] = {f->a, f->b};
        int64_t timeout = 20000, t;
        struct pollfd p[2];
        int i;

        for (i = 0; i < 2; i++) {
                p[i] = (struct pollfd){.fd = portalock_fd(sessions[i]), .events = POLLIN};
                if ((portalock_events(sessions[i]) & PORTALOCK_WRITABLE) != 0)
                        p[i].events |= POLLOUT;
                t = portalock_timeout(sessions[i]);
                if (t >= 0 && t < timeout)
                        timeout = t;
        }
        assert_true(poll(p, 2, (int)timeout) >= 0);
        for (i = 0; i < 2; i++)
                (void)portalock_process(sessions[i]);
}

struct result {
        int count, code;
        portalock_file *file;
};

static void on_done(void *arg, portalock_file *f, int code)
{
        struct result *r = arg;

        r->count++;
        r->code = code;
        r->file = f;
}

static int wait_for(struct fixture *f, struct result *r)
{
        while (r->count == 0)
                turn(f);
        assert_int_equal(r->count, 1);
        return r->code;
}

static void a_lock_is_reported_and_its_successor_too(void **state)
{
        struct fixture *f = *state;
        portalock_file *a = open_file(f->a, f->path), *b = open_file(f->b, f->path);
        struct result ra = {0}, rb = {0}, ua = {0}, ub = {0};

        assert_int_equal(portalock_lock_start(a, PORTALOCK_EX, -1, on_done, &ra), 0);
        assert_int_equal(ra.count, 0);  /* never within the call */
        assert_int_equal(wait_for(f, &ra), 0);
        assert_ptr_equal(ra.file, a);
        assert_int_equal(portalock_mode(a), PORTALOCK_EX);
        assert_int_equal(portalock_lock_start(b, PORTALOCK_SH, -1, on_done, &rb), 0);
        assert_int_equal(portalock_lock_start(b, PORTALOCK_SH, -1, on_done, &rb), PORTALOCK_E_ARGUMENT);
        assert_int_equal(portalock_unlock_start(a, on_done, &ua), 0);
        assert_int_equal(portalock_mode(a), 0);
        assert_int_equal(wait_for(f, &ua), 0);
        assert_int_equal(wait_for(f, &rb), 0);
        assert_int_equal(portalock_mode(b), PORTALOCK_SH);
        ua.count = 0;
        assert_int_equal(portalock_unlock_start(a, on_done, &ua), 0);   /* not locked: no error, and reported like any other */
        assert_int_equal(ua.count, 0);
        assert_int_equal(wait_for(f, &ua), 0);
        assert_int_equal(portalock_unlock_start(b, on_done, &ub), 0);
        assert_int_equal(wait_for(f, &ub), 0);
        portalock_close(a);
        portalock_close(b);
}

static void a_hundred_wait_at_once_in_one_session(void **state)
{
        enum { COUNT = 100 };
        struct fixture *f = *state;
        portalock_file *theirs = open_file(f->b, f->path), *ours[COUNT];
        struct result r[COUNT] = {{0}};
        int i;

        portalock_disconnect(f->a);
        assert_int_equal(portalock_connect("loop", PORTALOCK_CONNECT_CONCURRENT, &f->a), 0);
        assert_int_equal(portalock_lock(theirs, PORTALOCK_EX, -1), 0);
        for (i = 0; i < COUNT; i++) {
                ours[i] = open_file(f->a, f->path);
                assert_int_equal(portalock_lock_start(ours[i], PORTALOCK_EX, -1, on_done, &r[i]), 0);
        }
        assert_int_equal(portalock_unlock(theirs), 0);
        for (i = 0; i < COUNT; i++) {
                assert_int_equal(wait_for(f, &r[i]), 0);
                if (i + 1 < COUNT)
                        assert_int_equal(r[i + 1].count, 0);    /* in the order of asking, one at a time */
                portalock_close(ours[i]);
        }
        portalock_close(theirs);
}

static void a_request_can_be_taken_back(void **state)
{
        struct fixture *f = *state;
        portalock_file *theirs = open_file(f->b, f->path), *ours = open_file(f->a, f->path);
        struct result r = {0};

        assert_int_equal(portalock_lock_cancel(ours), 0);       /* nothing to take back */
        assert_int_equal(portalock_lock(theirs, PORTALOCK_EX, -1), 0);
        assert_int_equal(portalock_lock_start(ours, PORTALOCK_EX, -1, on_done, &r), 0);
        assert_int_equal(portalock_lock_cancel(ours), 0);
        assert_int_equal(portalock_lock_cancel(ours), 0);       /* once is enough */
        assert_int_equal(wait_for(f, &r), PORTALOCK_E_CANCELLED);
        assert_int_equal(portalock_unlock(theirs), 0);
        assert_int_equal(portalock_lock(ours, PORTALOCK_EX | PORTALOCK_NB, -1), 0);
        portalock_close(ours);
        portalock_close(theirs);
}

static void a_file_closed_while_it_waits_is_not_reported_and_leaves_nothing(void **state)
{
        struct fixture *f = *state;
        portalock_file *theirs = open_file(f->b, f->path), *ours = open_file(f->a, f->path);
        struct result r = {0};

        assert_int_equal(portalock_lock(theirs, PORTALOCK_EX, -1), 0);
        assert_int_equal(portalock_lock_start(ours, PORTALOCK_EX, -1, on_done, &r), 0);
        portalock_close(ours);
        assert_int_equal(portalock_unlock(theirs), 0);
        portalock_close(theirs);
        assert_int_equal(r.count, 0);
        assert_true(is_free(f->path));
}

static void a_file_closed_as_it_is_granted_leaves_nothing(void **state)
{
        struct fixture *f = *state;
        portalock_file *ours;
        struct result r = {0};
        int i;

        for (i = 0; i < 200; i++) {     /* the grant is on its way, or already here, unread */
                ours = open_file(f->a, f->path);
                assert_int_equal(portalock_lock_start(ours, PORTALOCK_EX, -1, on_done, &r), 0);
                portalock_close(ours);
                assert_int_equal(r.count, 0);
        }
        ours = open_file(f->b, f->path);
        assert_int_equal(portalock_lock(ours, PORTALOCK_EX, 10000), 0);
        portalock_close(ours);
}

struct seen {
        int waiting, lost, holders;
        int64_t position;
        portalock_file *file;
        char client[64], by[64];
};

static void on_waiting(void *arg, portalock_file *file, int64_t position, const struct portalock_holder *holders, int count)
{
        struct seen *s = arg;

        s->waiting++;
        s->file = file;
        s->position = position;
        s->holders = count;
        snprintf(s->client, sizeof s->client, "%s", count > 0 ? holders[0].client : "");
}

static void on_lost(void *arg, portalock_file *file, const char *by)
{
        struct seen *s = arg;

        s->lost++;
        s->file = file;
        snprintf(s->by, sizeof s->by, "%s", by);
}

static void a_waiter_hears_of_its_place_and_of_who_holds(void **state)
{
        struct fixture *f = *state;
        portalock_file *theirs = open_file(f->b, f->path), *ours = open_file(f->a, f->path);
        struct portalock_callbacks callbacks = {.waiting = on_waiting};
        struct result r = {0};
        struct seen seen = {0};

        portalock_set_callbacks(f->a, &callbacks, &seen);
        assert_int_equal(portalock_lock(theirs, PORTALOCK_EX, -1), 0);
        assert_int_equal(portalock_lock_start(ours, PORTALOCK_SH, -1, on_done, &r), 0);
        while (seen.waiting == 0)
                turn(f);
        assert_int_equal(r.count, 0);
        assert_ptr_equal(seen.file, ours);
        assert_int_equal(seen.position, 1);
        assert_int_equal(seen.holders, 1);
        assert_string_equal(seen.client, "second");
        portalock_close(theirs);
        assert_int_equal(wait_for(f, &r), 0);
        portalock_close(ours);
}

static void an_upgrade_that_an_outsider_overtakes_is_lost_and_told(void **state)
{
        struct fixture *f = *state;
        struct portalock_callbacks callbacks = {.lost = on_lost};
        portalock_file *ours = open_file(f->a, f->path);
        struct seen seen = {0};
        int fd;

        /* The kernel's lock is taken away behind the daemon's back: the upgrade finds an outsider in its place. */
        portalock_set_callbacks(f->a, &callbacks, &seen);
        assert_int_equal(portalock_lock(ours, PORTALOCK_SH, -1), 0);
        assert_int_equal(flock(portalock_file_fd(ours), LOCK_UN), 0);
        fd = open(f->path, O_RDONLY);
        assert_int_equal(flock(fd, LOCK_EX), 0);
        assert_int_equal(portalock_lock(ours, PORTALOCK_EX, 5000), PORTALOCK_E_LOST);
        assert_int_equal(portalock_mode(ours), 0);
        close(fd);
        assert_int_equal(portalock_lock(ours, PORTALOCK_EX, 5000), 0);
        portalock_close(ours);
}

struct called {
        int count, result;
        char json[256];
};

static void on_called(void *arg, int result, const char *json)
{
        struct called *c = arg;

        c->count++;
        c->result = result;
        snprintf(c->json, sizeof c->json, "%s", json != NULL ? json : "NULL");
}

static void any_method_can_be_called(void **state)
{
        struct fixture *f = *state;
        struct called good = {0}, bad = {0}, none = {0};

        assert_int_equal(portalock_call(f->a, "list", "{\"outside\":false}", on_called, &good), 0);
        assert_int_equal(portalock_call(f->a, "list", "{\"limit\":0}", on_called, &bad), 0);
        assert_int_equal(portalock_call(f->a, "list", "[]", on_called, &none), PORTALOCK_E_ARGUMENT);
        assert_int_equal(portalock_call(f->a, "list", "{", on_called, &none), PORTALOCK_E_ARGUMENT);
        while (good.count == 0 || bad.count == 0)
                turn(f);
        assert_int_equal(good.result, 0);
        assert_string_equal(good.json, "{\"locks\":[]}");
        assert_int_equal(bad.result, PORTALOCK_E_PROTOCOL);
        assert_string_equal(bad.json, "NULL");
        assert_int_equal(none.count, 0);
}

/* Nothing is reported, and nothing stays behind: LeakSanitizer looks. */
static void what_is_under_way_at_the_end_of_a_session_goes_with_it(void **state)
{
        struct fixture *f = *state;
        portalock_file *theirs = open_file(f->b, f->path), *locked, *waits, *idle;
        struct result r = {0};
        struct called c = {0};
        portalock_session *s;

        assert_int_equal(portalock_lock(theirs, PORTALOCK_SH, -1), 0);
        assert_int_equal(portalock_connect("ends", PORTALOCK_CONNECT_CONCURRENT, &s), 0);
        locked = open_file(s, f->path);
        waits = open_file(s, f->path);
        idle = open_file(s, f->path);
        assert_int_equal(portalock_lock(locked, PORTALOCK_SH, -1), 0);
        assert_int_equal(portalock_lock_start(waits, PORTALOCK_EX, -1, on_done, &r), 0);
        assert_int_equal(portalock_unlock_start(locked, on_done, &r), 0);
        assert_int_equal(portalock_unlock_start(idle, on_done, &r), 0);
        assert_int_equal(portalock_call(s, "ping", NULL, on_called, &c), 0);
        portalock_close(locked);
        portalock_close(waits);
        portalock_close(idle);
        portalock_disconnect(s);
        assert_int_equal(r.count, 0);
        assert_int_equal(c.count, 0);
        portalock_close(theirs);
}

static void on_connected(void *arg, portalock_session *s, int result)
{
        struct result *r = arg;

        (void)s;
        r->count++;
        r->code = result;
}

static void connecting_does_not_wait_either(void **state)
{
        struct fixture *f = *state;
        struct result r = {0};
        portalock_file *file;

        /* A socket of its own, so that a daemon has to be started on the way. */
        portalock_disconnect(f->b);
        setenv("PORTALOCK_SOCKET", f->other_socket, 1);
        assert_int_equal(portalock_connect_start("third", PORTALOCK_CONNECT_CONCURRENT, on_connected, &r, &f->b), 0);
        assert_int_equal(portalock_open(f->b, f->path, &file), PORTALOCK_E_ARGUMENT);   /* not yet */
        assert_int_equal(wait_for(f, &r), 0);
        assert_true(portalock_session_id(f->b) > 0);
        assert_int_not_equal(portalock_daemon_pid(f->b), portalock_daemon_pid(f->a));
        file = open_file(f->b, f->path);
        assert_int_equal(portalock_lock(file, PORTALOCK_EX, 1000), 0);
        portalock_close(file);
        stop_daemon(f->other_socket);
        setenv("PORTALOCK_SOCKET", f->socket, 1);
}

static void a_file_may_be_opened_while_the_daemon_is_greeted_and_not_locked_yet(void **state)
{
        struct fixture *f = *state;
        pid_t daemon = (pid_t)portalock_daemon_pid(f->a);
        struct result r = {0}, locked = {0};
        portalock_file *file, *attached;
        int fd;

        portalock_disconnect(f->b);
        assert_int_equal(kill(daemon, SIGSTOP), 0);
        assert_int_equal(portalock_connect_start("early", 0, on_connected, &r, &f->b), 0);
        assert_int_equal(portalock_open(f->b, f->path, &file), PORTALOCK_E_ARGUMENT);   /* nobody is there yet */
        assert_int_equal(portalock_process(f->b), 0);
        assert_int_equal(portalock_daemon_pid(f->b), daemon);
        file = open_file(f->b, f->path);
        fd = open(f->path, O_RDONLY | O_CLOEXEC);
        assert_int_equal(portalock_attach(f->b, fd, &attached), 0);
        assert_int_equal(portalock_lock_start(file, PORTALOCK_EX, -1, on_done, &locked), PORTALOCK_E_ARGUMENT);
        assert_int_equal(portalock_unlock_start(file, on_done, &locked), PORTALOCK_E_ARGUMENT);
        assert_int_equal(r.count, 0);
        portalock_close(attached);
        close(fd);
        assert_int_equal(kill(daemon, SIGCONT), 0);
        assert_int_equal(wait_for(f, &r), 0);
        assert_int_equal(portalock_lock(file, PORTALOCK_EX, -1), 0);
        portalock_close(file);
}

static void connecting_to_nobody_is_reported(void **state)
{
        struct fixture *f = *state;
        struct result r = {0};
        portalock_session *a = f->a;

        setenv("PORTALOCK_SOCKET", f->other_socket, 1);
        assert_int_equal(portalock_connect_start(NULL, PORTALOCK_CONNECT_NO_SPAWN, on_connected, &r, &f->a), 0);
        assert_int_equal(wait_for(f, &r), PORTALOCK_E_NO_DAEMON);
        assert_int_equal(portalock_error(f->a)->os_errno, ENOENT);
        assert_int_equal(portalock_process(f->a), PORTALOCK_E_NO_DAEMON);
        assert_int_equal(portalock_timeout(f->a), -1);
        assert_int_equal(portalock_fd(f->a), -1);
        portalock_disconnect(f->a);
        f->a = a;
        setenv("PORTALOCK_SOCKET", f->socket, 1);
}

static void when_the_daemon_dies_everything_under_way_is_told_so(void **state)
{
        struct fixture *f = *state;
        portalock_file *theirs = open_file(f->b, f->path), *ours = open_file(f->a, f->path);
        struct result r = {0};
        struct called c = {0};

        assert_int_equal(portalock_lock(theirs, PORTALOCK_EX, -1), 0);
        assert_int_equal(portalock_lock_start(ours, PORTALOCK_EX, -1, on_done, &r), 0);
        kill((pid_t)portalock_daemon_pid(f->a), SIGSTOP);
        assert_int_equal(portalock_call(f->a, "ping", NULL, on_called, &c), 0);
        kill((pid_t)portalock_daemon_pid(f->a), SIGKILL);
        assert_int_equal(wait_for(f, &r), PORTALOCK_E_CONNECTION);
        assert_int_equal(c.count, 1);
        assert_int_equal(c.result, PORTALOCK_E_CONNECTION);
        assert_int_equal(portalock_process(f->a), PORTALOCK_E_CONNECTION);
        assert_int_equal(portalock_lock_start(ours, PORTALOCK_EX, -1, on_done, &r), PORTALOCK_E_CONNECTION);
        assert_false(is_free(f->path)); /* theirs still bears the kernel's lock */
        portalock_close(ours);
        portalock_close(theirs);
        assert_true(is_free(f->path));
}

static void an_attached_descriptor_stays_the_callers(void **state)
{
        struct fixture *f = *state;
        int fd = open(f->path, O_RDWR | O_CREAT, 0666);
        portalock_file *file;

        assert_int_equal(portalock_attach(f->a, -1, &file), PORTALOCK_E_ARGUMENT);
        assert_int_equal(portalock_attach(f->a, fd, &file), 0);
        assert_int_equal(portalock_file_fd(file), fd);
        assert_int_equal(portalock_lock(file, PORTALOCK_EX, -1), 0);
        assert_false(is_free(f->path));
        portalock_close(file);
        assert_false(is_free(f->path)); /* the descriptor is open and bears it */
        assert_int_equal(portalock_attach(f->b, fd, &file), 0);
        assert_int_equal(portalock_lock(file, PORTALOCK_EX, 1000), 0);  /* found, not waited for */
        assert_int_equal(portalock_unlock(file), 0);
        assert_true(is_free(f->path));
        portalock_close(file);
        assert_int_equal(write(fd, "x", 1), 1);
        close(fd);
}

static void a_descriptor_is_locked_in_one_call(void **state)
{
        struct fixture *f = *state;
        int fd = open(f->path, O_RDWR | O_CREAT, 0666), other = open(f->path, O_RDWR);

        assert_int_equal(portalock_lock_fd(fd, 0), PORTALOCK_E_ARGUMENT);
        assert_int_equal(portalock_lock_fd(-1, PORTALOCK_EX), PORTALOCK_E_ARGUMENT);
        assert_int_equal(portalock_lock_fd(fd, PORTALOCK_EX), 0);
        assert_int_equal(portalock_lock_fd(fd, PORTALOCK_EX), 0);       /* the recipe's relock */
        assert_int_equal(portalock_lock_fd(other, PORTALOCK_SH | PORTALOCK_NB), PORTALOCK_E_LOCK_FAILED);
        assert_int_equal(portalock_lock_fd(fd, PORTALOCK_SH), 0);
        assert_int_equal(portalock_lock_fd(other, PORTALOCK_SH | PORTALOCK_NB), 0);
        assert_int_equal(portalock_unlock_fd(other), 0);
        assert_int_equal(portalock_unlock_fd(other), 0);        /* unlock of the unlocked is no error */
        close(fd);
        assert_true(is_free(f->path));
        errno = 0;
        assert_int_equal(portalock_unlock_fd(fd), PORTALOCK_E_OS);
        assert_int_equal(errno, EBADF);
        close(other);
}

static void every_code_has_a_sentence(void **state)
{
        int code;

        (void)state;
        for (code = PORTALOCK_E_NOT_FOUND; code <= 0; code++)
                assert_string_not_equal(portalock_strerror(code), "unknown error");
        for (code = PORTALOCK_E_FORKED; code <= PORTALOCK_E_NO_DAEMON; code++)
                assert_string_not_equal(portalock_strerror(code), "unknown error");
        assert_string_equal(portalock_strerror(-50), "unknown error");
        assert_string_equal(portalock_strerror(1), "unknown error");
}

static void a_timeout_beyond_all_bounds_is_for_ever(void **state)
{
        struct fixture *f = *state;
        portalock_file *theirs = open_file(f->b, f->path), *ours = open_file(f->a, f->path);
        struct result r = {0};

        assert_int_equal(portalock_lock(theirs, PORTALOCK_EX, INT64_MAX), 0);
        assert_int_equal(portalock_lock_start(ours, PORTALOCK_EX, INT64_MAX - 1, on_done, &r), 0);
        portalock_close(theirs);
        assert_int_equal(wait_for(f, &r), 0);
        portalock_close(ours);
}

#define WITH_DAEMON(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                WITH_DAEMON(a_lock_is_reported_and_its_successor_too),
                WITH_DAEMON(a_hundred_wait_at_once_in_one_session),
                WITH_DAEMON(a_request_can_be_taken_back),
                WITH_DAEMON(a_file_closed_while_it_waits_is_not_reported_and_leaves_nothing),
                WITH_DAEMON(a_file_closed_as_it_is_granted_leaves_nothing),
                WITH_DAEMON(a_waiter_hears_of_its_place_and_of_who_holds),
                WITH_DAEMON(an_upgrade_that_an_outsider_overtakes_is_lost_and_told),
                WITH_DAEMON(any_method_can_be_called),
                WITH_DAEMON(what_is_under_way_at_the_end_of_a_session_goes_with_it),
                WITH_DAEMON(connecting_does_not_wait_either),
                WITH_DAEMON(a_file_may_be_opened_while_the_daemon_is_greeted_and_not_locked_yet),
                WITH_DAEMON(connecting_to_nobody_is_reported),
                cmocka_unit_test_setup_teardown(when_the_daemon_dies_everything_under_way_is_told_so, set_up_without_reconnect, tear_down),
                WITH_DAEMON(an_attached_descriptor_stays_the_callers),
                WITH_DAEMON(a_descriptor_is_locked_in_one_call),
                WITH_DAEMON(a_timeout_beyond_all_bounds_is_for_ever),
                cmocka_unit_test(every_code_has_a_sentence),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
