#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "restarts.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int64_t answers;

int64_t now_ms(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void on_lost(void *arg, portalock_file *f, const char *by)
{
        struct seen *seen = arg;

        assert_int_equal(portalock_mode(f), 0);
        seen->lost++;
        snprintf(seen->by, sizeof seen->by, "%s", by);
}

static void on_connection(void *arg, bool connected)
{
        struct seen *seen = arg;

        if (connected)
                seen->back++;
        else
                seen->gone++;
}

static void on_event(void *arg, const struct portalock_event *e)
{
        struct seen *seen = arg;

        seen->events++;
        snprintf(seen->event, sizeof seen->event, "%s", e->event);
}

void on_done(void *arg, portalock_file *f, int result)
{
        struct result *r = arg;

        (void)f;
        r->count++;
        r->result = result;
        r->at = ++answers;
}

void look(portalock_session *s, struct seen *seen)
{
        static const struct portalock_callbacks callbacks = {.lost = on_lost, .connection = on_connection, .event = on_event};

        portalock_set_callbacks(s, &callbacks, seen);
}

void turn(portalock_session *const *sessions, int count)
{
        struct pollfd p[16];
        int64_t timeout = 50, t;
        int i;

        for (i = 0; i < count; i++) {
                assert_int_equal(portalock_process(sessions[i]), 0);
                p[i] = (struct pollfd){.fd = portalock_fd(sessions[i]),
                                       .events = (short)(POLLIN | ((portalock_events(sessions[i]) & PORTALOCK_WRITABLE) != 0 ? POLLOUT : 0))};
                t = portalock_timeout(sessions[i]);
                if (t >= 0 && t < timeout)
                        timeout = t;
        }
        (void)poll(p, (nfds_t)count, (int)timeout);
        for (i = 0; i < count; i++)
                (void)portalock_process(sessions[i]);
}

void kill_daemon(portalock_session *s)
{
        pid_t pid = (pid_t)portalock_daemon_pid(s);
        struct pollfd end = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};

        if (end.fd < 0)
                return;         /* it has ended already */
        kill(pid, SIGKILL);
        /* The process, not the lock of its socket: another daemon may be starting already, and have that by now. */
        assert_int_equal(poll(&end, 1, PATIENCE_MS), 1);
        close(end.fd);
}

int waiting(portalock_session *s)
{
        const char *state;
        char *json;
        int n = 0;

        assert_int_equal(portalock_list_json(s, NULL, 0, &json), 0);
        for (state = json; (state = strstr(state, "\"waiting_ms\"")) != NULL; state++)
                n++;
        free(json);
        return n;
}
