/* The recipe's lock(file, flags) and unlock(file): a descriptor in one call. */
#include "internal.h"

#include <errno.h>

int portalock_lock_fd(int fd, int flags)
{
        portalock_session *s;
        portalock_file *f = NULL;
        int e, error;

        if (fd < 0 || !lock_flags_are_good(flags) || !os_passes_descriptors())
                return PORTALOCK_E_ARGUMENT;
        e = portalock_connect(NULL, 0, &s);
        if (e == 0)
                e = portalock_attach(s, fd, &f);
        if (e == 0)
                e = portalock_lock(f, flags | PORTALOCK_DETACH, -1);
        error = portalock_error(s)->os_errno;
        portalock_close(f);
        portalock_disconnect(s);
        if (e == PORTALOCK_E_OS)
                errno = error;
        return e;
}

int portalock_unlock_fd(int fd)
{
        int r;

        if (!os_passes_descriptors())
                return PORTALOCK_E_ARGUMENT;
        r = os_unlock(fd);
        if (r == 0)
                return 0;
        errno = -r;
        return PORTALOCK_E_OS;
}
