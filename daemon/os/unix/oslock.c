/* flock(2), without waiting. The waits are in oslock_pool.c. */
#include "oslock_internal.h"

#include "again.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

const char oslock_call[] = "flock";

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

/* For oslock_bears() when all others are taken: a wrong NONE would put the bearer of a lock behind those who wait for it. */
static int spare = -1;

void oslock_keep_spare(void)
{
        if (spare < 0)
                spare = open_again("/dev/null", O_RDONLY | O_CLOEXEC, 0);
}

/* The "lock:" lines of fdinfo; proc(5). */
static enum oslock_mode parse(char *text)
{
        enum oslock_mode mode = OSLOCK_NONE;
        char *line, *rest;

        for (line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
                if (strncmp(line, "lock:", 5) != 0 || strstr(line, "FLOCK") == NULL)
                        continue;
                mode = strstr(line, "WRITE") != NULL ? OSLOCK_EX : OSLOCK_SH;
        }
        return mode;
}

enum oslock_mode oslock_bears(int fd)
{
        char name[64], text[4096];
        ssize_t n;
        int info;

        snprintf(name, sizeof name, "/proc/self/fdinfo/%d", fd);
        info = open_again(name, O_RDONLY | O_CLOEXEC, 0);
        if (info < 0 && (errno == EMFILE || errno == ENFILE) && spare >= 0) {
                close(spare);
                spare = -1;
                info = open_again(name, O_RDONLY | O_CLOEXEC, 0);
        }
        if (info < 0)
                return OSLOCK_NONE;
        n = read_again(info, text, sizeof text - 1);    /* all of it: seq_file(9) fills what it is given */
        text[n > 0 ? n : 0] = '\0';
        close(info);
        oslock_keep_spare();
        return parse(text);
}
