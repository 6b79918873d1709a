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
        bool was_locked, writing, cancelled, follows;   /* follows: the file was replaced, the lock on the old one is given back */
        void (*done)(void *arg, portalock_file *f, int result);
        void *arg;
};

struct unlock_op {
        struct portalock_file *file;            /* NULL: closed meanwhile */
        void (*done)(void *arg, portalock_file *f, int result);
        void *arg;
        LIST_ENTRY(unlock_op) entry;
};

static void on_locked(void *arg, int code, struct pl_reply *reply);

/* Tell the daemon to give up lock `id`; with `done` its answer is of interest. A request id or a negative error code. */
static int64_t send_unlock(struct portalock_session *s, int64_t id, bool close_only, int64_t deadline_ms, request_done *done, void *arg)
{
        struct pl_writer w;

        request_begin(s, &w, "unlock");
        pl_write_integer(&w, "lock", id);
        if (close_only)
                pl_write_bool(&w, "close", true);
        return request_send(s, &w, -1, deadline_ms, done, arg);
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

/* One turn. 0, or an error code: then nothing is under way. */
static int send_lock(struct lock_op *op)
{
        struct portalock_session *s = op->session;
        struct portalock_file *f = op->file;
        bool nonblock = (op->flags & PORTALOCK_NB) != 0;
        int64_t now = os_now_ms(), left = -1, answer_by = NEVER;
        struct pl_writer w;

        if (nonblock)
                answer_by = now + PL_CLIENT_NB_MS;
        else if (op->deadline_ms != NEVER) {
                left = op->deadline_ms > now ? op->deadline_ms - now : 1;
                answer_by = now + left + PL_CLIENT_GRACE_MS;
        }
        request_begin(s, &w, "lock");
        if (f->path != NULL)
                pl_write_string(&w, "path", f->path);
        pl_write_bool(&w, "fd", true);
        pl_write_open(&w, "flags", '[');
        pl_write_string(&w, NULL, (op->flags & PORTALOCK_EX) != 0 ? "LOCK_EX" : "LOCK_SH");
        if (nonblock)
                pl_write_string(&w, NULL, "LOCK_NB");
        pl_write_close(&w, ']');
        if ((op->flags & PORTALOCK_DETACH) != 0)
                pl_write_bool(&w, "detach", true);
        if (left > 0)
                pl_write_integer(&w, "timeout_ms", left);
        if (op->follows) {      /* it keeps its place in the queue */
                pl_write_open(&w, "reclaim", '{');
                pl_write_integer(&w, "waited_ms", now - op->since_ms);
                pl_write_close(&w, '}');
        }
        if (s->callbacks.waiting != NULL && !nonblock)
                pl_write_bool(&w, "notify", true);
        op->request = request_send(s, &w, f->fd, answer_by, on_locked, op);
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

/* We gave up on a daemon that does not answer, but it may still take the lock for what was passed to it: that must not be ours any more. */
static void abandon(struct portalock_file *f)
{
        int fd = os_open(f->path, false);

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

        return code == PORTALOCK_E_OS && (error == EBADF || error == EIO) && (op->flags & PORTALOCK_EX) != 0 && !op->writing && !op->was_locked;
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
        if (code == PORTALOCK_E_CONNECTION && !op->was_locked && !f->attached)
                abandon(f);
        finish(op, code);
}

static void on_locked(void *arg, int code, struct pl_reply *reply)
{
        struct lock_op *op = arg;
        struct portalock_file *f = op->file;
        int64_t lock = 0;

        if (f == NULL) {        /* closed while it waited: whatever it got is given up */
                if (code == 0 && pl_json_integer(pl_json_get(reply->body, "lock"), &lock))
                        (void)send_unlock(op->session, lock, true, NEVER, NULL, NULL);
                free(op);
                return;
        }
        if (code != 0) {
                refused(op, code);
                return;
        }
        take_lock(f, reply);
        if (f->attached || op->was_locked || os_is_current(f->fd, f->path)) {
                finish(op, 0);
                return;
        }
        (void)send_unlock(op->session, f->lock, false, NEVER, NULL, NULL);
        f->lock = 0;
        op->follows = true;
        if (op->cancelled)
                code = client_fail(op->session, PORTALOCK_E_CANCELLED, "the request was cancelled");
        else
                code = reopen(f, op->writing);
        if (code == 0)
                code = send_lock(op);
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
        *op = (struct lock_op){.file = f, .session = s, .flags = flags | (timeout_ms == 0 ? PORTALOCK_NB : 0), .deadline_ms = deadline_of(timeout_ms),
                               .since_ms = os_now_ms(), .was_locked = f->lock != 0, .done = done, .arg = arg};
        e = send_lock(op);
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

static void on_unlocked(void *arg, int code, struct pl_reply *reply)
{
        struct unlock_op *op = arg;
        struct unlock_op copy = *op;

        (void)reply;
        if (op->file != NULL)
                LIST_REMOVE(op, entry);
        free(op);
        if (copy.file != NULL)
                copy.done(copy.arg, copy.file, code);
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
        *op = (struct unlock_op){.file = f, .done = done, .arg = arg};
        if (f->lock != 0) {
                id = send_unlock(s, f->lock, false, answer_by, on_unlocked, op);
        } else {                /* nothing to do, but `done` must not run before we have returned */
                request_begin(s, &w, "ping");
                id = request_send(s, &w, -1, answer_by, on_unlocked, op);
        }
        if (id < 0) {
                free(op);
                return (int)id;
        }
        LIST_INSERT_HEAD(&f->unlocks, op, entry);
        f->lock = 0;
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

void lock_leave(portalock_file *f, bool wait)
{
        struct portalock_session *s = f->session;
        int64_t answer_by = os_now_ms() + PL_CLIENT_GRACE_MS;
        struct unlock_op *u;
        bool over = false;
        int64_t id = -1;

        while ((u = LIST_FIRST(&f->unlocks)) != NULL) {
                LIST_REMOVE(u, entry);
                u->file = NULL;
        }
        if (f->op != NULL)
                f->op->file = NULL;
        if (s->state != SESSION_READY)
                return;
        if (f->op != NULL)
                id = request_cancel(s, f->op->request, answer_by, on_left, wait && f->lock == 0 ? &over : NULL);
        if (f->lock != 0)
                id = send_unlock(s, f->lock, true, answer_by, on_left, wait ? &over : NULL);
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
