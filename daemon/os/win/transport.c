/*
 * Named pipes by uv_pipe_t. A pipe has no half-close: when nothing can be read any more, nobody is there. No descriptors travel.
 *
 * Libuv tells the end of a pipe only to those who read it. So it is read all the time, into a buffer of our own, from which the session has it when it wants
 * it; only while that buffer is full is nothing read. Who does not read his replies meanwhile is noticed by the write that fails: then he is sent nothing any
 * more, and what he has said before is read to its end.
 */
#include "transport.h"

#include "pipe.h"

#include <errno.h>
#include <io.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <uv.h>

#define IN_BYTES 16384

const bool transport_passes_descriptors = false;

struct transport {
        struct transport_group *group;
        uv_pipe_t pipe;
        const struct transport_events *events;
        void *arg;
        char *in;                       /* [in_taken, in_len) is for the session */
        size_t in_len, in_taken;
        size_t leaving;                 /* bytes that the system has now */
        char *out;                      /* what comes after them */
        size_t out_len, out_cap;
        bool reading, skipping;         /* what the session wants */
        bool uv_reading, at_end, gone, deaf, closing;
        bool pending, drained;          /* in the group's list; `drained` is to be told */
        bool held;                      /* it has something to write, and all is held */
        uint64_t round;                 /* in which it came into the list */
        TAILQ_ENTRY(transport) entry, held_entry;
};

TAILQ_HEAD(transport_list, transport);

struct transport_group {
        uv_loop_t *loop;
        uv_prepare_t prepare;
        uv_idle_t idle;                 /* the loop does not sleep while something is pending */
        struct transport_list pending, held;
        bool holds;
        uint64_t round;
        int handles;
};

struct departure {
        uv_write_t write;
        struct transport *transport;
        char *data;
        size_t len;
};

static void on_idle(uv_idle_t *idle)
{
        (void)idle;
}

/* Something is to be done for it that is not done within its own calls. */
static void later(struct transport *t)
{
        if (t->pending || t->closing)
                return;
        t->pending = true;
        t->round = t->group->round;
        TAILQ_INSERT_TAIL(&t->group->pending, t, entry);
        uv_idle_start(&t->group->idle, on_idle);
}

static void not_held(struct transport *t)
{
        if (!t->held)
                return;
        t->held = false;
        TAILQ_REMOVE(&t->group->held, t, held_entry);
}

static void not_later(struct transport *t)
{
        if (!t->pending)
                return;
        t->pending = false;
        TAILQ_REMOVE(&t->group->pending, t, entry);
}

/* ---- reading ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
        struct transport *t = handle->data;

        (void)suggested;
        *buf = uv_buf_init(t->in + t->in_len, (unsigned)(IN_BYTES - t->in_len));
}

static void set_uv_reading(struct transport *t, bool on);

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
        struct transport *t = stream->data;

        (void)buf;
        if (n > 0)
                t->in_len += (size_t)n;
        else if (n < 0 && n != UV_ENOBUFS)
                t->at_end = true;
        if (t->at_end || t->in_len == IN_BYTES)
                set_uv_reading(t, false);
        later(t);
}

static void set_uv_reading(struct transport *t, bool on)
{
        if (t->uv_reading == on || t->closing)
                return;
        t->uv_reading = on;
        if (!on)
                uv_read_stop((uv_stream_t *)&t->pipe);
        else if (uv_read_start((uv_stream_t *)&t->pipe, on_alloc, on_read) != 0)
                t->at_end = true;
}

/* As much as the session has room for. False: it has none. */
static bool hand_over(struct transport *t)
{
        size_t len = t->in_len - t->in_taken, size;
        char *room;

        size = t->events->room(t->arg, &room);
        if (size == 0)
                return false;
        if (len > size)
                len = size;
        memcpy(room, t->in + t->in_taken, len);
        t->in_taken += len;
        if (t->in_taken == t->in_len)
                t->in_taken = t->in_len = 0;
        if (!t->at_end && t->in_len < IN_BYTES)
                set_uv_reading(t, true);
        t->events->received(t->arg, len, NULL, 0);
        return true;
}

static void lose(struct transport *t)
{
        if (t->gone || t->closing)
                return;
        t->gone = true;
        free(t->out);
        t->out = NULL;
        t->out_len = t->out_cap = 0;
        t->events->gone(t->arg);
}

/* When nobody is there any more the session drains what they said last, as it sees fit. */
static void read_some(struct transport *t)
{
        if (t->at_end) {
                lose(t);
                return;
        }
        if (!t->reading || t->skipping || t->in_taken == t->in_len)
                return;
        if (!hand_over(t))
                lose(t);
        else if (t->in_taken < t->in_len)
                later(t);
}

bool transport_drain(struct transport *t)
{
        return !t->closing && t->in_taken < t->in_len && hand_over(t);
}

void transport_reading(struct transport *t, bool on)
{
        t->reading = on;
        if (on && t->in_taken < t->in_len)
                later(t);
}

void transport_skip(struct transport *t, bool on)
{
        t->skipping = on;
        if (!on && t->in_taken < t->in_len)
                later(t);
}

/* ---- writing ---- */

static void on_written(uv_write_t *req, int status)
{
        struct departure *d = (struct departure *)req;
        struct transport *t = d->transport;

        t->leaving -= d->len;
        free(d->data);
        free(d);
        if (t->closing)
                return;
        if (status < 0) {
                t->deaf = true;         /* the end of what can be read will say why */
                t->out_len = 0;
        }
        t->drained = t->leaving + t->out_len == 0;
        later(t);
}

/* Takes what is there from `out`; its memory goes along. */
static void send_out(struct transport *t)
{
        struct departure *d;
        uv_buf_t buf;

        if (t->out_len == 0 || t->closing || t->gone || t->deaf)
                return;
        d = malloc(sizeof *d);
        if (d == NULL) {
                later(t);       /* another time */
                return;
        }
        *d = (struct departure){.transport = t, .data = t->out, .len = t->out_len};
        t->leaving += t->out_len;
        t->out = NULL;
        t->out_len = t->out_cap = 0;
        buf = uv_buf_init(d->data, (unsigned)d->len);
        if (uv_write(&d->write, (uv_stream_t *)&t->pipe, &buf, 1, on_written) == 0)
                return;
        t->leaving -= d->len;
        t->deaf = true;
        free(d->data);
        free(d);
}

int transport_send(struct transport *t, const char *data, size_t len)
{
        if (t->closing || t->gone || t->deaf)
                return 0;
        if (t->out_len + len > t->out_cap) {
                size_t cap = t->out_cap == 0 ? 1024 : t->out_cap;
                char *grown;

                while (cap < t->out_len + len)
                        cap *= 2;
                grown = realloc(t->out, cap);
                if (grown == NULL)
                        return -ENOMEM;
                t->out = grown;
                t->out_cap = cap;
        }
        memcpy(t->out + t->out_len, data, len);
        t->out_len += len;
        later(t);
        return 0;
}

size_t transport_unsent(const struct transport *t)
{
        return t->leaving + t->out_len;
}

void transport_flush(struct transport *t)
{
        send_out(t);            /* what the pipe has room for is in it when the call returns */
}

/* ---- the group: all callbacks but libuv's own come from here ---- */

static void hold_back(struct transport *t)
{
        if (t->held || t->out_len == 0)
                return;
        t->held = true;
        TAILQ_INSERT_TAIL(&t->group->held, t, held_entry);
}

void transport_group_hold(struct transport_group *g, bool on)
{
        struct transport *t;

        g->holds = on;
        while (!on && (t = TAILQ_FIRST(&g->held)) != NULL) {
                not_held(t);
                later(t);
        }
}

static void on_prepare(uv_prepare_t *prepare)
{
        struct transport_group *g = prepare->data;
        struct transport *t;

        g->round++;
        uv_idle_stop(&g->idle);
        while ((t = TAILQ_FIRST(&g->pending)) != NULL && t->round != g->round) {
                not_later(t);
                if (g->holds)
                        hold_back(t);
                else if (t->leaving == 0)
                        send_out(t);
                if (t->drained && transport_unsent(t) == 0 && !t->gone)
                        t->events->drained(t->arg);
                t->drained = false;
                if (!t->closing && !t->gone)
                        read_some(t);
        }
}

struct transport_group *transport_group_create(uv_loop_t *loop)
{
        struct transport_group *g = calloc(1, sizeof *g);

        if (g == NULL)
                return NULL;
        g->loop = loop;
        TAILQ_INIT(&g->pending);
        TAILQ_INIT(&g->held);
        uv_prepare_init(loop, &g->prepare);
        uv_idle_init(loop, &g->idle);
        g->prepare.data = g->idle.data = g;
        g->handles = 2;
        uv_prepare_start(&g->prepare, on_prepare);
        return g;
}

static void group_closed(uv_handle_t *handle)
{
        struct transport_group *g = handle->data;

        if (--g->handles == 0)
                free(g);
}

void transport_group_destroy(struct transport_group *g)
{
        if (g == NULL)
                return;
        uv_close((uv_handle_t *)&g->prepare, group_closed);
        uv_close((uv_handle_t *)&g->idle, group_closed);
}

/* ---- begin and end ---- */

static void transport_closed(uv_handle_t *handle)
{
        struct transport *t = handle->data;

        free(t->out);
        free(t->in);
        free(t);
}

struct transport *transport_create(struct transport_group *g, int fd, const struct transport_events *events, void *arg)
{
        struct transport *t = calloc(1, sizeof *t);
        int file = -1;

        if (t == NULL || (t->in = malloc(IN_BYTES)) == NULL || uv_pipe_init(g->loop, &t->pipe, 0) != 0)
                goto fail;
        t->group = g;
        t->events = events;
        t->arg = arg;
        t->reading = true;
        t->pipe.data = t;
        file = _open_osfhandle((intptr_t)pl_int_handle(fd), 0); /* of which there are only so many: file_limit_raise() */
        if (file < 0 || uv_pipe_open(&t->pipe, file) != 0) {
                t->closing = true;
                uv_close((uv_handle_t *)&t->pipe, transport_closed);
                t = NULL;
                goto fail;
        }
        set_uv_reading(t, true);
        return t;
fail:
        if (file >= 0)
                _close(file);
        else
                CloseHandle(pl_int_handle(fd));
        if (t != NULL)
                free(t->in);
        free(t);
        return NULL;
}

void transport_refuse(int fd, const char *line)
{
        OVERLAPPED overlapped = {.hEvent = CreateEventW(NULL, TRUE, FALSE, NULL)};
        HANDLE pipe = pl_int_handle(fd);
        DWORD written;

        if (line != NULL && overlapped.hEvent != NULL && !WriteFile(pipe, line, (DWORD)strlen(line), NULL, &overlapped) && GetLastError() == ERROR_IO_PENDING) {
                CancelIoEx(pipe, &overlapped);          /* a new pipe has room: it has gone, or never will */
                (void)GetOverlappedResult(pipe, &overlapped, &written, TRUE);
        }
        if (overlapped.hEvent != NULL)
                CloseHandle(overlapped.hEvent);
        CloseHandle(pipe);
}

void transport_destroy(struct transport *t)
{
        if (t == NULL || t->closing)
                return;
        not_later(t);
        not_held(t);
        t->closing = true;
        uv_close((uv_handle_t *)&t->pipe, transport_closed);
}
