/* flock(2), without waiting. The waits are in oslock_pool.c. */
#include "oslock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static int flock_operation(enum oslock_mode mode)
{
        return mode == OSLOCK_EX ? LOCK_EX : LOCK_SH;
}

static int flock_retry(int fd, int operation)
{
        int r;

        do
                r = flock(fd, operation);
        while (r < 0 && errno == EINTR);
        return r;
}

enum oslock_result oslock_try(int fd, enum oslock_mode mode, int *error)
{
        if (flock_retry(fd, flock_operation(mode) | LOCK_NB) == 0)
                return OSLOCK_TAKEN;
        *error = errno;
        return *error == EWOULDBLOCK ? OSLOCK_BUSY : OSLOCK_FAILED;
}

enum oslock_result oslock_upgrade(int fd, int *error)
{
        if (flock_retry(fd, LOCK_EX | LOCK_NB) == 0)
                return OSLOCK_TAKEN;
        *error = errno;
        /* The failed conversion has dropped the SH: take it back before anybody notices. */
        if (flock_retry(fd, LOCK_SH | LOCK_NB) != 0)
                return OSLOCK_LOST;
        return *error == EWOULDBLOCK ? OSLOCK_BUSY : OSLOCK_FAILED;
}

void oslock_downgrade(int fd)
{
        (void)flock_retry(fd, LOCK_SH | LOCK_NB);
}

void oslock_unlock(int fd)
{
        (void)flock_retry(fd, LOCK_UN);
}

enum oslock_mode oslock_bears(int fd)
{
        enum oslock_mode mode = OSLOCK_NONE;
        char name[64], line[256];
        FILE *f;

        snprintf(name, sizeof name, "/proc/self/fdinfo/%d", fd);
        f = fopen(name, "re");
        if (f == NULL)
                return OSLOCK_NONE;
        while (fgets(line, sizeof line, f) != NULL) {
                if (strncmp(line, "lock:", 5) != 0 || strstr(line, "FLOCK") == NULL)
                        continue;
                mode = strstr(line, "WRITE") != NULL ? OSLOCK_EX : OSLOCK_SH;
        }
        fclose(f);
        return mode;
}
