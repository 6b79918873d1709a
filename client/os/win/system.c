/* Files and the process. The daemon opens what the library locks, so that nothing here is about descriptors of files. */
#include "internal.h"
#include "names.h"
#include "pipe.h"

#include <errno.h>

int64_t os_process_id(void)
{
        return GetCurrentProcessId();
}

bool os_exists(const char *path)
{
        (void)path;     /* asked of a socket whose folder is not trusted: pipes have none */
        return false;
}

bool os_passes_descriptors(void)
{
        return false;
}

char *os_absolute(const char *path)
{
        return pl_full_path(path);
}

int os_open(const char *path, bool for_writing)
{
        HANDLE h = pl_open_lock_file(path);

        (void)for_writing;
        return h != INVALID_HANDLE_VALUE ? pl_handle_int(h) : -errno;
}

void os_close(int fd)
{
        CloseHandle(pl_int_handle(fd));
}

/* ---- never asked where no descriptors are passed ---- */

bool os_is_open(int fd)
{
        (void)fd;
        return false;
}

int os_duplicate(int fd)
{
        (void)fd;
        return -ENOTSUP;
}

bool os_is_current(int fd, const char *path)
{
        (void)fd;
        (void)path;
        return false;
}

bool os_bears(int fd)
{
        (void)fd;
        return false;
}

int os_unlock(int fd)
{
        (void)fd;
        return -ENOTSUP;
}
