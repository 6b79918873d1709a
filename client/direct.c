/* The recipe's lock(file, flags) and unlock(file): a descriptor in one call, its lock detached from any session. */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>

static int lock_detached(struct portalock_session *s, int fd, int flags)
{
        struct pl_writer w;
        struct pl_reply r;
        int e;

        request_begin(s, &w, "lock");
        pl_write_bool(&w, "fd", true);
        pl_write_bool(&w, "detach", true);
        pl_write_open(&w, "flags", '[');
        pl_write_string(&w, NULL, (flags & PORTALOCK_EX) != 0 ? "LOCK_EX" : "LOCK_SH");
        if ((flags & PORTALOCK_NB) != 0)
                pl_write_string(&w, NULL, "LOCK_NB");
        pl_write_close(&w, ']');
        e = call_wait(s, &w, fd, (flags & PORTALOCK_NB) != 0 ? PL_CLIENT_NB_MS : -1, &r);
        if (e == 0)
                pl_reply_clear(&r);
        return e;
}

int portalock_lock_fd(int fd, int flags)
{
        struct portalock_session *s;
        int e, error;

        if (fd < 0 || ((flags & PORTALOCK_SH) != 0) == ((flags & PORTALOCK_EX) != 0) || (flags & ~7) != 0)
                return PORTALOCK_E_ARGUMENT;
        e = portalock_connect(NULL, 0, &s);
        if (e == 0)
                e = lock_detached(s, fd, flags);
        error = portalock_error(s)->os_errno;
        portalock_disconnect(s);
        if (e == PORTALOCK_E_OS)
                errno = error;
        return e;
}

int portalock_unlock_fd(int fd)
{
        int r = os_unlock(fd);

        if (r == 0)
                return 0;
        errno = -r;
        return PORTALOCK_E_OS;
}
