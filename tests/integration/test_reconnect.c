/* libportalock when its daemon dies, is stopped, or ends in good order: what is held stays held, what waits keeps its place, what is lost is said to be. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "client_fixture.h"
#include "restarts.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

static void what_is_held_is_held_again_with_its_token(void **state)
{
        struct fixture *f = *state;
        portalock_file *file = open_file(f->a, f->path), *other = open_file(f->b, f->path);
        struct seen seen = {0};
        int64_t token, id = portalock_session_id(f->a), pid = portalock_daemon_pid(f->a);

        look(f->a, &seen);
        assert_int_equal(portalock_lock(file, PORTALOCK_EX, -1), 0);
        token = portalock_token(file);
        kill_daemon(f->a);
        assert_false(is_free(f->path));
        UNTIL(seen.back == 1, &f->a, 1);
        assert_int_equal(portalock_mode(file), PORTALOCK_EX);
        assert_int_equal(portalock_token(file), token);
        assert_int_equal(portalock_session_id(f->a), id);
        assert_true(portalock_daemon_pid(f->a) != pid);
        assert_int_equal(seen.gone, 1);
        assert_int_equal(seen.lost, 0);
        assert_int_equal(portalock_lock(other, PORTALOCK_EX | PORTALOCK_NB, -1), PORTALOCK_E_LOCK_FAILED);
        assert_int_equal(portalock_error(f->b)->holder_count, 1);
        assert_int_equal(portalock_error(f->b)->holders[0].pid, getpid());
        assert_string_equal(portalock_error(f->b)->holders[0].client, "first");
        assert_int_equal(portalock_unlock(file), 0);
        assert_int_equal(portalock_lock(other, PORTALOCK_EX | PORTALOCK_NB, -1), 0);
        assert_true(portalock_token(other) > token);
        portalock_close(file);
        portalock_close(other);
}

static void a_stop_in_good_order_is_no_different(void **state)
{
        struct fixture *f = *state;
        portalock_file *file = open_file(f->a, f->path), *other = open_file(f->b, f->path);
        portalock_session *both[] = {f->a, f->b};
        struct seen seen = {0};
        struct result r = {0};
        int64_t token;

        look(f->a, &seen);
        assert_int_equal(portalock_lock(file, PORTALOCK_SH, -1), 0);
        token = portalock_token(file);
        assert_int_equal(portalock_lock_start(other, PORTALOCK_EX, -1, on_done, &r), 0);
        while (waiting(f->a) != 1)
                turn(both, 2);
        kill((pid_t)portalock_daemon_pid(f->a), SIGTERM);
        UNTIL(seen.back == 1, both, 2);
        while (waiting(f->a) != 1)
                turn(both, 2);
        assert_int_equal(portalock_token(file), token);
        assert_int_equal(r.count + seen.lost, 0);
        assert_int_equal(portalock_unlock(file), 0);
        UNTIL(r.count == 1, both, 2);
        assert_int_equal(r.result, 0);
        portalock_close(file);
        portalock_close(other);
}

static void what_the_descriptor_bears_no_more_is_lost(void **state)
{
        struct fixture *f = *state;
        portalock_file *file = open_file(f->a, f->path);
        struct seen seen = {0};

        look(f->a, &seen);
        assert_int_equal(portalock_lock(file, PORTALOCK_SH, -1), 0);
        kill_daemon(f->a);
        assert_int_equal(flock(portalock_file_fd(file), LOCK_UN), 0);
        assert_int_equal(portalock_lock(file, PORTALOCK_EX, -1), PORTALOCK_E_LOST);    /* though it is free */
        assert_int_equal(portalock_error(f->a)->code, PORTALOCK_E_LOST);
        assert_int_equal(seen.lost, 1);
        assert_string_equal(seen.by, "reclaim");
        assert_int_equal(portalock_mode(file), 0);
        assert_true(is_free(f->path));
        assert_int_equal(portalock_lock(file, PORTALOCK_EX | PORTALOCK_NB, -1), 0);
        portalock_close(file);
}

static void what_was_broken_as_the_daemon_died_is_lost(void **state)
{
        struct fixture *f = *state;
        portalock_file *file = open_file(f->a, f->path);
        struct seen seen = {0};
        char params[64], *json, *lock;

        look(f->a, &seen);
        assert_int_equal(portalock_lock(file, PORTALOCK_EX, -1), 0);
        assert_int_equal(portalock_list_json(f->b, NULL, 0, &json), 0);
        lock = strstr(json, "\"lock\":");
        assert_non_null(lock);
        snprintf(params, sizeof params, "{%.*s}", (int)strcspn(lock, ",}"), lock);
        free(json);
        assert_int_equal(portalock_call_wait(f->b, "break", params, 10000, &json), 0);
        free(json);
        kill_daemon(f->b);
        /* The old daemon's word is in our socket: told once, by whichever comes first. */
        UNTIL(seen.lost > 0 && seen.back == 1, &f->a, 1);
        assert_int_equal(seen.lost, 1);
        assert_int_equal(portalock_mode(file), 0);
        portalock_close(file);
}

static void an_unlock_that_was_under_way_is_done(void **state)
{
        struct fixture *f = *state;
        portalock_file *file = open_file(f->a, f->path);
        struct result r = {0};
        pid_t pid = (pid_t)portalock_daemon_pid(f->a), child;
        int fd, status;

        assert_int_equal(portalock_lock(file, PORTALOCK_EX, -1), 0);
        fd = dup(portalock_file_fd(file));      /* somebody else has the description: closing alone would free nothing */
        kill(pid, SIGSTOP);
        assert_int_equal(portalock_unlock_start(file, on_done, &r), 0);
        kill_daemon(f->a);
        assert_false(is_free(f->path));
        UNTIL(r.count == 1, &f->a, 1);
        assert_int_equal(r.result, 0);
        assert_true(is_free(f->path));
        close(fd);
        /* In a child a session is of no use, also now. */
        child = fork();
        if (child == 0)
                _exit(portalock_process(f->a) == PORTALOCK_E_FORKED ? 0 : 1);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        portalock_close(file);
}

/* Two sessions hold by one description; one of them unlocks while the daemon dies. */
static void an_unlock_takes_nothing_from_a_co_holder(void **state)
{
        struct fixture *f = *state;
        int fd = open(f->path, O_RDWR | O_CREAT, 0666);
        portalock_session *both[] = {f->a, f->b};
        struct seen seen = {0};
        struct result r = {0};
        portalock_file *one, *two;

        look(f->b, &seen);
        assert_int_equal(portalock_attach(f->a, fd, &one), 0);
        assert_int_equal(portalock_attach(f->b, fd, &two), 0);
        assert_int_equal(portalock_lock(one, PORTALOCK_EX, -1), 0);
        assert_int_equal(portalock_lock(two, PORTALOCK_EX, -1), 0);
        kill_daemon(f->a);
        UNTIL(seen.back == 1, &f->b, 1);        /* the co-holder is back first */
        assert_int_equal(portalock_unlock_start(one, on_done, &r), 0);
        UNTIL(r.count == 1, both, 2);
        assert_int_equal(r.result, 0);
        assert_int_equal(portalock_mode(two), PORTALOCK_EX);
        assert_false(is_free(f->path));
        assert_int_equal(portalock_unlock(two), 0);
        assert_true(is_free(f->path));
        portalock_close(one);
        portalock_close(two);
        close(fd);
}

static void an_upgrade_that_was_under_way_is_asked_for_again(void **state)
{
        struct fixture *f = *state;
        portalock_file *file = open_file(f->a, f->path), *other = open_file(f->b, f->path);
        portalock_session *both[] = {f->a, f->b};
        struct result up = {0}, down = {0};
        struct seen a = {0}, b = {0};
        int64_t token;

        look(f->a, &a);
        look(f->b, &b);
        assert_int_equal(portalock_lock(file, PORTALOCK_SH, -1), 0);
        assert_int_equal(portalock_lock(other, PORTALOCK_SH, -1), 0);
        assert_int_equal(portalock_lock_start(file, PORTALOCK_EX, -1, on_done, &up), 0);
        while (waiting(f->b) != 1)
                turn(both, 2);
        kill_daemon(f->a);
        UNTIL(a.back == 1 && b.back == 1, both, 2);
        assert_int_equal(portalock_mode(file), PORTALOCK_SH);
        assert_int_equal(portalock_unlock(other), 0);
        UNTIL(up.count == 1, both, 2);
        assert_int_equal(up.result, 0);
        assert_int_equal(portalock_mode(file), PORTALOCK_EX);
        token = portalock_token(file);
        /* And down again; the daemon dies after it has done so, before its answer. */
        kill((pid_t)portalock_daemon_pid(f->a), SIGSTOP);
        assert_int_equal(portalock_lock_start(file, PORTALOCK_SH, -1, on_done, &down), 0);
        assert_int_equal(flock(portalock_file_fd(file), LOCK_SH), 0);
        kill_daemon(f->a);
        UNTIL(down.count == 1, both, 2);
        assert_int_equal(down.result, 0);
        assert_int_equal(portalock_token(file), token);
        assert_int_equal(portalock_lock(other, PORTALOCK_SH | PORTALOCK_NB, -1), 0);
        assert_int_equal(a.lost + b.lost, 0);
        portalock_close(file);
        portalock_close(other);
}

static void a_withdrawn_request_is_not_asked_again(void **state)
{
        struct fixture *f = *state;
        portalock_file *file = open_file(f->a, f->path), *other = open_file(f->b, f->path);
        portalock_session *both[] = {f->a, f->b};
        struct result r = {0}, later = {0};
        struct seen seen = {0};

        look(f->a, &seen);
        assert_int_equal(portalock_lock(other, PORTALOCK_EX, -1), 0);
        assert_int_equal(portalock_lock_start(file, PORTALOCK_EX, -1, on_done, &r), 0);
        kill((pid_t)portalock_daemon_pid(f->a), SIGSTOP);
        assert_int_equal(portalock_lock_cancel(file), 0);
        kill_daemon(f->a);
        UNTIL(r.count == 1, both, 2);
        assert_int_equal(r.result, PORTALOCK_E_CANCELLED);
        UNTIL(seen.back == 1, both, 2);
        kill_daemon(f->a);
        UNTIL(seen.gone == 2, &f->a, 1);
        assert_int_equal(portalock_lock_start(file, PORTALOCK_EX, -1, on_done, &later), 0); /* without a connection */
        assert_int_equal(portalock_lock_cancel(file), 0);
        assert_int_equal(later.count, 0);
        UNTIL(later.count == 1, both, 2);
        assert_int_equal(later.result, PORTALOCK_E_CANCELLED);
        portalock_close(other);
        UNTIL(is_free(f->path), &f->b, 1);     /* its claim may be under way: the daemon has a duplicate until it hears that it was in vain */
        portalock_close(file);
}

static void questions_are_asked_again_and_a_watch_goes_on(void **state)
{
        struct fixture *f = *state;
        portalock_file *file;
        struct seen seen = {0};
        char *json;

        look(f->a, &seen);
        assert_int_equal(portalock_watch(f->a, f->path), 0);
        kill_daemon(f->a);
        assert_int_equal(portalock_call_wait(f->a, "ping", NULL, 10000, &json), 0);
        free(json);
        assert_int_equal(portalock_list_json(f->a, NULL, 0, &json), 0);
        free(json);
        file = open_file(f->b, f->path);
        assert_int_equal(portalock_lock(file, PORTALOCK_EX, -1), 0);
        UNTIL(seen.events == 1, &f->a, 1);
        assert_string_equal(seen.event, "granted");
        portalock_close(file);
}

static void what_changes_something_is_not_repeated(void **state)
{
        struct fixture *f = *state;
        char *json;
        pid_t pid = (pid_t)portalock_daemon_pid(f->a), child;

        kill(pid, SIGSTOP);
        child = fork();
        if (child == 0) {
                poll(NULL, 0, 200);
                kill(pid, SIGKILL);
                _exit(0);
        }
        assert_int_equal(portalock_call_wait(f->a, "break", "{\"lock\":1}", 10000, &json), PORTALOCK_E_CONNECTION);
        assert_int_equal(waitpid(child, NULL, 0), child);
        assert_int_equal(portalock_call_wait(f->a, "break", "{\"lock\":1}", 10000, &json), PORTALOCK_E_NOT_FOUND);
}

static void without_a_daemon_it_keeps_what_it_holds_and_says_so(void **state)
{
        struct fixture *f = *state;
        portalock_file *file, *other;
        portalock_session *s;
        struct seen seen = {0};
        int64_t began;

        setenv("PORTALOCK_RECONNECT_MS", "300", 1);
        assert_int_equal(portalock_connect("third", PORTALOCK_CONNECT_NO_SPAWN, &s), 0);
        unsetenv("PORTALOCK_RECONNECT_MS");
        look(s, &seen);
        file = open_file(s, f->path);
        assert_int_equal(portalock_lock(file, PORTALOCK_EX, -1), 0);
        kill_daemon(s);
        began = now_ms();
        while (portalock_process(s) == 0)
                poll(NULL, 0, portalock_timeout(s) < 0 ? 10 : (int)portalock_timeout(s));
        assert_true(now_ms() - began >= 250 && now_ms() - began < 5000);
        assert_int_equal(portalock_error(s)->code == 0 ? portalock_process(s) : portalock_error(s)->code, PORTALOCK_E_CONNECTION);
        assert_int_equal(portalock_lock(file, PORTALOCK_EX, -1), PORTALOCK_E_CONNECTION);
        assert_non_null(strstr(portalock_error(s)->text, "stays locked"));
        assert_int_equal(portalock_mode(file), PORTALOCK_EX);
        assert_int_equal(seen.lost + seen.back, 0);
        other = open_file(f->b, f->path);
        assert_int_equal(portalock_lock(other, PORTALOCK_EX | PORTALOCK_NB, -1), PORTALOCK_E_LOCK_FAILED);      /* b starts one */
        portalock_close(file);
        portalock_disconnect(s);
        assert_int_equal(portalock_lock(other, PORTALOCK_EX, 10000), 0);
        portalock_close(other);
}

static void timeouts_hold_without_a_daemon(void **state)
{
        struct fixture *f = *state;
        portalock_file *file, *holder = open_file(f->b, f->path);
        portalock_session *s;
        int64_t began;

        assert_int_equal(portalock_connect("third", PORTALOCK_CONNECT_NO_SPAWN, &s), 0);
        file = open_file(s, f->path);
        assert_int_equal(portalock_lock(holder, PORTALOCK_EX, -1), 0);
        kill_daemon(s);
        began = now_ms();
        assert_int_equal(portalock_lock(file, PORTALOCK_EX, 200), PORTALOCK_E_TIMED_OUT);
        assert_true(now_ms() - began >= 200 && now_ms() - began < 1200);
        portalock_close(file);
        portalock_close(holder);
        assert_true(is_free(f->path));
        portalock_disconnect(s);
}

static void a_daemon_that_is_stopped_loses_nothing_and_leaves_no_ghost(void **state)
{
        struct fixture *f = *state;
        char second[128];
        portalock_file *held, *wanted, *other;
        struct seen seen = {0};
        pid_t pid = (pid_t)portalock_daemon_pid(f->a);
        int64_t token;

        snprintf(second, sizeof second, "%s.2", f->path);
        look(f->a, &seen);
        held = open_file(f->a, f->path);
        wanted = open_file(f->a, second);
        other = open_file(f->b, second);
        assert_int_equal(portalock_lock(held, PORTALOCK_EX, -1), 0);
        token = portalock_token(held);
        kill(pid, SIGSTOP);
        assert_int_equal(portalock_lock(wanted, PORTALOCK_EX, 50), PORTALOCK_E_TIMED_OUT);
        assert_int_equal(portalock_mode(held), PORTALOCK_EX);
        assert_int_equal(seen.gone, 1);
        kill(pid, SIGCONT);
        UNTIL(seen.back == 1, &f->a, 1);
        assert_int_equal(portalock_mode(held), PORTALOCK_EX);
        assert_int_equal(portalock_token(held), token);
        assert_int_equal(portalock_daemon_pid(f->a), pid);
        assert_int_equal(portalock_mode(wanted), 0);
        assert_int_equal(portalock_lock(other, PORTALOCK_EX, 10000), 0);
        assert_int_equal(seen.lost, 0);
        assert_false(is_free(f->path));
        portalock_close(held);
        portalock_close(wanted);
        portalock_close(other);
}

static void files_closed_meanwhile_leave_nothing(void **state)
{
        struct fixture *f = *state;
        portalock_file *files[8];
        struct result r[8] = {{0}};
        struct seen seen = {0};
        char *json, name[128];
        int i;

        look(f->a, &seen);
        for (i = 0; i < 8; i++) {
                snprintf(name, sizeof name, "%s.%d", f->path, i);
                files[i] = open_file(f->a, name);
                assert_int_equal(portalock_lock(files[i], PORTALOCK_EX, -1), 0);
        }
        kill_daemon(f->a);
        UNTIL(seen.gone == 1, &f->a, 1);
        portalock_close(files[0]);
        assert_int_equal(portalock_unlock_start(files[1], on_done, &r[1]), 0);
        portalock_close(files[1]);
        assert_int_equal(portalock_lock_start(files[2], PORTALOCK_SH, -1, on_done, &r[2]), 0);
        portalock_close(files[2]);
        while (portalock_fd(f->a) < 0 || portalock_session_id(f->a) == 0 || seen.back == 0) {
                (void)portalock_process(f->a);
                if (files[3] != NULL && portalock_fd(f->a) >= 0) {      /* perhaps while its claim is under way */
                        portalock_close(files[3]);
                        files[3] = NULL;
                }
        }
        assert_int_equal(portalock_call_wait(f->b, "stats", NULL, 10000, &json), 0);
        assert_non_null(strstr(json, "\"locks\":4,"));
        free(json);
        for (i = 4; i < 8; i++)
                portalock_close(files[i]);
        assert_int_equal(r[1].count + r[2].count, 0);
}

/* More than the library claims at a time, and the last ones are sent only when the first are answered. */
static void more_locks_than_are_claimed_at_a_time_all_come_back(void **state)
{
        enum { MANY = 300 };
        struct fixture *f = *state;
        portalock_file *files[MANY], *other;
        int64_t tokens[MANY];
        struct seen seen = {0};
        char name[200];
        int i;

        look(f->a, &seen);
        for (i = 0; i < MANY; i++) {
                snprintf(name, sizeof name, "%s.%d", f->path, i);
                files[i] = open_file(f->a, name);
                assert_int_equal(portalock_lock(files[i], i % 2 == 0 ? PORTALOCK_EX : PORTALOCK_SH, -1), 0);
                tokens[i] = portalock_token(files[i]);
        }
        kill_daemon(f->a);
        UNTIL(seen.back == 1, &f->a, 1);
        assert_int_equal(seen.lost, 0);
        for (i = 0; i < MANY; i++) {
                assert_int_equal(portalock_mode(files[i]), i % 2 == 0 ? PORTALOCK_EX : PORTALOCK_SH);
                assert_int_equal(portalock_token(files[i]), tokens[i]);
                snprintf(name, sizeof name, "%s.%d", f->path, i);
                other = open_file(f->b, name);
                assert_int_equal(portalock_lock(other, PORTALOCK_EX | PORTALOCK_NB, -1), PORTALOCK_E_LOCK_FAILED);
                assert_int_equal(portalock_error(f->b)->holder_count, 1);       /* known to the new daemon, not only borne by the kernel */
                portalock_close(other);
        }
        for (i = 0; i < MANY; i++)
                portalock_close(files[i]);
}

#define WITH_DAEMON(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                WITH_DAEMON(what_is_held_is_held_again_with_its_token),
                WITH_DAEMON(a_stop_in_good_order_is_no_different),
                WITH_DAEMON(what_the_descriptor_bears_no_more_is_lost),
                WITH_DAEMON(what_was_broken_as_the_daemon_died_is_lost),
                WITH_DAEMON(an_unlock_that_was_under_way_is_done),
                WITH_DAEMON(an_unlock_takes_nothing_from_a_co_holder),
                WITH_DAEMON(an_upgrade_that_was_under_way_is_asked_for_again),
                WITH_DAEMON(a_withdrawn_request_is_not_asked_again),
                WITH_DAEMON(questions_are_asked_again_and_a_watch_goes_on),
                WITH_DAEMON(what_changes_something_is_not_repeated),
                WITH_DAEMON(without_a_daemon_it_keeps_what_it_holds_and_says_so),
                WITH_DAEMON(timeouts_hold_without_a_daemon),
                WITH_DAEMON(a_daemon_that_is_stopped_loses_nothing_and_leaves_no_ghost),
                WITH_DAEMON(files_closed_meanwhile_leave_nothing),
                WITH_DAEMON(more_locks_than_are_claimed_at_a_time_all_come_back),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
