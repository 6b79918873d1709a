/*
 * Going on when the connection breaks: the daemon was killed, or stopped, or does not answer.
 *
 * No lock is lost by that where our descriptors bear them; elsewhere (Windows) all are, at once, and the rest is about what waits. So the session stays.
 * What is under way and can be asked again is held; connect.c looks for a daemon, or starts one, with growing pauses; then each file goes through the same
 * steps:
 *
 *      claim what it held (the kernel is the witness)   ->   send the unlock, or the lock request, that was under way
 *
 * An upgrade or an unlock needs the claim's answer first: it is about a lock that the new daemon does not know. A lock request that waited says how long it
 * did, and finds its place again. What was granted just before the daemon died, the new one finds in the kernel. What cannot be asked twice (a call
 * of the caller's that changes something) fails with E_CONNECTION.
 *
 * The search ends after reconnect_ms, and so does the session. What was locked stays locked, but no daemon sees it any more.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>

#define FLAP_MS 1000
#define FLAP_PAUSE_MAX_MS 64
#define CLAIMS_MAX 256  /* under way at a time: each has a descriptor on its way */

static void tell(struct portalock_session *s, bool connected)
{
        if (s->callbacks.connection != NULL)
                s->callbacks.connection(s->callbacks_arg, connected);
}

static bool holds_something(const struct portalock_session *s)
{
        const struct portalock_file *f;

        LIST_FOREACH(f, &s->files, entry) {
                if (f->lock != 0)
                        return true;
        }
        return false;
}

/* For good. */
static void give_up(struct portalock_session *s, const char *text)
{
        char why[sizeof s->ended_text];

        snprintf(why, sizeof why, "%.300s, and none was found for %lld ms%s", text, (long long)s->reconnect_ms,
                 holds_something(s) ? "; what is locked stays locked by its descriptor, but no daemon sees it any more" : "");
        session_end(s, PORTALOCK_E_CONNECTION, why);
}

/* At once, unless the last daemon was there for a moment only: one that dies of what we ask it must not be started without a pause for ever. */
static void begin_search(struct portalock_session *s)
{
        s->lost = true;
        s->connect_deadline_ms = os_now_ms() + s->reconnect_ms;
        s->flaps = os_now_ms() - s->ready_ms < FLAP_MS ? s->flaps + 1 : 0;
        s->pause_ms = s->flaps == 0 ? 0 : s->flaps < 6 ? INT64_C(1) << (s->flaps - 1) : FLAP_PAUSE_MAX_MS / 2;
        connect_again(s, s->flaps == 0);
}

/* Where the daemon's own lock was the only one nothing is left that could be claimed. */
static void lose_all(struct portalock_session *s)
{
        struct portalock_file *f = LIST_FIRST(&s->files);
        int64_t token;
        int mode;

        while (f != NULL) {
                if (!lock_to_claim(f, &token, &mode)) {
                        f = LIST_NEXT(f, entry);
                        continue;
                }
                lock_not_claimed(f, "the end of the connection");
                f = LIST_FIRST(&s->files);      /* the callbacks may have closed any of them */
        }
}

void reconnect_begin(struct portalock_session *s, int code, const char *text)
{
        char why[sizeof s->text];
        struct portalock_file *f;
        bool first = !s->lost;

        if (s->reconnect_ms == 0 || !s->greeted || s->state == SESSION_ENDED) {
                session_end(s, code, text);     /* at most once */
                return;
        }
        snprintf(why, sizeof why, "%s", text != NULL ? text : s->text);
        conn_close(s);
        s->stopping = false;
        s->claims = 0;
        LIST_FOREACH(f, &s->files, entry)
                lock_interrupted(f);
        if (first)
                begin_search(s);
        else
                connect_again(s, false);
        request_interrupt(s, os_now_ms(), why);
        if (!os_passes_descriptors())
                lose_all(s);
        if (first)
                tell(s, false);
        if (os_now_ms() >= s->connect_deadline_ms)
                give_up(s, why);
}

/* ---- claims ---- */

static void claim_more(struct portalock_session *s);

static void on_claimed(void *arg, int code, struct pl_reply *reply)
{
        struct portalock_file *f = arg;
        struct portalock_session *s;

        if (code == REQUEST_FORGOTTEN)
                return;
        s = f->session;
        f->claim = 0;
        if (code == PORTALOCK_E_CONNECTION)
                return;         /* it broke once more */
        s->claims--;
        if (code == 0) {
                lock_claimed(f, reply);
        } else if (code == PORTALOCK_E_LOST) {
                lock_not_claimed(f, "reclaim");
        } else {
                reconnect_begin(s, code, NULL); /* out of descriptors, perhaps: later */
                return;
        }
        claim_more(s);
}

/* 0, or an error code. */
static int claim(struct portalock_file *f, int64_t token, int mode)
{
        const char *flag = mode == PORTALOCK_EX ? "LOCK_EX" : "LOCK_SH";
        struct portalock_session *s = f->session;
        struct pl_writer w;

        request_begin(s, &w, "lock");
        if (f->path != NULL)
                pl_write_string(&w, "path", f->path);
        pl_write_bool(&w, "fd", true);
        pl_write_open(&w, "flags", '[');
        pl_write_string(&w, NULL, flag);
        pl_write_close(&w, ']');
        pl_write_open(&w, "reclaim", '{');
        pl_write_integer(&w, "token", token);
        pl_write_string(&w, "mode", flag);
        pl_write_close(&w, '}');
        f->claim = request_send(s, &w, f->fd, os_now_ms() + CALL_MAX_MS, NULL, on_claimed, f);
        if (f->claim > 0) {
                s->claims++;
                return 0;
        }
        f->claim = 0;
        return s->error.code;
}

bool reconnect_settled(const portalock_file *f)
{
        int64_t token;
        int mode;

        return f->session->state == SESSION_READY && f->claim == 0 && !lock_to_claim(f, &token, &mode);
}

static void go_on(portalock_file *f)
{
        struct portalock_session *s = f->session;
        int64_t token;
        int mode, e;

        if (s->state != SESSION_READY || f->claim != 0)
                return;
        if (!lock_to_claim(f, &token, &mode)) {
                lock_send_held(f);      /* it does nothing if nothing is */
                return;
        }
        if (s->claims >= CLAIMS_MAX)
                return;
        e = claim(f, token, mode);
        if (e == PORTALOCK_E_OS && s->error.os_errno == EBADF)
                lock_not_claimed(f, "reclaim");    /* the caller has closed it */
        else if (e != 0 && s->claims == 0)
                reconnect_begin(s, e, NULL);
}

/* `act` may run callbacks, which may close files. */
static void each_file(struct portalock_session *s, void (*act)(portalock_file *f))
{
        struct portalock_file *f, *next;
        unsigned closings;

        for (f = LIST_FIRST(&s->files); f != NULL && s->state == SESSION_READY; f = next) {
                next = LIST_NEXT(f, entry);
                closings = s->closings;
                act(f);
                if (s->closings != closings)
                        next = LIST_FIRST(&s->files);
        }
}

/* All files once more, when the last bundle of claims is through; after the last one all is as it was. */
static void claim_more(struct portalock_session *s)
{
        if (s->claims > 0 || s->state != SESSION_READY)
                return;
        each_file(s, go_on);
        if (s->claims > 0 || s->state != SESSION_READY || !s->lost)
                return;
        s->lost = false;
        s->ready_ms = os_now_ms();
        tell(s, true);
}

/* Nobody wants the lock any more: the daemon drops its duplicate. */
static void on_claimed_in_vain(void *arg, int code, struct pl_reply *reply)
{
        struct portalock_session *s = arg;
        struct pl_writer w;

        if (code == PORTALOCK_E_CONNECTION || code == REQUEST_FORGOTTEN)
                return;
        s->claims--;
        if (code == 0) {
                request_begin(s, &w, "unlock");
                pl_write_integer(&w, "lock", integer_member(reply->body, "lock", 0));
                pl_write_bool(&w, "close", true);
                (void)request_send(s, &w, -1, NEVER, NULL, NULL, NULL);
        }
        claim_more(s);
}

void reconnect_closed(portalock_file *f)
{
        if (f->claim != 0)
                request_redirect(f->session, f->claim, on_claimed_in_vain, f->session);
}

static void on_watched(void *arg, int code, struct pl_reply *reply)
{
        (void)arg;      /* nothing can be done about it */
        (void)code;
        (void)reply;
}

static void watch_again(struct portalock_session *s)
{
        const struct watch *watch;
        struct pl_writer w;

        for (watch = s->watches; watch != NULL; watch = watch->next) {
                request_begin(s, &w, "watch");
                if (watch->path[0] != '\0')
                        pl_write_string(&w, "path", watch->path);
                (void)request_send(s, &w, -1, os_now_ms() + CALL_MAX_MS, NULL, on_watched, s);
        }
}

void reconnect_resume(struct portalock_session *s)
{
        watch_again(s);
        request_send_held(s);
        claim_more(s);
}
