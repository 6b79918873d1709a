/*
 * Lock files that are removed and made anew all the time: of 8 processes, 4 run their rounds under `lockctl run --remove` (one of them without the daemon),
 * 2 with the library, 2 as plain JSON clients by path. In each round a folder is made that must not be there and a counter is read and written, so that
 * two who are in at once show in either.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "client_fixture.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS 8

/* What is done under the lock, in the current folder. */
static const char script[] = "mkdir inside || exit 9; read -r n <counter; echo $((n + 1)) >counter; rmdir inside";

static int work(void)
{
        long n = -1;
        FILE *f;

        if (mkdir("inside", 0700) != 0)
                return 9;
        f = fopen("counter", "r");
        if (f == NULL || fscanf(f, "%ld", &n) != 1 || fclose(f) != 0)
                return 8;
        f = fopen("counter", "w");
        if (f == NULL || fprintf(f, "%ld\n", n + 1) < 0 || fclose(f) != 0)
                return 8;
        return rmdir("inside") == 0 ? 0 : 7;
}

/* ---- each returns 0, or what went wrong; they run in a process of their own ---- */

static int by_lockctl(const struct fixture *f, int rounds)
{
        const char *lockctl = getenv("LOCKCTL");
        int i, status;
        pid_t pid;

        for (i = 0; i < rounds; i++) {
                pid = fork();
                if (pid == 0) {
                        execlp(lockctl != NULL ? lockctl : "lockctl", "lockctl", "run", "--remove", f->path, "sh", "-c", script, (char *)NULL);
                        _exit(127);
                }
                if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
                        return 1;
                if (WEXITSTATUS(status) != 0)
                        return WEXITSTATUS(status);
        }
        return 0;
}

static int without_daemon(const struct fixture *f, int rounds)
{
        setenv("PORTALOCK_SOCKET", f->other_socket, 1);
        setenv("PORTALOCK_NO_SPAWN", "1", 1);
        return by_lockctl(f, rounds);
}

static int by_library(const struct fixture *f, int rounds)
{
        portalock_session *s;
        portalock_file *file;
        int i, r;

        if (portalock_connect("library", PORTALOCK_CONNECT_NO_SPAWN, &s) != 0)
                return 2;
        for (i = 0; i < rounds; i++) {
                if (portalock_open(s, f->path, &file) != 0 || portalock_lock(file, PORTALOCK_EX, -1) != 0)
                        return 3;
                r = work();
                if (r != 0)
                        return r;
                portalock_close(file);
        }
        portalock_disconnect(s);
        return 0;
}

static int by_path(const struct fixture *f, int rounds)
{
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        int i, r, fd = socket(AF_UNIX, SOCK_STREAM, 0);
        char line[1024];
        FILE *in;

        snprintf(a.sun_path, sizeof a.sun_path, "%s", f->socket);
        if (connect(fd, (struct sockaddr *)&a, sizeof a) != 0 || (in = fdopen(fd, "r")) == NULL)
                return 2;
        for (i = 0; i < rounds; i++) {
                dprintf(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"lock\",\"params\":{\"path\":\"%s\",\"flags\":[\"LOCK_EX\"]}}\n", f->path);
                if (fgets(line, sizeof line, in) == NULL || strstr(line, "\"result\"") == NULL)
                        return 3;
                r = work();
                if (r != 0)
                        return r;
                dprintf(fd, "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"unlock\",\"params\":{\"path\":\"%s\"}}\n", f->path);
                if (fgets(line, sizeof line, in) == NULL || strstr(line, "true") == NULL)
                        return 4;
        }
        fclose(in);
        return 0;
}

/* ---- */

static int (*const kinds[WORKERS])(const struct fixture *f, int rounds) = {by_lockctl, by_lockctl, by_lockctl, without_daemon,
                                                                           by_library, by_library, by_path,    by_path};

static void write_counter(void)
{
        FILE *f = fopen("counter", "w");

        assert_non_null(f);
        fprintf(f, "0\n");
        fclose(f);
}

static long counter(void)
{
        FILE *f = fopen("counter", "r");
        long n = -1;

        assert_non_null(f);
        assert_int_equal(fscanf(f, "%ld", &n), 1);
        fclose(f);
        return n;
}

static void eight_that_remove_and_create_are_never_in_together(void **state)
{
        struct fixture *f = *state;
        const int rounds = getenv("PORTALOCK_SLOW") != NULL ? 50 : 200;
        int i, status, bad = 0;
        pid_t pids[WORKERS];
        char *json, *reopened;

        assert_int_equal(chdir(f->folder), 0);
        write_counter();
        for (i = 0; i < WORKERS; i++) {
                pids[i] = fork();
                if (pids[i] == 0)
                        _exit(kinds[i](f, rounds));
                assert_true(pids[i] > 0);
        }
        for (i = 0; i < WORKERS; i++) {
                assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
                if (status != 0)
                        print_error("worker %d: %s %d\n", i, WIFEXITED(status) ? "exit" : "signal", WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
                bad += status != 0;
        }
        assert_int_equal(bad, 0);
        assert_int_equal(counter(), WORKERS * rounds);
        assert_int_equal(access("inside", F_OK), -1);
        /* Did anybody get in on a file that had been removed, and go on to the next? Else this has shown nothing. */
        assert_int_equal(portalock_call_wait(f->a, "stats", NULL, 10000, &json), 0);
        reopened = strstr(json, "\"reopened\":");
        assert_non_null(reopened);
        print_message("requests by path that followed their file: %ld\n", strtol(reopened + 11, NULL, 10));
        assert_true(strtol(reopened + 11, NULL, 10) > 0);
        free(json);
        assert_int_equal(chdir("/"), 0);
}

/* ---- the order of those who follow ---- */

static void count_waiting(void *arg, const struct portalock_row *row)
{
        *(int *)arg += strcmp(row->state, "waiting") == 0;
}

/* Until so many wait for the file that the path names now. */
static void await_waiting(portalock_session *s, const char *path, int count)
{
        int64_t polls;
        int waiting;

        for (polls = 0; polls < 20000; polls++) {
                waiting = 0;
                assert_int_equal(portalock_list(s, &path, 1, count_waiting, &waiting), 0);
                if (waiting == count)
                        break;
                usleep(1000);
        }
        assert_int_equal(waiting, count);
        usleep(2000);           /* ages are milliseconds: the next one is younger */
}

/* A process that waits for the lock, says its name and lets go of it. */
static pid_t start(const struct fixture *f, int (*wait_and_say)(const struct fixture *f, char name, int out), char name, int out)
{
        pid_t pid = fork();

        if (pid == 0)
                _exit(wait_and_say(f, name, out));
        assert_true(pid > 0);
        return pid;
}

static int library_says(const struct fixture *f, char name, int out)
{
        portalock_session *s;
        portalock_file *file;
        struct stat held, now;

        if (portalock_connect("library", PORTALOCK_CONNECT_NO_SPAWN, &s) != 0 || portalock_open(s, f->path, &file) != 0)
                return 2;
        if (portalock_lock(file, PORTALOCK_EX, -1) != 0)
                return 3;
        if (fstat(portalock_file_fd(file), &held) != 0 || stat(f->path, &now) != 0 || held.st_ino != now.st_ino)
                return 4;
        return write(out, &name, 1) == 1 && portalock_unlock(file) == 0 ? 0 : 5;
}

static int path_says(const struct fixture *f, char name, int out)
{
        portalock_session *s;
        char params[256], *json;

        snprintf(params, sizeof params, "{\"path\":\"%s\",\"flags\":[\"LOCK_EX\"]}", f->path);
        if (portalock_connect("path", PORTALOCK_CONNECT_NO_SPAWN, &s) != 0)
                return 2;
        if (portalock_call_wait(s, "lock", params, -1, &json) != 0)
                return 3;
        return write(out, &name, 1) == 1 ? 0 : 5;
}

static void those_who_follow_come_before_those_who_came_for_the_new_file(void **state)
{
        struct fixture *f = *state;
        portalock_file *old = open_file(f->a, f->path), *new;
        char order[5] = "";
        pid_t pids[4];
        int out[2], i, status;

        assert_int_equal(pipe(out), 0);
        assert_int_equal(portalock_lock(old, PORTALOCK_EX, -1), 0);
        pids[0] = start(f, library_says, 'B', out[1]);
        await_waiting(f->a, f->path, 1);
        pids[1] = start(f, library_says, 'C', out[1]);
        await_waiting(f->a, f->path, 2);
        pids[2] = start(f, path_says, 'P', out[1]);
        await_waiting(f->a, f->path, 3);
        assert_int_equal(unlink(f->path), 0);
        new = open_file(f->b, f->path);
        assert_int_equal(portalock_lock(new, PORTALOCK_EX, -1), 0);
        pids[3] = start(f, library_says, 'D', out[1]);
        await_waiting(f->a, f->path, 1);
        assert_int_equal(portalock_unlock(old), 0);
        await_waiting(f->a, f->path, 4);
        assert_int_equal(portalock_unlock(new), 0);
        for (i = 0; i < 4; i++)
                assert_int_equal(read(out[0], &order[i], 1), 1);
        assert_string_equal(order, "BCPD");
        for (i = 0; i < 4; i++) {
                assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
                assert_int_equal(status, 0);
        }
        close(out[0]);
        close(out[1]);
        portalock_close(old);
        portalock_close(new);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(those_who_follow_come_before_those_who_came_for_the_new_file, set_up, tear_down),
                cmocka_unit_test_setup_teardown(eight_that_remove_and_create_are_never_in_together, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
