#include "session.h"

#include "frame.h"
#include "log.h"

#include <stdio.h>
#include <stdlib.h>

#define READ_BYTES 16384

bool session_clogged(const struct session *s)
{
        return transport_unsent(s->transport) > PL_BACKLOG_BYTES_MAX;
}

static bool is_blank(const char *line, size_t len)
{
        size_t i;

        for (i = 0; i < len && (line[i] == ' ' || line[i] == '\t' || line[i] == '\r'); i++)
                ;
        return i == len;
}

static bool must_pause(const struct session *s)
{
        return session_clogged(s) || dispatch_is_full(s->client);
}

/* Carry out the whole lines that are there, unless replies or requests pile up. */
static void consume(struct session *s)
{
        enum pl_frame_result r;
        char *line;
        size_t len;

        while (s->client != NULL && !must_pause(s)) {
                r = pl_frame_next(s->frame, &line, &len);
                if (r == PL_FRAME_NONE)
                        break;
                if (r == PL_FRAME_TOO_LONG)
                        dispatch_long_line(s->dispatch, s->client);
                else if (!is_blank(line, len))
                        dispatch_line(s->dispatch, s->client, line, len);
        }
        if (s->client != NULL && !s->paused && must_pause(s)) {
                s->paused = true;
                transport_reading(s->transport, false);
        }
}

static size_t on_room(void *arg, char **out)
{
        struct session *s = arg;

        return pl_frame_reserve(s->frame, READ_BYTES, out);
}

static void end(struct session *s)
{
        struct client *c = s->client;

        if (c == NULL)
                return;
        s->client = NULL;
        dispatch_close(s->dispatch, c);
        s->over(s->arg, s);
}

static void on_received(void *arg, size_t len, const int *fds, size_t count)
{
        struct session *s = arg;
        bool room = true;
        size_t i;

        for (i = 0; i < count; i++)
                room = dispatch_descriptor(s->dispatch, s->client, fds[i]) && room;
        pl_frame_commit(s->frame, len);
        if (!room) {
                log_event(LOG_WARNING, "session_ended", "session=%llu reason=unclaimed_descriptors", (unsigned long long)s->client->id);
                end(s);
                return;
        }
        consume(s);
}

static void on_ended(void *arg)
{
        /* Nothing: what was asked is still carried out and answered; the session ends when nobody is there to read it. */
        (void)arg;
}

static void on_gone(void *arg)
{
        end(arg);
}

void session_resume(struct session *s)
{
        if (!s->paused || s->client == NULL || must_pause(s))
                return;
        s->paused = false;
        consume(s);
        if (s->client != NULL && !s->paused)
                transport_reading(s->transport, true);
}

static void on_drained(void *arg)
{
        session_resume(arg);
}

/* Too many sessions, or no memory: the last word of a connection that never was a session. */
static void refuse(int fd, const char *limit)
{
        struct pl_fault fault = {.code = PL_E_LIMIT};
        struct pl_buf line = {0};

        snprintf(fault.limit, sizeof fault.limit, "%s", limit);
        pl_fault_write(&line, &fault);
        pl_buf_append(&line, "", 1);
        transport_refuse(fd, line.failed ? NULL : line.data);
        pl_buf_clear(&line);
}

static const struct transport_events events = {
        .room = on_room, .received = on_received, .ended = on_ended, .gone = on_gone, .drained = on_drained};

struct session *session_create(struct transport_group *group, struct dispatch *dispatch, int fd, const struct peer *peer,
                               void (*over)(void *arg, struct session *s), void *arg, const char **text)
{
        struct session *s = calloc(1, sizeof *s);

        *text = "memory";
        if (s == NULL)
                goto fail;
        s->frame = malloc(sizeof *s->frame);
        if (s->frame == NULL)
                goto fail;
        pl_frame_init(s->frame, PL_LINE_MAX);
        s->dispatch = dispatch;
        s->over = over;
        s->arg = arg;
        s->client = dispatch_open(dispatch, s, peer, text);
        if (s->client == NULL)
                goto fail;
        s->transport = transport_create(group, fd, &events, s);
        if (s->transport == NULL) {
                dispatch_close(dispatch, s->client);
                goto fail_closed;
        }
        return s;
fail:
        refuse(fd, *text);
fail_closed:
        if (s != NULL && s->frame != NULL) {
                pl_frame_clear(s->frame);
                free(s->frame);
        }
        free(s);
        return NULL;
}

void session_destroy(struct session *s)
{
        struct client *c = s->client;

        s->client = NULL;
        if (c != NULL)
                dispatch_close(s->dispatch, c);
        transport_flush(s->transport);
        transport_destroy(s->transport);
        pl_frame_clear(s->frame);
        free(s->frame);
        free(s);
}

void session_send(struct session *s, const char *data, size_t len)
{
        if (transport_send(s->transport, data, len) != 0)
                log_event(LOG_ERROR, "out_of_memory", "where=reply session=%llu", (unsigned long long)s->client->id);
}
