/* Files: opened by their path, or attached to a descriptor of the caller's. */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>

static struct portalock_file *add(struct portalock_session *s, int fd, char *path)
{
        struct portalock_file *f = calloc(1, sizeof *f);

        if (f == NULL)
                return NULL;
        f->session = s;
        f->fd = fd;
        f->path = path;
        f->attached = path == NULL;
        f->handle = s->last_handle = s->last_handle % PL_HANDLE_MAX + 1;
        LIST_INIT(&f->unlocks);
        LIST_INSERT_HEAD(&s->files, f, entry);
        client_worked(s);
        return f;
}

char *client_absolute(struct portalock_session *s, const char *path)
{
        char *absolute = os_absolute(path);

        if (absolute == NULL && errno == ENOMEM)
                client_no_memory(s);
        else if (absolute == NULL)
                client_fail_os(s, errno, "open", path);
        return absolute;
}

int portalock_open(portalock_session *s, const char *path, portalock_file **out)
{
        int e = client_may_open(s), fd;
        char *absolute;

        *out = NULL;
        if (e != 0)
                return e;
        if (path[0] == '\0')
                return client_fail_os(s, ENOENT, "open", path); /* else it would be the current folder */
        absolute = client_absolute(s, path);
        if (absolute == NULL)
                return s->error.code;
        fd = os_open(absolute, false);
        if (fd < 0) {
                free(absolute);
                return client_fail_os(s, -fd, "open", path);
        }
        if (!os_passes_descriptors()) {         /* the daemon opens it anew; here it had to be made, or refused */
                os_close(fd);
                fd = -1;
        }
        *out = add(s, fd, absolute);
        if (*out != NULL)
                return 0;
        if (fd >= 0)
                os_close(fd);
        free(absolute);
        return client_no_memory(s);
}

int portalock_attach(portalock_session *s, int fd, portalock_file **out)
{
        int e = client_may_open(s);

        *out = NULL;
        if (e != 0)
                return e;
        if (!os_passes_descriptors())
                return client_fail(s, PORTALOCK_E_ARGUMENT, "not on Windows: a handle cannot be passed to the daemon; open the file by its path");
        if (fd < 0)
                return client_fail(s, PORTALOCK_E_ARGUMENT, "%d is not a descriptor", fd);
        *out = add(s, fd, NULL);
        return *out != NULL ? 0 : client_no_memory(s);
}

int portalock_file_fd(const portalock_file *f)
{
        return f->fd;
}

int portalock_mode(const portalock_file *f)
{
        return f->lock != 0 ? f->mode : 0;
}

int64_t portalock_token(const portalock_file *f)
{
        return f->lock != 0 ? f->token : 0;
}

void portalock_close(portalock_file *f)
{
        bool ours;

        if (f == NULL)
                return;
        ours = f->session->owner == os_process_id();
        /* First our descriptor, then the daemon's duplicate: the last one frees the lock. In a forked child it is all that may be touched. */
        if (!f->attached && f->fd >= 0)
                os_close(f->fd);
        f->fd = -1;
        if (ours) {
                lock_leave(f, !f->session->concurrent && !f->session->in_process);
                LIST_REMOVE(f, entry);
                f->session->closings++;
        }
        free(f->path);
        free(f);
}
