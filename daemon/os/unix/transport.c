/*
 * Unix sockets by uv_poll_t and own recvmsg/sendmsg: libuv's pipes cannot receive descriptors cleanly and lose requests
 * around them (docs/design.md).
 *
 * After the peer's half-close only UV_PRIORITIZED is polled: nothing to read any more, but the full close is still reported. When the
 * peer closes with unread replies, libuv reports UV_EBADF and stops the handle while requests are still readable: they are drained first.
 */
#include "transport.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#define FDS_PER_MESSAGE 253     /* SCM_MAX_FD: a message can carry no more */
#define OUT_BYTES 1024
#define READS_PER_TURN 8        /* then the other connections have their turn */

const bool transport_passes_descriptors = true;

/* What is to be written. */
struct outgoing {
        size_t len, sent, cap;
        char data[];
};

struct transport {
        struct transport_group *group;
        STAILQ_ENTRY(transport) of_dirty;
        uv_poll_t poll;
        const struct transport_events *events;
        void *arg;
        int fd, polled;         /* the events it is polled for now */
        struct outgoing *out;   /* NULL: nothing, as mostly */
        bool reading, skipping, at_end, dirty, lost, closing;
        bool blocked;           /* the socket took not all that was written */
};

struct transport_group {
        uv_loop_t *loop;
        uv_prepare_t prepare;
        STAILQ_HEAD(, transport) dirty; /* something to write has come since the last write_all(), or while all is held: in that order */
        bool held;
        struct outgoing *spare;         /* one of OUT_BYTES that no connection needs now; NULL: none */
};

static void on_poll(uv_poll_t *poll, int status, int events);

static void mark(struct transport *t)
{
        if (t->dirty)
                return;
        t->dirty = true;
        STAILQ_INSERT_TAIL(&t->group->dirty, t, of_dirty);
}

static void poll_again(struct transport *t)
{
        int events = UV_PRIORITIZED;

        if (t->closing || t->lost)
                return;
        if (t->reading && !t->at_end)
                events |= UV_READABLE;
        if (t->blocked && t->group->held)
                mark(t);        /* the end of that is what it waits for */
        else if (t->blocked)
                events |= UV_WRITABLE;
        if (events == t->polled)
                return;         /* each start costs system calls */
        t->polled = events;
        uv_poll_start(&t->poll, events, on_poll);
}

/* It has been written, or nobody reads it. */
static void drop_outgoing(struct transport *t)
{
        struct outgoing *out = t->out;

        t->out = NULL;
        if (out == NULL || out->cap > OUT_BYTES || t->group->spare != NULL) {
                free(out);
                return;
        }
        out->len = out->sent = 0;
        t->group->spare = out;          /* for whoever is next: one that has nothing to send keeps no memory */
}

static void lose(struct transport *t)
{
        if (t->lost || t->closing)
                return;
        t->lost = true;
        drop_outgoing(t);
        t->blocked = false;
        uv_poll_stop(&t->poll);
        t->events->gone(t->arg);
}

static bool hung_up(const struct transport *t)
{
        struct pollfd p = {.fd = t->fd};

        return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR)) != 0;
}

static size_t take_descriptors(struct msghdr *msg, int *fds)
{
        struct cmsghdr *c;
        size_t count = 0;

        for (c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
                size_t n;

                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                memcpy(fds + count, CMSG_DATA(c), n * sizeof(int));
                count += n;
        }
        if (count == 0 && (msg->msg_flags & MSG_CTRUNC) != 0)
                fds[count++] = TRANSPORT_FD_HOLE;
        return count;
}

enum read_result { READ_MORE, READ_SHORT /* less than there was room for */, READ_NOTHING, READ_HELD, READ_END, READ_BROKEN };

/*
 * How many of the next `len` bytes can be read without receiving a descriptor: up to the message that brings one, or less; asking again finds the rest.
 * A look without room for descriptors says MSG_CTRUNC when there are some, and loses nothing. A stop of the stream or an error: `len`, for the true
 * read to find it.
 */
static size_t without_descriptor(int fd, char *room, size_t len)
{
        for (; len > 0; len /= 2) {
                struct iovec iov = {.iov_base = room, .iov_len = len};
                struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
                ssize_t n = recvmsg(fd, &msg, MSG_PEEK | MSG_DONTWAIT);

                if (n <= 0)
                        return len;
                if ((msg.msg_flags & MSG_CTRUNC) == 0)
                        return (size_t)n;
        }
        return 0;
}

static enum read_result read_once(struct transport *t)
{
        union {
                struct cmsghdr align;
                char bytes[CMSG_SPACE(sizeof(int) * FDS_PER_MESSAGE)];
        } control;
        int fds[FDS_PER_MESSAGE + 1];
        struct iovec iov;
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        enum transport_take take = t->events->take(t->arg);
        size_t count, size;
        char *room;
        ssize_t n;

        size = iov.iov_len = t->events->room(t->arg, &room);
        if (iov.iov_len == 0)
                return READ_BROKEN;
        iov.iov_base = room;
        if (take == TRANSPORT_TAKE) {
                msg.msg_control = &control;
                msg.msg_controllen = sizeof control;
        } else if (take == TRANSPORT_HOLD_BACK && !t->lost) {
                iov.iov_len = without_descriptor(t->fd, room, size);
                if (iov.iov_len == 0) {
                        transport_reading(t, false);
                        t->events->held_back(t->arg);
                        return READ_HELD;
                }
        }
        n = recvmsg(t->fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        if (n < 0) {
                if (errno == EINTR || errno == ECONNRESET)
                        return READ_MORE;       /* ECONNRESET is told once; what was sent before it is still there */
                if (errno != EAGAIN)
                        return READ_BROKEN;
                t->events->received(t->arg, 0, fds, 0);
                return READ_NOTHING;
        }
        count = take_descriptors(&msg, fds);
        if (n == 0 && count == 0)
                return READ_END;
        t->events->received(t->arg, (size_t)n, fds, count);
        return (size_t)n < size && count == 0 && take == TRANSPORT_TAKE ? READ_SHORT : READ_MORE;
}

/* `drain`: the peer has closed; read on until nothing is left. */
static void read_some(struct transport *t, bool drain)
{
        enum read_result r = READ_MORE;
        int i;

        for (i = 0; drain ? r == READ_MORE || r == READ_SHORT : r == READ_MORE && i < READS_PER_TURN; i++) {
                if (t->closing || !t->reading || t->skipping)
                        return;
                r = read_once(t);
        }
        if (t->closing || r == READ_MORE || r == READ_SHORT || r == READ_NOTHING || r == READ_HELD)
                return;
        if (r == READ_BROKEN) {
                lose(t);
                return;
        }
        t->at_end = true;
        if (drain || hung_up(t))
                lose(t);
        else
                t->events->ended(t->arg);
}

static void write_some(struct transport *t)
{
        struct outgoing *out = t->out;

        while (out->sent < out->len) {
                ssize_t n = send(t->fd, out->data + out->sent, out->len - out->sent, MSG_NOSIGNAL | MSG_DONTWAIT);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno != EAGAIN)
                        out->sent = out->len;   /* nobody reads it; the hang-up is reported by the poll */
                if (n < 0)
                        break;
                out->sent += (size_t)n;
        }
        t->blocked = out->sent < out->len;
        if (!t->blocked)
                drop_outgoing(t);
}

static void write_when_writable(struct transport *t)
{
        if (t->group->held) {
                mark(t);        /* and it is not polled for that meanwhile */
                return;
        }
        write_some(t);
        if (t->out == NULL)
                t->events->drained(t->arg);
}

/* First come, first served: who is granted a lock by the unlock of another hears of it before that one gets his reply. */
static void write_all(struct transport_group *g)
{
        struct transport *t;

        while (!g->held && (t = STAILQ_FIRST(&g->dirty)) != NULL) {
                STAILQ_REMOVE_HEAD(&g->dirty, of_dirty);
                t->dirty = false;
                if (t->out == NULL)
                        continue;
                write_some(t);
                if (t->out == NULL)
                        t->events->drained(t->arg);
                poll_again(t);
        }
}

/*
 * What was read is answered before the next connection is read, and not at the end of the loop's turn: by reading a request the kernel wakes the client that
 * waits in recv(2) for its answer, since there is room to write again. If the answer comes soon, he finds it; else he sleeps, and is woken twice.
 */
static void on_poll(uv_poll_t *poll, int status, int events)
{
        struct transport *t = poll->data;

        if (status < 0) {
                read_some(t, true);
                lose(t);
                return;
        }
        if ((events & UV_WRITABLE) != 0 && t->out != NULL)
                write_when_writable(t);
        if (!t->closing && (events & UV_READABLE) != 0 && !t->at_end && !t->skipping)
                read_some(t, false);
        else if (!t->closing && t->skipping && hung_up(t))
                lose(t);
        else if (!t->closing && (events & UV_PRIORITIZED) != 0 && hung_up(t)) {
                if (!t->at_end)
                        read_some(t, true);
                lose(t);
        }
        poll_again(t);
        write_all(t->group);
}

static void on_prepare(uv_prepare_t *prepare)
{
        write_all(prepare->data);
}

struct transport_group *transport_group_create(uv_loop_t *loop)
{
        struct transport_group *g = calloc(1, sizeof *g);

        if (g == NULL)
                return NULL;
        g->loop = loop;
        STAILQ_INIT(&g->dirty);
        uv_prepare_init(loop, &g->prepare);
        g->prepare.data = g;
        uv_prepare_start(&g->prepare, on_prepare);
        return g;
}

void transport_group_hold(struct transport_group *g, bool on)
{
        g->held = on;   /* what has come meanwhile is marked, and leaves at the end of this turn */
}

static void group_closed(uv_handle_t *handle)
{
        struct transport_group *g = handle->data;

        free(g->spare);
        free(g);
}

void transport_group_destroy(struct transport_group *g)
{
        if (g != NULL)
                uv_close((uv_handle_t *)&g->prepare, group_closed);     /* transports that are closing do not look at it any more */
}

struct transport *transport_create(struct transport_group *g, int fd, const struct transport_events *events, void *arg)
{
        struct transport *t = calloc(1, sizeof *t);

        if (t == NULL || uv_poll_init(g->loop, &t->poll, fd) != 0) {
                free(t);
                close(fd);
                return NULL;
        }
        t->poll.data = t;
        t->group = g;
        t->events = events;
        t->arg = arg;
        t->fd = fd;
        t->reading = true;
        poll_again(t);
        return t;
}

void transport_refuse(int fd, const char *line)
{
        if (line != NULL)
                (void)send(fd, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT);
        close(fd);
}

static void transport_closed(uv_handle_t *handle)
{
        struct transport *t = handle->data;

        free(t->out);
        free(t);
}

void transport_destroy(struct transport *t)
{
        if (t == NULL || t->closing)
                return;
        t->closing = true;
        if (t->dirty)
                STAILQ_REMOVE(&t->group->dirty, t, transport, of_dirty);
        uv_close((uv_handle_t *)&t->poll, transport_closed);    /* which stops it, too */
        close(t->fd);
        t->fd = -1;
}

/* Behind what is unsent. False: no memory. */
static bool make_room(struct transport *t, size_t len)
{
        struct outgoing *out = t->out, *grown;
        size_t cap = OUT_BYTES, used = 0;

        if (out == NULL) {
                out = t->out = t->group->spare;
                t->group->spare = NULL;
        }
        if (out != NULL && out->sent > out->len / 2) {
                out->len -= out->sent;
                memmove(out->data, out->data + out->sent, out->len);
                out->sent = 0;
        }
        if (out != NULL) {
                cap = out->cap;
                used = out->len;
        }
        if (out != NULL && used + len <= cap)
                return true;
        while (cap < used + len)
                cap *= 2;
        grown = realloc(out, sizeof *grown + cap);
        if (grown == NULL)
                return false;
        if (out == NULL)
                grown->len = grown->sent = 0;
        grown->cap = cap;
        t->out = grown;
        return true;
}

int transport_send(struct transport *t, const char *data, size_t len)
{
        if (t->closing || t->lost)
                return 0;
        if (!make_room(t, len))
                return -ENOMEM;
        memcpy(t->out->data + t->out->len, data, len);
        t->out->len += len;
        mark(t);
        return 0;
}

size_t transport_unsent(const struct transport *t)
{
        return t->out != NULL ? t->out->len - t->out->sent : 0;
}

void transport_flush(struct transport *t)
{
        if (!t->closing && !t->lost && t->out != NULL)
                write_some(t);
}

void transport_reading(struct transport *t, bool on)
{
        if (t->reading == on)
                return;
        t->reading = on;
        poll_again(t);
}

void transport_skip(struct transport *t, bool on)
{
        t->skipping = on;
}

bool transport_drain(struct transport *t)
{
        enum read_result r;

        if (t->closing || t->at_end)
                return false;
        r = read_once(t);
        if (r == READ_END)
                t->at_end = true;
        return r == READ_MORE || r == READ_SHORT;
}
