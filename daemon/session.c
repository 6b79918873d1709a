/*
 * A session carries out its lines in shares (turns.h): hundreds of expensive ones in one write must not stop everybody else. While its next turn is
 * awaited nothing more is read; a hang-up is noticed all the same, and then the rest of the lines is carried out, turn by turn, before it ends.
 *
 * It ends from within its own callbacks of the transport and of the turns only, never while dispatch is on the stack.
 */
#include "session.h"

#include "frame.h"
#include "log.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#define READ_BYTES 16384
#define HOLD_BACK_MS 1000       /* then a request whose descriptor is held back is better refused */

bool session_clogged(const struct session *s)
{
        size_t unsent = transport_unsent(s->transport);

        return unsent > PL_BACKLOG_BYTES_MAX || (unsent > 0 && account_clogged(s->account));
}

static void tell_backlog(struct session *s)
{
        size_t unsent;

        if (s->account == NULL)
                return;
        unsent = transport_unsent(s->transport);
        account_backlog(s->account, s->backlog, unsent);
        s->backlog = unsent;
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
        return s->broken || session_clogged(s) || dispatch_is_full(s->client);
}

/* False: no whole line is left. */
static bool consume_line(struct session *s)
{
        char *line;
        size_t len;

        if (s->frame == NULL)
                return false;
        switch (pl_frame_next(s->frame, &line, &len)) {
        case PL_FRAME_NONE:
                return false;
        case PL_FRAME_TOO_LONG:
                dispatch_long_line(s->group->dispatch, s->client);
                break;
        case PL_FRAME_LINE:
                if (!is_blank(line, len))
                        dispatch_line(s->group->dispatch, s->client, line, len);
                break;
        }
        return true;
}

/* Carry out the whole lines that are there, unless replies or requests pile up or its share is used up. */
static void consume(struct session *s)
{
        while (!must_pause(s)) {
                if (s->frame != NULL && !pl_frame_is_empty(s->frame) && !session_take_share(s)) {
                        transport_skip(s->transport, true);
                        turns_next(s->group->turns, &s->turn);
                        return;
                }
                if (!consume_line(s))
                        return;
        }
        if (!s->paused) {
                s->paused = true;
                transport_reading(s->transport, false);
        }
}

static void free_frame(struct pl_frame *frame)
{
        if (frame != NULL)
                pl_frame_clear(frame);
        free(frame);
}

/*
 * A frame and its buffer are large, and a session needs them for a moment only: from the read to its last whole line. So there is one that all of them use
 * in turn, and those with half a line, or with more than their share, have their own. False: no memory.
 */
static bool take_frame(struct session *s)
{
        struct session_group *g = s->group;

        if (s->frame != NULL)
                return true;
        s->frame = g->spare;
        g->spare = NULL;
        if (s->frame == NULL && (s->frame = malloc(sizeof *s->frame)) != NULL)
                pl_frame_init(s->frame, PL_LINE_MAX);
        return s->frame != NULL;
}

static void return_frame(struct session *s)
{
        struct pl_frame *frame = s->frame;
        struct session_group *g = s->group;

        if (frame == NULL || !pl_frame_is_empty(frame) || frame->discarding)
                return;
        s->frame = NULL;
        if (g->spare == NULL && frame->cap <= 2 * READ_BYTES)
                g->spare = frame;
        else
                free_frame(frame);
}

void session_group_clear(struct session_group *group)
{
        free_frame(group->spare);
        group->spare = NULL;
}

static void carry_out(struct session *s)
{
        consume(s);
        return_frame(s);
}

static size_t on_room(void *arg, char **out)
{
        struct session *s = arg;

        return take_frame(s) ? pl_frame_reserve(s->frame, READ_BYTES, out) : 0;
}

/* What is unsent goes with the transport. */
static void forget_backlog(struct session *s)
{
        account_backlog(s->account, s->backlog, 0);
        s->backlog = 0;
}

/* Begin, or go on in the next turn: the locks that it has are given back in shares. Nothing is read or sent meanwhile. */
static void end(struct session *s)
{
        turns_remove(s->group->turns, &s->turn);
        transport_reading(s->transport, false);
        s->broken = true;
        forget_backlog(s);
        if (!dispatch_end(s->group->dispatch, s->client)) {
                turns_next(s->group->turns, &s->turn);
                return;
        }
        s->account = NULL;
        s->client = NULL;
        s->group->over(s->group->arg, s);
}

void session_fail(struct session *s, const char *reason)
{
        if (s->broken)
                return;
        log_event(LOG_WARNING, "session_ended", "session=%llu reason=%s", (unsigned long long)s->client->id, reason);
        s->broken = true;
        turns_next(s->group->turns, &s->turn);
}

static enum transport_take on_take(void *arg)
{
        struct session *s = arg;

        if (dispatch_has_room(s->group->dispatch, s->client)) {
                s->held_back_until_ms = 0;
                return TRANSPORT_TAKE;
        }
        return s->held_back_until_ms == 0 || turns_now(s->group->turns) < s->held_back_until_ms ? TRANSPORT_HOLD_BACK : TRANSPORT_DROP;
}

static void on_held_back(void *arg)
{
        struct session *s = arg;

        if (s->held_back_until_ms == 0)
                s->held_back_until_ms = turns_now(s->group->turns) + HOLD_BACK_MS;
        turns_park(s->group->turns, &s->turn, s->held_back_until_ms);
}

static void on_received(void *arg, size_t len, const int *fds, size_t count)
{
        struct session *s = arg;
        bool room = true;
        size_t i;

        for (i = 0; i < count; i++)
                room = dispatch_descriptor(s->group->dispatch, s->client, fds[i]) && room;
        pl_frame_commit(s->frame, len);
        if (!room)
                session_fail(s, "unclaimed_descriptors");        /* or no memory for them */
        carry_out(s);
}

static void on_ended(void *arg)
{
        /* What was asked is still carried out and answered; the session ends when nobody is there to read it. */
        return_frame(arg);
}

/* What the client sent before it went is carried out first, unless that would have to wait for anything. */
static void finish(struct session *s)
{
        do
                carry_out(s);
        while (s->turn.state != TURN_NEXT && !s->paused && transport_drain(s->transport));
        if (s->turn.state != TURN_NEXT || s->paused)
                end(s);
}

static void on_gone(void *arg)
{
        struct session *s = arg;

        if (s->broken || s->paused || s->turn.state == TURN_PARKED) {
                end(s);
                return;
        }
        s->gone = true;
        dispatch_gone(s->client);
        if (s->turn.state == TURN_NONE)
                finish(s);
}

static void on_turn(struct turn *turn)
{
        struct session *s = (struct session *)((char *)turn - offsetof(struct session, turn));

        transport_skip(s->transport, false);
        if (s->broken) {
                end(s);
                return;
        }
        dispatch_go_on(s->group->dispatch, s->client);
        if (s->gone) {
                finish(s);
                return;
        }
        if (s->paused)
                return;
        carry_out(s);
        if (!s->paused)
                transport_reading(s->transport, true);
}

bool session_take_share(struct session *s)
{
        return turns_take(s->group->turns, &s->share, 1) &&
               (s->account == NULL || turns_take(s->group->turns, &s->account->share, ACCOUNT_SHARES));
}

void session_again(struct session *s)
{
        turns_next(s->group->turns, &s->turn);
}

void session_resume(struct session *s)
{
        if (!s->paused || s->client == NULL || must_pause(s))
                return;
        s->paused = false;
        /* In its next turn: dispatch may be on the stack. */
        transport_skip(s->transport, true);
        turns_next(s->group->turns, &s->turn);
}

static void on_drained(void *arg)
{
        tell_backlog(arg);
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
        .take = on_take, .held_back = on_held_back, .room = on_room, .received = on_received, .ended = on_ended, .gone = on_gone, .drained = on_drained};

struct session *session_create(struct session_group *group, int fd, struct peer *peer, const char **text)
{
        struct session *s = calloc(1, sizeof *s);

        *text = "memory";
        if (s == NULL)
                goto fail;
        s->group = group;
        s->turn.run = on_turn;
        s->client = dispatch_open(group->dispatch, s, peer, text);
        if (s->client == NULL)
                goto fail;
        s->account = dispatch_account(s->client);
        s->transport = transport_create(group->transports, fd, &events, s);
        if (s->transport == NULL) {
                dispatch_close(group->dispatch, s->client);
                goto fail_closed;
        }
        return s;
fail:
        (void)peer_command(peer);       /* for the log, while it can be asked */
        refuse(fd, *text);
fail_closed:
        peer->connection = -1;
        free(s);
        return NULL;
}

void session_destroy(struct session *s)
{
        turns_remove(s->group->turns, &s->turn);
        if (s->client != NULL) {
                forget_backlog(s);
                dispatch_close(s->group->dispatch, s->client);
        }
        transport_flush(s->transport);
        transport_destroy(s->transport);
        free_frame(s->frame);
        free(s);
}

void session_send(struct session *s, const char *data, size_t len)
{
        if (s->broken)
                return;
        if (transport_send(s->transport, data, len) != 0)
                session_fail(s, "out_of_memory");
        tell_backlog(s);
}
