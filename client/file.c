/* Lock files: open, lock, unlock, close. */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

int portalock_open(portalock_session *s, const char *path, portalock_file **out)
{
        struct portalock_file *f;
        int e = client_usable(s);

        *out = NULL;
        if (e != 0)
                return e;
        f = calloc(1, sizeof *f);
        if (f == NULL || (f->path = os_absolute(path)) == NULL) {
                free(f);
                return client_fail(s, PORTALOCK_E_NO_MEMORY, "out of memory");
        }
        f->session = s;
        f->fd = os_open(f->path, false);
        if (f->fd < 0) {
                e = client_fail_os(s, -f->fd, "open", path);
                free(f->path);
                free(f);
                return e;
        }
        client_worked(s);
        *out = f;
        return 0;
}

int portalock_file_fd(const portalock_file *f)
{
        return f->fd;
}

int64_t portalock_token(const portalock_file *f)
{
        return f->lock != 0 ? f->token : 0;
}

/* One lock request for the file's present descriptor. */
static int lock_once(portalock_file *f, int flags, int64_t timeout_ms, const struct interruption *i)
{
        struct portalock_session *s = f->session;
        bool nonblock = (flags & PORTALOCK_NB) != 0 || timeout_ms == 0;
        int64_t wait_ms = nonblock ? PL_CLIENT_NB_MS : timeout_ms < 0 ? -1 : timeout_ms + PL_CLIENT_GRACE_MS;
        struct pl_writer w;
        struct pl_reply r;
        int e;

        call_begin(s, &w, "lock");
        pl_write_string(&w, "path", f->path);
        pl_write_bool(&w, "fd", true);
        pl_write_open(&w, "flags", '[');
        pl_write_string(&w, NULL, (flags & PORTALOCK_EX) != 0 ? "LOCK_EX" : "LOCK_SH");
        if (nonblock)
                pl_write_string(&w, NULL, "LOCK_NB");
        pl_write_close(&w, ']');
        if (!nonblock && timeout_ms > 0)
                pl_write_integer(&w, "timeout_ms", timeout_ms);
        e = call_wait(s, &w, f->fd, wait_ms, i, &r);
        if (e != 0) {
                if (e == PORTALOCK_E_LOST)
                        f->lock = 0;
                return e;
        }
        (void)pl_json_integer(pl_json_get(r.body, "lock"), &f->lock);
        (void)pl_json_integer(pl_json_get(r.body, "token"), &f->token);
        pl_reply_clear(&r);
        return 0;
}

/* Another description of what the path names now; the old one goes. */
static int reopen(portalock_file *f, bool for_writing)
{
        int fd = os_open(f->path, for_writing);

        if (fd < 0)
                return client_fail_os(f->session, -fd, "open", f->path);
        close(f->fd);
        f->fd = fd;
        return 0;
}

/* We give up on a daemon that does not answer, but it may still take the lock for what was passed to it: that must not be ours any more. */
static void abandon(portalock_file *f)
{
        int fd = os_open(f->path, false);

        close(f->fd);
        f->fd = fd >= 0 ? fd : -1;
}

int portalock_lock_interruptible(portalock_file *f, int flags, int64_t timeout_ms, bool (*interrupted)(void *arg), void *arg)
{
        struct portalock_session *s = f->session;
        struct interruption i = {interrupted, arg};
        int64_t deadline = timeout_ms > 0 ? os_now_ms() + timeout_ms : -1, left = timeout_ms;
        bool was_locked = f->lock != 0, writing = false;
        int e = client_usable(s), error;

        if (e != 0)
                return e;
        if (((flags & PORTALOCK_SH) != 0) == ((flags & PORTALOCK_EX) != 0) || (flags & ~7) != 0)
                return client_fail(s, PORTALOCK_E_ARGUMENT, "the flags must hold exactly one of PORTALOCK_SH and PORTALOCK_EX");
        for (;;) {
                e = lock_once(f, flags, left, &i);
                error = s->error.os_errno;
                if (e == PORTALOCK_E_OS && (error == EBADF || error == EIO) && (flags & PORTALOCK_EX) != 0 && !writing && !was_locked) {
                        writing = true; /* NFS: an exclusive lock needs a descriptor open for writing */
                        if (reopen(f, true) == 0)
                                continue;
                }
                if (e == PORTALOCK_E_CONNECTION && !was_locked)
                        abandon(f);
                if (e != 0 || was_locked || os_is_current(f->fd, f->path))
                        return e;
                /* Somebody replaced the file while we waited: what we hold guards nothing any more. */
                (void)portalock_unlock(f);
                e = reopen(f, writing);
                if (e != 0)
                        return e;
                if (deadline >= 0 && (left = deadline - os_now_ms()) <= 0)
                        left = 1;       /* 0 would not be a timeout but LOCK_NB */
        }
}

int portalock_lock(portalock_file *f, int flags, int64_t timeout_ms)
{
        return portalock_lock_interruptible(f, flags, timeout_ms, NULL, NULL);
}

static int unlock(portalock_file *f, bool close_only, int64_t wait_ms)
{
        struct pl_writer w;
        struct pl_reply r;
        int e;

        call_begin(f->session, &w, "unlock");
        pl_write_integer(&w, "lock", f->lock);
        if (close_only)
                pl_write_bool(&w, "close", true);
        f->lock = 0;
        e = call_wait(f->session, &w, -1, wait_ms, NULL, &r);
        if (e == 0)
                pl_reply_clear(&r);
        return e;
}

int portalock_unlock(portalock_file *f)
{
        int e = client_usable(f->session);

        if (e != 0)
                return e;
        if (f->lock == 0) {
                client_worked(f->session);
                return 0;
        }
        return unlock(f, false, CALL_MAX_MS);
}

void portalock_close(portalock_file *f)
{
        if (f == NULL)
                return;
        close(f->fd);   /* first ours, then the daemon's duplicate: the last one frees the lock */
        if (f->lock != 0 && f->session->owner == getpid() && f->session->fd >= 0)
                (void)unlock(f, true, PL_CLIENT_GRACE_MS);
        free(f->path);
        free(f);
}
