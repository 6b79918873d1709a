/* flock(2) without a daemon. Its only timeout is a signal. */
#include "../../os.h"

#include "portalock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#define OPEN_TRIES 100
#define ALARM_REPEAT_US 20000   /* a signal just before flock() is lost: it comes again */

static volatile sig_atomic_t interrupted_by;

static void on_signal(int sig)
{
        interrupted_by = sig;
}

static int open_lock_file(const char *path, int mode)
{
        int flags = mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, fd = -1, i;

        for (i = 0; i < OPEN_TRIES; i++) {
                fd = open(path, flags);
                if (fd >= 0 || errno != ENOENT)
                        return fd;
                fd = open(path, flags | O_CREAT | (i == 0 ? O_EXCL : 0), 0666);
                if (fd < 0 && errno == EISDIR)
                        return open(path, flags);       /* "missing/": it must not be made, or has been meanwhile */
                if (fd >= 0 || errno != EEXIST)
                        return fd;
        }
        return fd;
}

static bool is_current(int fd, const char *path)
{
        struct stat ours, now;

        return fstat(fd, &ours) == 0 && stat(path, &now) == 0 && ours.st_dev == now.st_dev && ours.st_ino == now.st_ino;
}

static void set_alarm(int64_t timeout_ms)
{
        struct itimerval t = {.it_interval = {0, timeout_ms > 0 ? ALARM_REPEAT_US : 0},
                              .it_value = {(time_t)(timeout_ms / 1000), (suseconds_t)(timeout_ms % 1000 * 1000)}};
        struct sigaction alarm = {.sa_handler = on_signal};

        sigaction(SIGALRM, &alarm, NULL);
        setitimer(ITIMER_REAL, &t, NULL);
}

/* 0 or errno; EINTR only when the time is over. */
static int flock_until(int fd, int operation)
{
        while (flock(fd, operation) != 0)
                if (errno != EINTR || interrupted_by == SIGALRM)
                        return errno;
        return 0;
}

static enum os_direct outcome(int error)
{
        return error == 0 ? OS_DIRECT_OK : error == EWOULDBLOCK ? OS_DIRECT_BUSY : error == EINTR ? OS_DIRECT_TIMED_OUT : OS_DIRECT_FAILED;
}

static enum os_direct lock_path(const char *path, int operation, int *fd, int *error)
{
        int mode = O_RDONLY;

        for (;;) {
                *fd = open_lock_file(path, mode);
                *error = errno;
                if (*fd < 0)
                        return OS_DIRECT_NO_FILE;
                *error = flock_until(*fd, operation);
                if (*error == 0 && is_current(*fd, path))
                        return OS_DIRECT_OK;
                close(*fd);
                *fd = -1;
                if (*error == 0)
                        continue;       /* somebody replaced the file meanwhile */
                if ((*error == EBADF || *error == EIO) && (operation & LOCK_EX) != 0 && mode == O_RDONLY) {
                        mode = O_RDWR;  /* NFS */
                        continue;
                }
                return outcome(*error);
        }
}

enum os_direct os_lock_direct(const char *path, int flags, int64_t timeout_ms, int *fd, int *error)
{
        int operation = (flags & PORTALOCK_SH) != 0 ? LOCK_SH : LOCK_EX;
        enum os_direct r;

        /* Nothing has to be taken back: the signals that are caught elsewhere may end us as they always do. */
        os_release_signals();
        if ((flags & PORTALOCK_NB) != 0 || timeout_ms == 0)
                operation |= LOCK_NB;
        else if (timeout_ms > 0)
                set_alarm(timeout_ms);
        if (path != NULL) {
                r = lock_path(path, operation, fd, error);
        } else {
                *error = flock_until(*fd, operation);
                r = outcome(*error);
        }
        set_alarm(0);
        os_catch_signals();
        return r;
}

const char os_lock_call[] = "flock(2)";

void os_close_file(int fd)
{
        close(fd);
}

bool os_is_open_call(const char *syscall)
{
        return strcmp(syscall, "open") == 0;
}

int os_unlock(int fd)
{
        return flock(fd, LOCK_UN) == 0 ? 0 : errno;
}

int os_open_file(const char *path, int *fd)
{
        *fd = open_lock_file(path, O_RDONLY);
        return *fd >= 0 ? 0 : errno;
}

char *os_absolute(const char *path)
{
        char *cwd, *out = NULL;

        if (path[0] == '/')
                return strdup(path);
        cwd = getcwd(NULL, 0);
        if (cwd != NULL && (out = malloc(strlen(cwd) + strlen(path) + 2)) != NULL)
                strcat(strcat(strcpy(out, cwd), "/"), path);
        free(cwd);
        return out;
}

const char *os_error_text(int error)
{
        return strerror(error);
}
