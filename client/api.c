#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONNECT_MAX_MS 10000
#define CALL_MAX_MS 10000

/* hello on a fresh connection. */
static int greet(struct portalock_session *s, const char *client)
{
        struct pl_writer w;
        struct pl_reply r;
        const char *version;
        int e;

        call_begin(s, &w, PL_HELLO);
        pl_write_integer(&w, "protocol", PL_PROTOCOL_VERSION);
        if (client != NULL && client[0] != '\0')
                pl_write_string(&w, "client", client);
        e = call_wait(s, &w, -1, CALL_MAX_MS, NULL, &r);
        if (e != 0)
                return e;
        (void)pl_json_integer(pl_json_get(r.body, "session"), &s->id);
        if (pl_json_string(pl_json_get(r.body, "version"), &version))
                snprintf(s->version, sizeof s->version, "%s", version);
        pl_reply_clear(&r);
        return 0;
}

/* One try: 0, or an error; *again: it may go better in a moment. */
static int try_connect(struct portalock_session *s, const char *client, bool *again)
{
        int fd = pl_address_connect(&s->address), e;

        *again = fd == -EAGAIN;
        if (fd < 0) {
                client_fail(s, PORTALOCK_E_NO_DAEMON, "%.400s: %s", s->address.path,
                            fd == -ENOENT ? "no daemon listens there" : fd == -ECONNREFUSED ? "the daemon that listened there is gone" : strerror(-fd));
                s->error.os_errno = -fd;
                return PORTALOCK_E_NO_DAEMON;
        }
        if (pl_address_check_server(&s->address, fd, &s->daemon_pid) != 0) {
                close(fd);
                return client_fail(s, PORTALOCK_E_DENIED, "%s", s->address.text);
        }
        s->fd = fd;
        e = greet(s, client);
        if (e != 0)
                conn_close(s);
        *again = e == PORTALOCK_E_CONNECTION;   /* it was about to end: there will be another */
        return e;
}

static int connect_session(struct portalock_session *s, const char *client, bool spawn)
{
        int64_t deadline = os_now_ms() + CONNECT_MAX_MS;
        bool again, spawned = false;
        int e, error;

        for (;;) {
                e = try_connect(s, client, &again);
                if (e == 0)
                        return 0;
                error = s->error.os_errno;
                if (e == PORTALOCK_E_NO_DAEMON && (error == ENOENT || error == ECONNREFUSED) && spawn) {
                        if (pl_address_check(&s->address, true) != 0)
                                return client_fail(s, PORTALOCK_E_NO_DAEMON, "%s", s->address.text);
                        e = os_spawn_daemon(s);
                        if (e != 0)
                                return e;
                        again = true;
                }
                if (!again || os_now_ms() >= deadline)
                        return e;
                if (spawned)
                        (void)os_wait(-1, false, os_now_ms() + 2);     /* somebody else's daemon is about to listen */
                spawned = true;
        }
}

int portalock_connect(const char *client, int flags, portalock_session **out)
{
        const char *no_spawn = getenv("PORTALOCK_NO_SPAWN");
        struct portalock_session *s = calloc(1, sizeof *s);

        *out = s;
        if (s == NULL)
                return PORTALOCK_E_NO_MEMORY;
        s->fd = s->out_fd = -1;
        s->owner = getpid();
        pl_frame_init(&s->frame, PL_REPLY_MAX);
        if (pl_address_find(&s->address, NULL) != 0)
                return client_fail(s, PORTALOCK_E_NO_DAEMON, "%s", s->address.text);
        if (!s->address.named && pl_address_check(&s->address, false) != 0 && access(s->address.path, F_OK) == 0)
                return client_fail(s, PORTALOCK_E_DENIED, "%s", s->address.text);
        return connect_session(s, client, (flags & PORTALOCK_CONNECT_NO_SPAWN) == 0 && (no_spawn == NULL || no_spawn[0] == '\0' || strcmp(no_spawn, "0") == 0) && !s->address.system);
}

void portalock_disconnect(portalock_session *s)
{
        if (s == NULL)
                return;
        conn_close(s);
        pl_frame_clear(&s->frame);
        pl_buf_clear(&s->out);
        free(s);
}

const struct portalock_error_info *portalock_error(const portalock_session *s)
{
        static const struct portalock_error_info no_memory = {.code = PORTALOCK_E_NO_MEMORY, .syscall = "", .text = "out of memory"};
        static const struct portalock_error_info none = {.syscall = "", .text = ""};

        if (s == NULL)
                return &no_memory;
        return s->error.text != NULL ? &s->error : &none;
}

int64_t portalock_session_id(const portalock_session *s)
{
        return s->id;
}

int64_t portalock_daemon_pid(const portalock_session *s)
{
        return s->daemon_pid;
}

const char *portalock_daemon_version(const portalock_session *s)
{
        return s->version;
}

const char *portalock_socket(const portalock_session *s)
{
        return s->address.path;
}

/* ---- files ---- */

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

        call_begin(s, &w, PL_LOCK);
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
                if (e != 0 || was_locked || os_is_current(f->fd, f->path))
                        return e;
                /* Somebody replaced the file while we waited: what we hold guards nothing any more. */
                (void)portalock_unlock(f);
                e = reopen(f, writing);
                if (e != 0)
                        return e;
                if (deadline >= 0 && (left = deadline - os_now_ms()) <= 0)
                        left = 0;
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

        call_begin(f->session, &w, PL_UNLOCK);
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
