/* libportalock against the real daemon, which it starts by itself. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "client_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static void a_session_knows_its_daemon(void **state)
{
        struct fixture *f = *state;

        assert_true(portalock_session_id(f->a) > 0);
        assert_true(portalock_session_id(f->a) != portalock_session_id(f->b));
        assert_int_equal(portalock_daemon_pid(f->a), portalock_daemon_pid(f->b));
        assert_string_equal(portalock_daemon_version(f->a), PORTALOCK_VERSION);
        assert_string_equal(portalock_socket(f->a), f->socket);
        assert_int_equal(portalock_error(f->a)->code, 0);
}

static void a_lock_is_real_and_ends_with_unlock(void **state)
{
        struct fixture *f = *state;
        portalock_file *file = open_file(f->a, f->path);
        int64_t token;

        assert_int_equal(portalock_token(file), 0);
        assert_int_equal(portalock_unlock(file), 0);    /* no error */
        assert_int_equal(portalock_lock(file, PORTALOCK_EX, -1), 0);
        token = portalock_token(file);
        assert_true(token > 0);
        assert_false(is_free(f->path));
        assert_int_equal(portalock_lock(file, PORTALOCK_EX | PORTALOCK_NB, -1), 0);
        assert_int_equal(portalock_token(file), token);
        assert_int_equal(portalock_lock(file, PORTALOCK_SH, -1), 0);
        assert_int_equal(portalock_unlock(file), 0);
        assert_true(is_free(f->path));
        portalock_close(file);
}

static void a_lock_ends_with_close(void **state)
{
        struct fixture *f = *state;
        portalock_file *file = open_file(f->a, f->path);

        assert_int_equal(portalock_lock(file, PORTALOCK_EX, 1000), 0);
        portalock_close(file);
        assert_true(is_free(f->path));
        portalock_close(NULL);
}

static void a_refusal_names_the_holder(void **state)
{
        struct fixture *f = *state;
        portalock_file *ours = open_file(f->a, f->path), *theirs = open_file(f->b, f->path);
        const struct portalock_error_info *e;

        assert_int_equal(portalock_lock(theirs, PORTALOCK_EX, -1), 0);
        assert_int_equal(portalock_lock(ours, PORTALOCK_SH | PORTALOCK_NB, -1), PORTALOCK_E_LOCK_FAILED);
        e = portalock_error(f->a);
        assert_int_equal(e->code, PORTALOCK_E_LOCK_FAILED);
        assert_int_equal(e->holder_count, 1);
        assert_int_equal(e->holders[0].pid, getpid());
        assert_int_equal(e->holders[0].uid, getuid());
        assert_string_equal(e->holders[0].client, "second");
        assert_string_equal(e->holders[0].command, "test_client");
        assert_int_equal(e->holders[0].mode, PORTALOCK_EX);
        assert_true(e->holders[0].held_ms >= 0);
        assert_false(e->holders[0].outside);
        assert_int_equal(portalock_lock(ours, PORTALOCK_SH, 30), PORTALOCK_E_TIMED_OUT);
        assert_int_equal(portalock_error(f->a)->holder_count, 1);
        assert_int_equal(portalock_unlock(theirs), 0);
        assert_int_equal(portalock_lock(ours, PORTALOCK_SH | PORTALOCK_NB, -1), 0);
        assert_int_equal(portalock_error(f->a)->code, 0);
        portalock_close(ours);
        portalock_close(theirs);
}

static void count_waiting(void *arg, const struct portalock_row *r)
{
        *(int *)arg += strcmp(r->state, "waiting") == 0;
}

/* In a child: share the file, then want it alone. The exit code says how that went. */
static int share_then_upgrade(const char *path)
{
        portalock_session *s;
        portalock_file *file;

        if (portalock_connect("child", 0, &s) != 0 || portalock_open(s, path, &file) != 0 || portalock_lock(file, PORTALOCK_SH, -1) != 0)
                return 1;
        return portalock_lock(file, PORTALOCK_EX, -1) == 0 ? 0 : 2;
}

static void a_second_upgrader_is_told_of_the_deadlock(void **state)
{
        struct fixture *f = *state;
        portalock_file *ours = open_file(f->a, f->path);
        int status, waiting = 0;
        pid_t child;

        assert_int_equal(portalock_lock(ours, PORTALOCK_SH, -1), 0);
        child = fork();
        if (child == 0)
                _exit(share_then_upgrade(f->path));
        while (waiting == 0) {  /* an answer of the daemon each time, until the child's upgrade waits for our share */
                assert_int_equal(waitpid(child, &status, WNOHANG), 0);
                assert_int_equal(portalock_list(f->b, (const char *[]){f->path}, 1, count_waiting, &waiting), 0);
        }
        assert_int_equal(portalock_lock(ours, PORTALOCK_EX | PORTALOCK_NB, -1), PORTALOCK_E_LOCK_FAILED);
        assert_int_equal(portalock_lock(ours, PORTALOCK_EX, -1), PORTALOCK_E_DEADLOCK);
        assert_int_equal(portalock_lock(ours, PORTALOCK_SH | PORTALOCK_NB, -1), 0);     /* still shared */
        assert_int_equal(portalock_unlock(ours), 0);    /* closing would not do: the child has inherited the descriptor */
        portalock_close(ours);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
}

static void a_file_that_was_replaced_is_followed(void **state)
{
        struct fixture *f = *state;
        portalock_file *ours = open_file(f->a, f->path);
        struct stat now, held;

        assert_int_equal(unlink(f->path), 0);
        close(open(f->path, O_WRONLY | O_CREAT, 0666));
        assert_int_equal(portalock_lock(ours, PORTALOCK_EX, -1), 0);
        assert_int_equal(stat(f->path, &now), 0);
        assert_int_equal(fstat(portalock_file_fd(ours), &held), 0);
        assert_int_equal(now.st_ino, held.st_ino);
        assert_false(is_free(f->path));
        portalock_close(ours);
}

static void bad_arguments_are_named(void **state)
{
        struct fixture *f = *state;
        portalock_file *file = open_file(f->a, f->path), *none;
        char *json;

        assert_int_equal(portalock_lock(file, 0, -1), PORTALOCK_E_ARGUMENT);
        assert_int_equal(portalock_lock(file, PORTALOCK_SH | PORTALOCK_EX, -1), PORTALOCK_E_ARGUMENT);
        assert_int_equal(portalock_lock(file, PORTALOCK_EX | PORTALOCK_DETACH, -1), PORTALOCK_E_ARGUMENT);
        assert_int_equal(portalock_lock(file, PORTALOCK_EX | 16, -1), PORTALOCK_E_ARGUMENT);
        assert_non_null(strstr(portalock_error(f->a)->text, "PORTALOCK_SH"));
        portalock_close(file);
        assert_int_equal(portalock_open(f->a, "/no/such/folder/file", &none), PORTALOCK_E_OS);
        assert_null(none);
        assert_int_equal(portalock_error(f->a)->os_errno, ENOENT);
        assert_string_equal(portalock_error(f->a)->syscall, "open");
        assert_non_null(strstr(portalock_error(f->a)->text, "/no/such/folder/file"));
        assert_int_equal(portalock_call_wait(f->a, "ping", "[1]", 1000, &json), PORTALOCK_E_ARGUMENT);
        assert_int_equal(portalock_call_wait(f->a, "nothing", NULL, 1000, &json), PORTALOCK_E_PROTOCOL);
        assert_null(json);
        assert_int_equal(portalock_call_wait(f->a, "ping", NULL, 1000, &json), 0);
        assert_string_equal(json, "{}");
        free(json);
}

struct seen {
        int held, waiting, outside;
        char path[96], client[64];
};

static void see(void *arg, const struct portalock_row *r)
{
        struct seen *s = arg;

        s->held += strcmp(r->state, "held") == 0;
        s->waiting += strcmp(r->state, "waiting") == 0;
        s->outside += strcmp(r->state, "outside") == 0;
        snprintf(s->path, sizeof s->path, "%s", r->path);
        snprintf(s->client, sizeof s->client, "%s", r->client);
        if (strcmp(r->state, "held") == 0) {
                assert_true(r->lock > 0 && r->token > 0 && r->age_ms >= 0);
                assert_int_equal(r->pid, getpid());
                assert_int_equal(r->mode, PORTALOCK_EX);
        }
}

static void a_list_shows_holders_and_outsiders(void **state)
{
        struct fixture *f = *state;
        portalock_file *file = open_file(f->b, f->path);
        char other[128];
        const char *paths[] = {f->path, other};
        struct seen seen = {0};
        char *json;
        int fd;

        snprintf(other, sizeof other, "%s/other", f->folder);
        fd = open(other, O_RDWR | O_CREAT, 0666);
        assert_int_equal(flock(fd, LOCK_EX), 0);
        assert_int_equal(portalock_lock(file, PORTALOCK_EX, -1), 0);
        assert_int_equal(portalock_list(f->a, NULL, 0, see, &seen), 0);
        assert_int_equal(seen.held, 1);
        assert_string_equal(seen.path, f->path);
        assert_string_equal(seen.client, "second");
        seen = (struct seen){0};
        assert_int_equal(portalock_list(f->a, paths, 2, see, &seen), 0);
        assert_int_equal(seen.held, 1);
        assert_int_equal(seen.outside, 1);
        assert_int_equal(portalock_list_json(f->a, paths, 2, &json), 0);
        assert_non_null(strstr(json, other));
        assert_memory_equal(json, "{\"locks\":[{", 11);
        free(json);
        close(fd);
        portalock_close(file);
}

static void a_walk_over_many_pages_is_one_document(void **state)
{
        enum { COUNT = 1500 };
        struct fixture *f = *state;
        portalock_file *files[COUNT];
        struct seen seen = {0};
        char path[160], *json, *at;
        int i, found = 0;

        for (i = 0; i < COUNT; i++) {
                snprintf(path, sizeof path, "%s/f%d", f->folder, i);
                files[i] = open_file(f->a, path);
                assert_int_equal(portalock_lock(files[i], PORTALOCK_EX, -1), 0);
        }
        assert_int_equal(portalock_list(f->b, NULL, 0, see, &seen), 0);
        assert_int_equal(seen.held, COUNT);
        assert_int_equal(portalock_list_json(f->b, NULL, 0, &json), 0);
        for (at = json; (at = strstr(at, "\"holders\":[{")) != NULL; at++)
                found++;
        assert_int_equal(found, COUNT);
        free(json);
        for (i = 0; i < COUNT; i++)
                portalock_close(files[i]);
}

static void in_a_forked_child_only_closing_works(void **state)
{
        struct fixture *f = *state;
        portalock_file *file = open_file(f->a, f->path);
        int status;
        pid_t child;

        assert_int_equal(portalock_lock(file, PORTALOCK_EX, -1), 0);
        child = fork();
        if (child == 0) {
                portalock_file *other;
                int bad = portalock_lock(file, PORTALOCK_SH, -1) != PORTALOCK_E_FORKED;

                bad += portalock_open(f->a, f->path, &other) != PORTALOCK_E_FORKED;
                bad += portalock_unlock(file) != PORTALOCK_E_FORKED;
                portalock_close(file);
                portalock_disconnect(f->a);
                _exit(bad);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        assert_false(is_free(f->path)); /* still the parent's */
        assert_int_equal(portalock_unlock(file), 0);
        assert_true(is_free(f->path));
        portalock_close(file);
}

static void a_daemon_that_dies_is_reported_and_the_lock_stays(void **state)
{
        struct fixture *f = *state;
        portalock_file *file = open_file(f->a, f->path);

        assert_int_equal(portalock_lock(file, PORTALOCK_EX, -1), 0);
        kill((pid_t)portalock_daemon_pid(f->a), SIGKILL);
        await_end_of_daemon(f->socket);
        assert_false(is_free(f->path));
        assert_int_equal(portalock_lock(file, PORTALOCK_SH, -1), PORTALOCK_E_CONNECTION);
        assert_int_equal(portalock_error(f->a)->code, PORTALOCK_E_CONNECTION);
        portalock_close(file);
        assert_true(is_free(f->path));
}

static void a_daemon_that_is_stopped_hangs_nobody(void **state)
{
        struct fixture *f = *state;
        portalock_file *file = open_file(f->a, f->path);
        bool left = true;
        char *json;

        kill((pid_t)portalock_daemon_pid(f->a), SIGSTOP);
        assert_int_equal(portalock_lock(file, PORTALOCK_EX, 50), PORTALOCK_E_TIMED_OUT);
        assert_non_null(strstr(portalock_error(f->a)->text, "did not say so"));
        kill((pid_t)portalock_daemon_pid(f->b), SIGCONT);
        while (left) {          /* until the daemon has carried out what we sent and seen us hang up */
                assert_int_equal(portalock_call_wait(f->b, "stats", NULL, 10000, &json), 0);
                left = strstr(json, "\"gauges\":{\"sessions\":1,") == NULL;
                free(json);
        }
        assert_true(is_free(f->path)); /* no ghost of the one that gave up */
        portalock_close(file);
}

static volatile sig_atomic_t alarms;

static void on_alarm(int sig)
{
        (void)sig;
        alarms++;
}

static void a_signal_does_not_end_a_wait(void **state)
{
        struct fixture *f = *state;
        portalock_file *ours = open_file(f->a, f->path), *theirs = open_file(f->b, f->path);
        struct sigaction action = {.sa_handler = on_alarm};
        struct itimerval ticks = {{0, 5000}, {0, 5000}}, none = {{0, 0}, {0, 0}};

        assert_int_equal(portalock_lock(theirs, PORTALOCK_EX, -1), 0);
        sigaction(SIGALRM, &action, NULL);
        setitimer(ITIMER_REAL, &ticks, NULL);
        assert_int_equal(portalock_lock(ours, PORTALOCK_EX, 100), PORTALOCK_E_TIMED_OUT);
        setitimer(ITIMER_REAL, &none, NULL);
        assert_true(alarms >= 3);
        assert_int_equal(portalock_unlock(theirs), 0);
        assert_int_equal(portalock_lock(ours, PORTALOCK_EX | PORTALOCK_NB, -1), 0);     /* the session is as good as before */
        portalock_close(ours);
        portalock_close(theirs);
}

static void without_a_daemon_it_says_so(void **state)
{
        struct fixture *f = *state;
        portalock_session *s;
        char nowhere[128];

        snprintf(nowhere, sizeof nowhere, "%s/nowhere", f->folder);
        setenv("PORTALOCK_SOCKET", nowhere, 1);
        assert_int_equal(portalock_connect(NULL, PORTALOCK_CONNECT_NO_SPAWN, &s), PORTALOCK_E_NO_DAEMON);
        assert_int_equal(portalock_error(s)->os_errno, ENOENT);
        assert_non_null(strstr(portalock_error(s)->text, nowhere));
        portalock_disconnect(s);
        setenv("PORTALOCK_NO_SPAWN", "1", 1);
        assert_int_equal(portalock_connect(NULL, 0, &s), PORTALOCK_E_NO_DAEMON);
        portalock_disconnect(s);
        unsetenv("PORTALOCK_NO_SPAWN");
        setenv("PORTALOCK_SOCKET", f->socket, 1);
        portalock_disconnect(NULL);
        assert_int_equal(portalock_error(NULL)->code, PORTALOCK_E_NO_MEMORY);
}

static void a_daemon_that_does_not_start_leaves_its_last_words(void **state)
{
        struct fixture *f = *state;
        char *was = strdup(getenv("PORTALOCKD")), file[128];
        portalock_session *s;

        snprintf(file, sizeof file, "%s/elsewhere/socket", f->folder);
        setenv("PORTALOCK_SOCKET", file, 1);
        setenv("PORTALOCKD", "/no/such/daemon", 1);
        assert_int_equal(portalock_connect(NULL, 0, &s), PORTALOCK_E_NO_DAEMON);
        assert_non_null(strstr(portalock_error(s)->text, "/no/such/daemon"));
        portalock_disconnect(s);
        setenv("PORTALOCKD", was, 1);
        setenv("PORTALOCK_SOCKET", f->socket, 1);
        free(was);
}

#define WITH_DAEMON(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                WITH_DAEMON(a_session_knows_its_daemon),
                WITH_DAEMON(a_lock_is_real_and_ends_with_unlock),
                WITH_DAEMON(a_lock_ends_with_close),
                WITH_DAEMON(a_refusal_names_the_holder),
                WITH_DAEMON(a_second_upgrader_is_told_of_the_deadlock),
                WITH_DAEMON(a_file_that_was_replaced_is_followed),
                WITH_DAEMON(bad_arguments_are_named),
                WITH_DAEMON(a_list_shows_holders_and_outsiders),
                WITH_DAEMON(a_walk_over_many_pages_is_one_document),
                WITH_DAEMON(in_a_forked_child_only_closing_works),
                cmocka_unit_test_setup_teardown(a_daemon_that_dies_is_reported_and_the_lock_stays, set_up_without_reconnect, tear_down),
                WITH_DAEMON(a_daemon_that_is_stopped_hangs_nobody),
                WITH_DAEMON(a_signal_does_not_end_a_wait),
                WITH_DAEMON(without_a_daemon_it_says_so),
                WITH_DAEMON(a_daemon_that_does_not_start_leaves_its_last_words),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
