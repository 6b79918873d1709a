/*
 * The least that can stand between a client and a blocked flock(2): for each connection a thread that waits in flock, an eventfd by which it tells the
 * loop, and a loop that writes the reply. No queue, no timeout, nothing is parsed but the path.
 *
 *   bench_relay SOCKET
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const char granted[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"lock\":1785000000000001,\"path\":\"/a/path/of/the/usual/length/shared.lock\",\"mode\":\"LOCK_EX\","
                              "\"token\":1785000000000001,\"waited_ms\":1}}\n";
static const char released[] = "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"released\":true}}\n";

struct connection {
        int socket, file;
        int wanted, taken;      /* eventfds: to the thread and back */
        bool closed;
        pthread_t thread;
};

/* What epoll tells of. */
struct source {
        struct connection *connection;
        bool is_thread;
};

static void fail(const char *what)
{
        fprintf(stderr, "bench_relay: %s: %s\n", what, strerror(errno));
        exit(1);
}

static void *waiter(void *arg)
{
        struct connection *c = arg;
        uint64_t n;

        while (read(c->wanted, &n, sizeof n) == sizeof n && !c->closed) {
                if (flock(c->file, LOCK_EX) != 0)
                        fail("flock");
                n = 1;
                if (write(c->taken, &n, sizeof n) != sizeof n)
                        fail("eventfd");
        }
        return NULL;
}

static void watch(int epoll, int fd, struct connection *c, bool is_thread)
{
        struct source *s = malloc(sizeof *s);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = s};

        *s = (struct source){c, is_thread};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) != 0)
                fail("epoll_ctl");
}

static void accept_one(int epoll, int listener)
{
        struct connection *c = calloc(1, sizeof *c);

        c->socket = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        c->file = -1;
        c->wanted = eventfd(0, EFD_CLOEXEC);
        c->taken = eventfd(0, EFD_CLOEXEC);
        if (c->socket < 0 || c->wanted < 0 || c->taken < 0 || pthread_create(&c->thread, NULL, waiter, c) != 0)
                fail("accept");
        watch(epoll, c->socket, c, false);
        watch(epoll, c->taken, c, true);
}

static void say(const struct connection *c, const char *text, size_t len)
{
        if (write(c->socket, text, len) != (ssize_t)len && errno != EPIPE)
                fail("write");
}

static void do_line(struct connection *c, char *line)
{
        char *path = strstr(line, "\"path\":\"");
        uint64_t one = 1;

        if (strstr(line, "\"method\":\"lock\"") == NULL) {
                flock(c->file, LOCK_UN);
                close(c->file);
                c->file = -1;
                say(c, released, sizeof released - 1);
                return;
        }
        path += 8;
        path[strcspn(path, "\"")] = '\0';
        c->file = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0666);
        if (c->file < 0)
                fail(path);
        if (write(c->wanted, &one, sizeof one) != sizeof one)
                fail("eventfd");
}

static void readable(struct connection *c, bool is_thread)
{
        char line[4096];
        uint64_t n;
        ssize_t len;

        if (is_thread) {
                if (read(c->taken, &n, sizeof n) == sizeof n)
                        say(c, granted, sizeof granted - 1);
                return;
        }
        len = read(c->socket, line, sizeof line - 1);   /* whole lines: clients here send one at a time and await the answer */
        if (len > 0) {
                line[len] = '\0';
                do_line(c, line);
                return;
        }
        c->closed = true;       /* what is left of it goes with the process */
        n = 1;
        if (write(c->wanted, &n, sizeof n) != sizeof n)
                fail("eventfd");
        close(c->socket);
        if (c->file >= 0)
                close(c->file);
}

int main(int argc, char **argv)
{
        struct sockaddr_un where = {.sun_family = AF_UNIX};
        struct epoll_event e[16];
        int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), epoll = epoll_create1(EPOLL_CLOEXEC), n, i;

        if (argc != 2) {
                fprintf(stderr, "usage: bench_relay SOCKET\n");
                return 64;
        }
        snprintf(where.sun_path, sizeof where.sun_path, "%s", argv[1]);
        if (bind(listener, (struct sockaddr *)&where, sizeof where) != 0 || listen(listener, 128) != 0)
                fail(argv[1]);
        signal(SIGPIPE, SIG_IGN);
        watch(epoll, listener, NULL, false);
        for (;;) {
                n = epoll_wait(epoll, e, 16, -1);
                for (i = 0; i < n; i++) {
                        struct source *s = e[i].data.ptr;

                        if (s->connection == NULL)
                                accept_one(epoll, listener);
                        else
                                readable(s->connection, s->is_thread);
                }
        }
}
