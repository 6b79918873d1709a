/* A loop of its own, by poll(2): it reads lines from standard input while it waits for locks, one on each file named as argument. */
#include <portalock.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int left;        /* locks not yet decided */

static void on_locked(void *arg, portalock_file *f, int result)
{
        const char *path = arg;

        if (result == 0)
                printf("%s: locked, token %lld\n", path, (long long)portalock_token(f));
        else
                printf("%s: %s\n", path, portalock_strerror(result));
        fflush(stdout);
        portalock_close(f);
        left--;
}

static void on_waiting(void *arg, portalock_file *f, int64_t position, const struct portalock_holder *holders, int count)
{
        (void)arg;
        (void)f;
        printf("waiting at place %lld%s%s\n", (long long)position, count > 0 ? " for " : "", count > 0 ? holders[0].command : "");
        fflush(stdout);
}

static void read_a_line(bool *open)
{
        char line[256];
        ssize_t n = read(STDIN_FILENO, line, sizeof line);

        if (n <= 0)
                *open = false;
        else
                printf("meanwhile: %.*s", (int)n, line);
        fflush(stdout);
}

int main(int argc, char **argv)
{
        struct portalock_callbacks callbacks = {.waiting = on_waiting};
        bool input_open = true;
        portalock_session *s;
        portalock_file *f;
        int i, e = portalock_connect("poll_loop", PORTALOCK_CONNECT_CONCURRENT, &s);

        if (e == 0)
                portalock_set_callbacks(s, &callbacks, NULL);
        for (i = 1; i < argc && e == 0; i++) {
                e = portalock_open(s, argv[i], &f);
                if (e == 0)
                        e = portalock_lock_start(f, PORTALOCK_EX, -1, on_locked, argv[i]);
                left += e == 0;
        }
        while (e == 0 && left > 0) {
                struct pollfd p[2] = {{.fd = portalock_fd(s), .events = POLLIN}, {.fd = input_open ? STDIN_FILENO : -1, .events = POLLIN}};
                int64_t timeout = portalock_timeout(s);

                if ((portalock_events(s) & PORTALOCK_WRITABLE) != 0)
                        p[0].events |= POLLOUT;
                if (poll(p, 2, timeout < 0 || timeout > 60000 ? 60000 : (int)timeout) < 0)
                        continue;
                if ((p[1].revents & (POLLIN | POLLHUP)) != 0)
                        read_a_line(&input_open);
                e = portalock_process(s);
        }
        if (e != 0)
                fprintf(stderr, "%s\n", portalock_error(s)->text);
        portalock_disconnect(s);
        return e == 0 ? 0 : 1;
}
