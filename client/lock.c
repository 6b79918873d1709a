/*
 * Lock and unlock. A lock request can take several turns: a file on NFS has to be opened for writing first, and a file that was replaced while we
 * waited guards nothing: the lock is given back and asked for on the new one.
 */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct lock_op {
        struct portalock_file *file;            /* NULL: closed meanwhile */
        struct portalock_session *session;
        int flags;
        int64_t deadline_ms;                    /* the caller's; NEVER */
        int64_t since_ms;                       /* when it was asked for */
        int64_t request;                        /* the id of the turn under way */
        bool was_locked, writing, cancelled, sent;
        bool follows;                           /* the file was replaced, the lock on the old one is given back */
        bool bore;                              /* the caller's descriptor may have borne a lock before */
        void (*done)(void *arg, portalock_file *f, int result);
        void *arg;
};

struct unlock_op {
        struct portalock_file *file;            /* NULL: closed meanwhile */
        int64_t request, lock, token;           /* lock 0: nothing was locked */
        int mode;
        void (*done)(void *arg, portalock_file *f, int result);
        void *arg;
        LIST_ENTRY(unlock_op) entry;
};

static void on_locked(void *arg, int code, struct pl_reply *reply);

/* Tell the daemon to give up lock `id`; with `done` its answer is of interest. A request id or a negative error code. */
static int64_t send_unlock(struct portalock_session *s, int64_t id, bool close_only, int64_t deadline_ms, request_broken *broken, request_done *done, void *arg)
{
        struct pl_writer w;

        request_begin(s, &w, "unlock");
        pl_write_integer(&w, "lock", id);
        if (close_only)
                pl_write_bool(&w, "close", true);
        return request_send(s, &w, -1, deadline_ms, broken, done, arg);
}

/* ---- lock ---- */

static void finish(struct lock_op *op, int code)
{
        struct lock_op copy = *op;

        if (op->file != NULL)
                op->file->op = NULL;
        free(op);
        if (copy.file != NULL)
                copy.done(copy.arg, copy.file, code);
}

/* It is asked again when the connection breaks, unless nobody wants it any more. */
static bool lock_broken(void *arg)
{
        const struct lock_op *op = arg;

        return op->file != NULL && !op->cancelled;
}

/* How long it waited before the connection broke: its place in the queue. */
static void write_age(struct pl_writer *w, const struct lock_op *op, int64_t now)
{
        pl_write_open(w, "reclaim", '{');
        pl_write_integer(w, "waited_ms", now - op->since_ms);
        pl_write_close(w, '}');
}

/* One turn. 0, or an error code: then nothing is under way. */
static int send_lock(struct lock_op *op)
{
        struct portalock_session *s = op->session;
        struct portalock_file *f = op->file;
        bool nonblock = (op->flags & PORTALOCK_NB) != 0, again = request_is_held(s, op->request);
        int64_t now = os_now_ms(), left = -1, answer_by = NEVER, id;
        struct pl_writer w;

        if (nonblock)
                answer_by = now + PL_CLIENT_NB_MS;
        else if (op->deadline_ms != NEVER) {
                left = op->deadline_ms > now ? op->deadline_ms - now : 1;
                answer_by = now + left + PL_CLIENT_GRACE_MS;
        }
        if (again)
                request_begin_again(s, &w, op->request, "lock");
        else
                request_begin(s, &w, "lock");
        if (f->path != NULL)
                pl_write_string(&w, "path", f->path);
        if (os_passes_descriptors())
                pl_write_bool(&w, "fd", true);
        else
                pl_write_integer(&w, "handle", f->handle);
        pl_write_open(&w, "flags", '[');
        pl_write_string(&w, NULL, (op->flags & PORTALOCK_EX) != 0 ? "LOCK_EX" : "LOCK_SH");
        if (nonblock)
                pl_write_string(&w, NULL, "LOCK_NB");
        pl_write_close(&w, ']');
        if ((op->flags & PORTALOCK_DETACH) != 0)
                pl_write_bool(&w, "detach", true);
        if (left > 0)
                pl_write_integer(&w, "timeout_ms", left);
        if (s->callbacks.waiting != NULL && !nonblock)
                pl_write_bool(&w, "notify", true);
        if (again || op->follows)
                write_age(&w, op, now);         /* it keeps its place in the queue */
        id = again ? request_send_again(s, &w, f->fd, answer_by) : request_send(s, &w, f->fd, answer_by, lock_broken, on_locked, op);
        if (id < 0)
                return (int)id;
        op->request = id;
        op->sent = true;
        return 0;
}

/* A turn of a file that has to be claimed first, or without a connection: it is sent later. */
static int begin_lock(struct lock_op *op)
{
        int64_t answer_by = (op->flags & PORTALOCK_NB) != 0 ? os_now_ms() + PL_CLIENT_NB_MS : op->deadline_ms;

        if (reconnect_settled(op->file))
                return send_lock(op);
        op->request = request_hold(op->session, answer_by, lock_broken, on_locked, op);
        return op->request < 0 ? (int)op->request : 0;
}

/* Another description of what the path names now; the old one goes. */
static int reopen(struct portalock_file *f, bool for_writing)
{
        int fd = os_open(f->path, for_writing);

        if (fd < 0)
                return client_fail_os(f->session, -fd, "open", f->path);
        os_close(f->fd);
        f->fd = fd;
        return 0;
}

/*
 * We gave up on a daemon that does not answer, but it may have taken the lock, or still take it, for what was passed to it: that must not be ours any more.
 * What a descriptor of the caller's may have got is given back; it stays what it is.
 */
static void abandon(const struct lock_op *op)
{
        struct portalock_file *f = op->file;
        int fd;

        if (!os_passes_descriptors())
                return;
        if (f->attached) {
                if (!op->bore)
                        (void)os_unlock(f->fd);
                return;
        }
        fd = os_open(f->path, false);

        os_close(f->fd);
        f->fd = fd >= 0 ? fd : -1;
}

static void take_lock(struct portalock_file *f, const struct pl_reply *reply)
{
        f->lock = integer_member(reply->body, "lock", 0);       /* null when it is detached */
        f->token = integer_member(reply->body, "token", f->token);
        f->mode = mode_member(reply->body, PORTALOCK_SH);
}

/* Does the failure call for another turn with a descriptor that is open for writing (NFS)? */
static bool wants_writing(const struct lock_op *op, int code)
{
        int error = op->session->error.os_errno;

        return code == PORTALOCK_E_OS && (error == EBADF || error == EIO) && (op->flags & PORTALOCK_EX) != 0 && !op->writing && !op->was_locked &&
               op->file->fd >= 0;
}

/* Nobody answered; what does that mean to the caller? */
static int meaning_of_silence(const struct lock_op *op)
{
        if (op->session->state == SESSION_ENDED)
                return PORTALOCK_E_CONNECTION;
        if (op->cancelled)
                return client_fail(op->session, PORTALOCK_E_CANCELLED, "the request was cancelled");
        if ((op->flags & PORTALOCK_NB) == 0 && os_now_ms() >= op->deadline_ms)
                return client_fail(op->session, PORTALOCK_E_TIMED_OUT, "the time ran out, and the daemon did not say so");
        return PORTALOCK_E_CONNECTION;
}

static void refused(struct lock_op *op, int code)
{
        struct portalock_file *f = op->file;

        if (!f->attached && !op->cancelled && wants_writing(op, code)) {
                op->writing = true;
                if (reopen(f, true) == 0 && (code = send_lock(op)) == 0)
                        return;
        }
        if (code == PORTALOCK_E_LOST)
                f->lock = 0;
        if (code == PORTALOCK_E_CONNECTION && op->was_locked && f->lock == 0 && !os_passes_descriptors()) {
                code = client_fail(op->session, PORTALOCK_E_LOST, "the lock was lost with the connection to the daemon");
        } else if (code == PORTALOCK_E_CONNECTION) {
                if (!op->was_locked)
                        abandon(op);
                code = meaning_of_silence(op);
        }
        finish(op, code);
}

static void on_locked(void *arg, int code, struct pl_reply *reply)
{
        struct lock_op *op = arg;
        struct portalock_file *f = op->file;
        int64_t lock = 0;

        if (f == NULL || code == REQUEST_FORGOTTEN) {   /* closed while it waited: whatever it got is given up */
                if (code == 0 && pl_json_integer(pl_json_get(reply->body, "lock"), &lock))
                        (void)send_unlock(op->session, lock, true, NEVER, NULL, NULL, NULL);
                free(op);
                return;
        }
        if (code != 0) {
                refused(op, code);
                return;
        }
        take_lock(f, reply);
        if (f->attached || op->was_locked || f->fd < 0 || os_is_current(f->fd, f->path)) {
                finish(op, 0);
                return;
        }
        (void)send_unlock(op->session, f->lock, false, NEVER, NULL, NULL, NULL);
        f->lock = 0;
        op->follows = true;
        if (op->cancelled)
                code = client_fail(op->session, PORTALOCK_E_CANCELLED, "the request was cancelled");
        else
                code = reopen(f, op->writing);
        if (code == 0)
                code = begin_lock(op);
        if (code != 0)
                finish(op, code);
}

bool lock_flags_are_good(int flags)
{
        return ((flags & PORTALOCK_SH) != 0) != ((flags & PORTALOCK_EX) != 0) && (flags & ~15) == 0;
}

static int64_t deadline_of(int64_t timeout_ms)
{
        int64_t now = os_now_ms();

        /* Beyond what the protocol can carry is for ever. */
        return timeout_ms < 0 || timeout_ms >= PL_INTEGER_MAX - now - PL_CLIENT_GRACE_MS ? NEVER : now + timeout_ms;
}

int portalock_lock_start(portalock_file *f, int flags, int64_t timeout_ms, void (*done)(void *arg, portalock_file *f, int result), void *arg)
{
        struct portalock_session *s = f->session;
        struct lock_op *op;
        int e = client_usable(s);

        if (e != 0)
                return e;
        if (!lock_flags_are_good(flags))
                return client_fail(s, PORTALOCK_E_ARGUMENT, "the flags must hold exactly one of PORTALOCK_SH and PORTALOCK_EX");
        if ((flags & PORTALOCK_DETACH) != 0 && !f->attached)
                return client_fail(s, PORTALOCK_E_ARGUMENT, "PORTALOCK_DETACH is for attached descriptors: an opened one would end with its file");
        if (f->op != NULL)
                return client_fail(s, PORTALOCK_E_ARGUMENT, "a lock request of this file is under way");
        op = malloc(sizeof *op);
        if (op == NULL)
                return client_no_memory(s);
        *op = (struct lock_op){.file = f, .session = s, .since_ms = os_now_ms(), .flags = flags | (timeout_ms == 0 ? PORTALOCK_NB : 0), .deadline_ms = deadline_of(timeout_ms),
                               .was_locked = f->lock != 0, .bore = f->attached && os_bears(f->fd), .done = done, .arg = arg};
        e = begin_lock(op);
        if (e != 0) {
                free(op);
                return e;
        }
        f->op = op;
        return 0;
}

int portalock_lock_cancel(portalock_file *f)
{
        int e = client_usable(f->session);

        if (e != 0)
                return e;
        client_worked(f->session);
        if (f->op == NULL || f->op->cancelled)
                return 0;
        f->op->cancelled = true;
        if (request_is_held(f->session, f->op->request))
                request_expect(f->session, f->op->request, os_now_ms());        /* `done` runs in the next turn */
        else
                (void)request_cancel(f->session, f->op->request, os_now_ms() + CALL_MAX_MS, NULL, NULL);
        return 0;
}

struct waited {
        bool over;
        int result;
};

static void on_done(void *arg, portalock_file *f, int result)
{
        struct waited *w = arg;

        (void)f;
        w->over = true;
        w->result = result;
}

int portalock_lock(portalock_file *f, int flags, int64_t timeout_ms)
{
        struct waited w = {0};
        int e = portalock_lock_start(f, flags, timeout_ms, on_done, &w);

        if (e != 0)
                return e;
        wait_until(f->session, &w.over);
        return w.result;
}

/* ---- unlock ---- */

/* Nobody knows whether it was unlocked; most probably it was not, and the next daemon will tell. */
static void take_back(portalock_file *f, const struct unlock_op *op)
{
        f->lock = op->lock;
        f->token = op->token;
        f->mode = op->mode;
        f->unconfirmed = true;
}

static void on_unlocked(void *arg, int code, struct pl_reply *reply)
{
        struct unlock_op *op = arg;
        struct unlock_op copy = *op;

        (void)reply;
        if (code == REQUEST_FORGOTTEN) {
                free(op);
                return;
        }
        if (op->file != NULL)
                LIST_REMOVE(op, entry);
        if (code == PORTALOCK_E_CONNECTION && op->file != NULL && op->lock != 0 && op->file->op == NULL && op->file->lock == 0 && os_passes_descriptors())
                take_back(op->file, op);
        free(op);
        if (copy.file != NULL)
                copy.done(copy.arg, copy.file, code);
}

static bool unlock_broken(void *arg)
{
        return ((const struct unlock_op *)arg)->file != NULL;
}

int portalock_unlock_start(portalock_file *f, void (*done)(void *arg, portalock_file *f, int result), void *arg)
{
        struct portalock_session *s = f->session;
        int64_t id, answer_by = os_now_ms() + CALL_MAX_MS;
        struct unlock_op *op;
        struct pl_writer w;
        int e = client_usable(s);

        if (e != 0)
                return e;
        op = malloc(sizeof *op);
        if (op == NULL)
                return client_no_memory(s);
        *op = (struct unlock_op){.file = f, .lock = f->lock, .token = f->token, .mode = f->mode, .done = done, .arg = arg};
        if (f->lock != 0 && reconnect_settled(f)) {
                id = send_unlock(s, f->lock, false, answer_by, unlock_broken, on_unlocked, op);
        } else if (f->lock != 0) {
                id = request_hold(s, answer_by, unlock_broken, on_unlocked, op);
        } else {                /* nothing to do, but `done` must not run before we have returned */
                request_begin(s, &w, "ping");
                id = request_send(s, &w, -1, answer_by, request_repeat, on_unlocked, op);
        }
        if (id < 0) {
                free(op);
                return (int)id;
        }
        op->request = id;
        LIST_INSERT_HEAD(&f->unlocks, op, entry);
        f->lock = 0;
        f->unconfirmed = false;
        return 0;
}

int portalock_unlock(portalock_file *f)
{
        struct waited w = {0};
        int e = client_usable(f->session);

        if (e != 0)
                return e;
        client_worked(f->session);
        if (f->lock == 0)
                return 0;
        e = portalock_unlock_start(f, on_done, &w);
        if (e != 0)
                return e;
        wait_until(f->session, &w.over);
        return w.result;
}

static void on_left(void *arg, int code, struct pl_reply *reply)
{
        bool *over = arg;

        (void)code;
        (void)reply;
        if (over != NULL)
                *over = true;
}

/* True: it was held, and is no more. */
static bool forget_held(struct portalock_session *s, int64_t request)
{
        if (!request_is_held(s, request))
                return false;
        request_forget(s, request);
        return true;
}

void lock_leave(portalock_file *f, bool wait)
{
        struct portalock_session *s = f->session;
        int64_t answer_by = os_now_ms() + PL_CLIENT_GRACE_MS;
        struct unlock_op *u;
        bool over = false;
        int64_t id = -1;

        reconnect_closed(f);
        while ((u = LIST_FIRST(&f->unlocks)) != NULL) {
                LIST_REMOVE(u, entry);
                u->file = NULL;
                if (forget_held(s, u->request))
                        free(u);
        }
        if (f->op != NULL)
                f->op->file = NULL;
        if (f->op != NULL && forget_held(s, f->op->request)) {
                free(f->op);
                f->op = NULL;
        }
        if (s->state != SESSION_READY)
                return;
        if (f->op != NULL)
                id = request_cancel(s, f->op->request, answer_by, on_left, wait && f->lock == 0 ? &over : NULL);
        if (f->lock != 0 && !f->unconfirmed)
                id = send_unlock(s, f->lock, true, answer_by, NULL, on_left, wait ? &over : NULL);
        if (wait && id >= 0)
                wait_until(s, &over);
}

struct portalock_file *lock_waiting(struct portalock_session *s, int64_t request)
{
        struct portalock_file *f;

        LIST_FOREACH(f, &s->files, entry) {
                if (f->op != NULL && f->op->request == request)
                        return f;
        }
        return NULL;
}

/* ---- the connection breaks (reconnect.c) ---- */

void lock_interrupted(portalock_file *f)
{
        struct lock_op *op = f->op;

        f->unconfirmed = f->lock != 0;
        if (op == NULL || !op->sent || request_is_held(f->session, op->request))
                return;
        if ((op->flags & PORTALOCK_SH) != 0)
                f->mode = PORTALOCK_SH; /* a downgrade that may have been done */
        if ((op->flags & PORTALOCK_NB) == 0)
                request_expect(f->session, op->request, op->deadline_ms);
}

static struct unlock_op *held_unlock(const portalock_file *f)
{
        struct unlock_op *u;

        LIST_FOREACH(u, &f->unlocks, entry) {
                if (u->lock != 0 && request_is_held(f->session, u->request))
                        return u;
        }
        return NULL;
}

bool lock_to_claim(const portalock_file *f, int64_t *token, int *mode)
{
        const struct unlock_op *u = held_unlock(f);

        *token = u != NULL ? u->token : f->token;
        *mode = u != NULL ? u->mode : f->mode;
        return u != NULL || f->unconfirmed;
}

void lock_claimed(portalock_file *f, const struct pl_reply *reply)
{
        struct unlock_op *u = held_unlock(f);
        struct pl_writer w;

        if (u == NULL) {
                take_lock(f, reply);
                f->unconfirmed = false;
        } else {
                u->lock = integer_member(reply->body, "lock", 0);
                request_begin_again(f->session, &w, u->request, "unlock");
                pl_write_integer(&w, "lock", u->lock);
                (void)request_send_again(f->session, &w, -1, os_now_ms() + CALL_MAX_MS);
        }
        lock_send_held(f);
}

/* There is nothing to unlock. */
static void conclude_unlock(struct unlock_op *u)
{
        struct unlock_op copy = *u;

        request_forget(u->file->session, u->request);
        LIST_REMOVE(u, entry);
        free(u);
        client_worked(copy.file->session);
        copy.done(copy.arg, copy.file, 0);
}

void lock_not_claimed(portalock_file *f, const char *by)
{
        struct portalock_session *s = f->session;
        struct unlock_op *u = held_unlock(f);
        struct lock_op *op = f->op;

        if (u != NULL) {
                conclude_unlock(u);
                return;
        }
        f->lock = 0;
        f->unconfirmed = false;
        if (op != NULL)
                request_forget(s, op->request);
        if (s->callbacks.lost != NULL)
                s->callbacks.lost(s->callbacks_arg, f, by);
        if (op != NULL)
                finish(op, client_fail(s, PORTALOCK_E_LOST, "the lock was gone when the daemon was back"));
}

void lock_send_held(portalock_file *f)
{
        struct lock_op *op = f->op;
        int e;

        if (op == NULL || !request_is_held(f->session, op->request) || !reconnect_settled(f))
                return;
        e = send_lock(op);
        if (e == 0)
                return;
        request_forget(f->session, op->request);
        finish(op, e);
}
