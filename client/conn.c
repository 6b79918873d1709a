/* The connection machine: bytes out, a descriptor with the first of them, lines in. It never waits. */
#include "internal.h"

#include <errno.h>

#define READ_BYTES 65536

void conn_send(struct portalock_session *s, int fd)
{
        s->out_sent = 0;
        s->out_fd = fd;
}

int conn_process(struct portalock_session *s)
{
        char *room;
        size_t want;
        ssize_t n;

        while (s->out_sent < s->out.len) {
                n = os_send(s->fd, s->out.data + s->out_sent, s->out.len - s->out_sent, s->out_fd);
                if (n == -EAGAIN)
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
                n = os_receive(s->fd, room, want);
                if (n <= 0)
                        return n == -EAGAIN ? 0 : -1;
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
                os_close(s->fd);
        s->fd = -1;
}
