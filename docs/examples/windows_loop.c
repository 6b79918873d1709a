/* A loop of its own on Windows: it wakes every half second for something else while it waits for a lock on the file named as argument, at most ten seconds. */
#include <portalock.h>

#include <stdio.h>
#include <windows.h>

static int result = 1;  /* not yet known */

static void on_locked(void *arg, portalock_file *f, int code)
{
        (void)arg;
        (void)f;
        result = code;
}

static void on_waiting(void *arg, portalock_file *f, int64_t position, const struct portalock_holder *holders, int count)
{
        (void)arg;
        (void)f;
        printf("waiting at place %lld%s%s\n", (long long)position, count > 0 ? " for " : "", count > 0 ? holders[0].command : "");
        fflush(stdout);
}

/* Until the session has something to do or time is over; `other` may be any handle of yours. */
static void wait(portalock_session *s, HANDLE other)
{
        HANDLE handles[2] = {portalock_handle(s), other};
        int64_t timeout = portalock_timeout(s);

        if (WaitForMultipleObjects(2, handles, FALSE, timeout < 0 || timeout > 60000 ? 60000 : (DWORD)timeout) == WAIT_OBJECT_0 + 1) {
                printf("meanwhile\n");
                fflush(stdout);
        }
}

int main(int argc, char **argv)
{
        struct portalock_callbacks callbacks = {.waiting = on_waiting};
        HANDLE timer = CreateWaitableTimerW(NULL, FALSE, NULL);
        LARGE_INTEGER first = {.QuadPart = -5000000};
        portalock_file *f = NULL;
        portalock_session *s;
        int e = portalock_connect("windows_loop", PORTALOCK_CONNECT_CONCURRENT, &s);

        SetWaitableTimer(timer, &first, 500, NULL, NULL, FALSE);
        if (e == 0) {
                portalock_set_callbacks(s, &callbacks, NULL);
                e = portalock_open(s, argc > 1 ? argv[1] : "file", &f);
        }
        if (e == 0)
                e = portalock_lock_start(f, PORTALOCK_EX, 10000, on_locked, NULL);
        while (e == 0 && result > 0) {
                wait(s, timer);
                e = portalock_process(s);
        }
        if (e != 0)
                fprintf(stderr, "%s\n", portalock_error(s)->text);
        else
                printf("%s\n", result == 0 ? "locked" : portalock_strerror(result));
        portalock_close(f);
        portalock_disconnect(s);
        CloseHandle(timer);
        return e == 0 && result == 0 ? 0 : 1;
}
