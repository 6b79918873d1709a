/* Twenty daemons are killed: the order of a queue is kept across each, and a crowd that works on a file meanwhile loses nothing. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "restarts.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define KILLS 20

static void the_queue_keeps_its_order_across_kills(void **state)
{
        struct fixture *f = *state;
        portalock_session *s[6];
        portalock_file *file[6];
        struct result r[6];
        struct seen seen = {0};
        char name[16];
        int i, k;

        s[0] = f->a;
        for (i = 1; i < 6; i++) {
                snprintf(name, sizeof name, "waiter %d", i);
                assert_int_equal(portalock_connect(name, 0, &s[i]), 0);
        }
        for (i = 0; i < 6; i++)
                file[i] = open_file(s[i], f->path);
        look(f->a, &seen);
        for (k = 0; k < KILLS; k++) {
                int64_t began, token;

                memset(r, 0, sizeof r);
                seen = (struct seen){0};
                assert_int_equal(portalock_lock(file[0], PORTALOCK_EX, -1), 0);
                token = portalock_token(file[0]);
                for (i = 1; i < 6; i++) {
                        assert_int_equal(portalock_lock_start(file[i], i == 3 ? PORTALOCK_SH : PORTALOCK_EX, -1, on_done, &r[i]), 0);
                        while (waiting(s[0]) != i)
                                turn(s, 6);
                        for (began = now_ms(); now_ms() < began + 3;)   /* ages differ: they are milliseconds, and travel */
                                turn(s, 6);
                }
                kill_daemon(f->a);
                UNTIL(seen.back == 1, s, 6);
                assert_int_equal(portalock_token(file[0]), token);
                while (waiting(s[0]) != 5)
                        turn(s, 6);
                assert_int_equal(portalock_unlock(file[0]), 0);
                for (i = 1; i < 6; i++) {
                        UNTIL(r[i].count == 1, s, 6);
                        assert_int_equal(r[i].result, 0);
                        assert_true(i == 1 || r[i].at > r[i - 1].at);
                        assert_true(portalock_token(file[i]) > token);
                        token = portalock_token(file[i]);
                        assert_int_equal(portalock_unlock(file[i]), 0);
                }
        }
        assert_int_equal(seen.lost, 0);
        for (i = 0; i < 6; i++)
                portalock_close(file[i]);
        for (i = 1; i < 6; i++)
                portalock_disconnect(s[i]);
}

/* A crowd that locks and unlocks while its daemon is killed at random moments: nobody is let in twice, nobody is told that it lost anything. */
static void kills_at_random_moments_let_nobody_in_twice(void **state)
{
        struct fixture *f = *state;
        pid_t workers[4], killer_of;
        int i, k, fd, status;
        char value[16];

        for (i = 0; i < 4; i++) {
                workers[i] = fork();
                if (workers[i] != 0)
                        continue;
                portalock_session *s;
                portalock_file *file;
                char inside[128];

                snprintf(inside, sizeof inside, "%s.inside", f->path);
                if (portalock_connect("worker", 0, &s) != 0 || portalock_open(s, f->path, &file) != 0)
                        _exit(2);
                for (k = 0; k < 60; k++) {
                        int n = 0;

                        if (portalock_lock(file, PORTALOCK_EX, -1) != 0)
                                _exit(3);
                        if (mkdir(inside, 0777) != 0)
                                _exit(4);
                        fd = open(f->path, O_RDWR);
                        memset(value, 0, sizeof value);
                        if (pread(fd, value, sizeof value - 1, 0) > 0)
                                n = atoi(value);
                        poll(NULL, 0, 1);
                        snprintf(value, sizeof value, "%d", n + 1);
                        if (pwrite(fd, value, strlen(value), 0) < 0 || rmdir(inside) != 0)
                                _exit(5);
                        close(fd);
                        if (portalock_unlock(file) != 0)
                                _exit(6);
                }
                portalock_close(file);
                portalock_disconnect(s);
                _exit(0);
        }
        for (k = 0; k < KILLS; k++) {
                portalock_session *s;

                poll(NULL, 0, 5 + rand() % 40);
                if (portalock_connect("killer", PORTALOCK_CONNECT_NO_SPAWN, &s) == 0 && (killer_of = (pid_t)portalock_daemon_pid(s)) > 0)
                        kill(killer_of, SIGKILL);
                portalock_disconnect(s);
        }
        for (i = 0; i < 4; i++) {
                assert_int_equal(waitpid(workers[i], &status, 0), workers[i]);
                assert_int_equal(status, 0);
        }
        fd = open(f->path, O_RDONLY);
        memset(value, 0, sizeof value);
        assert_true(pread(fd, value, sizeof value - 1, 0) > 0);
        close(fd);
        assert_int_equal(atoi(value), 4 * 60);
        assert_true(is_free(f->path));
}

#define WITH_DAEMON(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                WITH_DAEMON(the_queue_keeps_its_order_across_kills),
                WITH_DAEMON(kills_at_random_moments_let_nobody_in_twice),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
