/* The connection: bytes out, each descriptor with the first byte of its line, lines in. It never waits. */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>

#define READ_FIRST 1024         /* most answers are shorter: so much memory is enough for most programs */
#define READ_BYTES 65536        /* at once of those that are not */

static void drop_passed(struct portalock_session *s, struct passed *p)
{
        TAILQ_REMOVE(&s->passed, p, entry);
        if (p->owned)
                os_close(p->fd);
        free(p);
}

int conn_flush(struct portalock_session *s)
{
        struct passed *p;
        size_t end;
        int64_t n;
        int fd;

        while (s->out_sent < s->out.len) {
                p = TAILQ_FIRST(&s->passed);
                fd = -1;
                end = s->out.len;
                if (p != NULL && p->offset == s->out_sent) {
                        fd = p->fd;
                        p = TAILQ_NEXT(p, entry);
                }
                if (p != NULL)
                        end = p->offset;        /* one descriptor a message */
                n = os_send(s, s->out.data + s->out_sent, end - s->out_sent, fd);
                if (n == -EAGAIN)
                        return 0;
                if (n < 0)
                        return -1;
                if (fd >= 0)
                        drop_passed(s, TAILQ_FIRST(&s->passed));
                s->out_sent += (size_t)n;
        }
        s->out.len = s->out_sent = 0;
        return 0;
}

int conn_receive(struct portalock_session *s)
{
        char *room;
        size_t want;
        int64_t n;

        for (;;) {
                want = pl_frame_reserve(&s->frame, pl_frame_is_empty(&s->frame) ? READ_FIRST : READ_BYTES, &room);
                if (want == 0)
                        return -1;
                n = os_receive(s, room, want);
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
        int e;

        r = pl_frame_next(&s->frame, &line, &len);
        if (r == PL_FRAME_NONE)
                return 0;
        if (r != PL_FRAME_LINE)
                return -EBADMSG;
        e = pl_reply_decode(line, len, reply);
        return e == 0 ? 1 : e;
}

int conn_pass(struct portalock_session *s, int fd)
{
        struct passed *p = malloc(sizeof *p);

        if (p == NULL)
                return -1;
        *p = (struct passed){.offset = s->out_line, .fd = fd};
        TAILQ_INSERT_TAIL(&s->passed, p, entry);
        return 0;
}

int conn_keep_passed(struct portalock_session *s)
{
        struct passed *p = TAILQ_LAST(&s->passed, passed_list);
        int fd;

        if (p == NULL || p->owned)
                return 0;
        fd = os_duplicate(p->fd);
        if (fd < 0) {
                drop_passed(s, p);
                return fd;
        }
        p->fd = fd;
        p->owned = true;
        return 0;
}

void conn_close(struct portalock_session *s)
{
        struct passed *p;

        os_hang_up(s);
        while ((p = TAILQ_FIRST(&s->passed)) != NULL)
                drop_passed(s, p);
        s->out.len = s->out_sent = 0;
        s->out.failed = false;
        pl_frame_clear(&s->frame);
}
