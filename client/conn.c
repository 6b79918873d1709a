/* The connection machine: bytes out, a descriptor with the first of them, lines in. It never waits. */
#include "internal.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES 65536

void conn_send(struct portalock_session *s, int fd)
{
        s->out_sent = 0;
        s->out_fd = fd;
}

static ssize_t send_some(struct portalock_session *s)
{
        union {
                struct cmsghdr align;
                char bytes[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec iov = {.iov_base = s->out.data + s->out_sent, .iov_len = s->out.len - s->out_sent};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        struct cmsghdr *c;

        if (s->out_fd >= 0) {
                memset(&control, 0, sizeof control);
                msg.msg_control = &control;
                msg.msg_controllen = sizeof control;
                c = CMSG_FIRSTHDR(&msg);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(c), &s->out_fd, sizeof(int));
        }
        return sendmsg(s->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

int conn_process(struct portalock_session *s)
{
        char *room;
        size_t want;
        ssize_t n;

        while (s->out_sent < s->out.len) {
                n = send_some(s);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        break;
                if (n < 0)
                        return -1;
                s->out_fd = -1;
                s->out_sent += (size_t)n;
        }
        for (;;) {
                want = pl_frame_reserve(&s->frame, READ_BYTES, &room);
                if (want == 0)
                        return -1;
                n = recv(s->fd, room, want, MSG_DONTWAIT);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN ? 0 : -1;
                if (n == 0)
                        return -1;
                pl_frame_commit(&s->frame, (size_t)n);
                if ((size_t)n < want)
                        return 0;
        }
}

int conn_next(struct portalock_session *s, struct pl_reply *reply)
{
        enum pl_frame_result r;
        char *line;
        size_t len;

        r = pl_frame_next(&s->frame, &line, &len);
        if (r == PL_FRAME_NONE)
                return 0;
        if (r != PL_FRAME_LINE || pl_reply_decode(line, len, reply) != 0)
                return -1;
        return 1;
}

void conn_close(struct portalock_session *s)
{
        if (s->fd >= 0)
                close(s->fd);
        s->fd = -1;
}
