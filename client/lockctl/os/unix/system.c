#include "../../os.h"

#include "portalock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPEN_TRIES 100
#define ALARM_REPEAT_US 20000   /* a signal just before flock() is lost: it comes again */

extern char **environ;

void os_user_name(int64_t uid, char *out, size_t size)
{
        struct passwd *p = uid >= 0 ? getpwuid((uid_t)uid) : NULL;

        if (p != NULL)
                snprintf(out, size, "%s", p->pw_name);
        else if (uid >= 0)
                snprintf(out, size, "%" PRId64, uid);
        else
                snprintf(out, size, "-");
}

bool os_is_terminal(int fd)
{
        return isatty(fd) == 1;
}

/* ---- the command ---- */

static const int passed_on[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
static volatile pid_t child;

static void pass_on(int sig, siginfo_t *info, void *context)
{
        int saved = errno;

        (void)context;
        /* A key on the terminal reaches the command by itself: it is in our process group. */
        if (child > 0 && info->si_code != SI_KERNEL)
                kill(child, sig);
        errno = saved;
}

static int start(char **argv, int keep, const sigset_t *mask)
{
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attr;
        sigset_t defaults;
        pid_t pid;
        int error;

        error = posix_spawn_file_actions_init(&actions);
        if (error != 0)
                return error;
        error = posix_spawnattr_init(&attr);
        if (error != 0) {
                posix_spawn_file_actions_destroy(&actions);
                return error;
        }
        sigemptyset(&defaults);
        sigaddset(&defaults, SIGCHLD);
        posix_spawnattr_setsigdefault(&attr, &defaults);
        posix_spawnattr_setsigmask(&attr, mask);
        posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
        error = posix_spawn_file_actions_adddup2(&actions, keep, keep); /* onto itself: clears its close-on-exec */
        if (error == 0)
                error = posix_spawnp(&pid, argv[0], &actions, &attr, argv, environ);
        if (error == 0)
                child = pid;
        posix_spawnattr_destroy(&attr);
        posix_spawn_file_actions_destroy(&actions);
        return error;
}

int os_run(char **argv, int keep)
{
        struct sigaction pass = {.sa_sigaction = pass_on, .sa_flags = SA_SIGINFO | SA_RESTART}, old, chld = {.sa_handler = SIG_DFL};
        sigset_t block, before;
        size_t i;
        int error, status = 0;

        sigemptyset(&block);
        for (i = 0; i < sizeof passed_on / sizeof passed_on[0]; i++)
                sigaddset(&block, passed_on[i]);
        sigemptyset(&pass.sa_mask);
        /* Blocked until the child is known, so that no signal falls between. */
        sigprocmask(SIG_BLOCK, &block, &before);
        for (i = 0; i < sizeof passed_on / sizeof passed_on[0]; i++) {
                sigaction(passed_on[i], NULL, &old);
                if (old.sa_handler != SIG_IGN)  /* what was ignored (nohup) stays so, for the command too */
                        sigaction(passed_on[i], &pass, NULL);
        }
        sigaction(SIGCHLD, &chld, NULL);
        error = start(argv, keep, &before);
        sigprocmask(SIG_SETMASK, &before, NULL);
        if (error != 0)
                return -error;
        while (waitpid(child, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        child = 0;
        return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* ---- without a daemon ---- */

static volatile sig_atomic_t time_is_over;

static void on_alarm(int sig)
{
        (void)sig;
        time_is_over = 1;
}

static int open_lock_file(const char *path, int mode)
{
        int flags = mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, fd = -1, i;

        for (i = 0; i < OPEN_TRIES; i++) {
                fd = open(path, flags);
                if (fd >= 0 || errno != ENOENT)
                        return fd;
                fd = open(path, flags | O_CREAT | O_EXCL, 0666);
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
        struct sigaction alarm = {.sa_handler = on_alarm};

        sigaction(SIGALRM, &alarm, NULL);
        setitimer(ITIMER_REAL, &t, NULL);
}

/* 0 or errno; EINTR only when the time is over. */
static int flock_until(int fd, int operation)
{
        while (flock(fd, operation) != 0)
                if (errno != EINTR || time_is_over)
                        return errno;
        return 0;
}

enum os_direct os_lock_direct(const char *path, int flags, int64_t timeout_ms, int *fd, int *error)
{
        int operation = (flags & PORTALOCK_SH) != 0 ? LOCK_SH : LOCK_EX, mode = O_RDONLY;

        if ((flags & PORTALOCK_NB) != 0 || timeout_ms == 0)
                operation |= LOCK_NB;
        else if (timeout_ms > 0)
                set_alarm(timeout_ms);
        for (;;) {
                *fd = open_lock_file(path, mode);
                *error = errno;
                if (*fd < 0)
                        return OS_DIRECT_NO_FILE;
                *error = flock_until(*fd, operation);
                if (*error == 0 && is_current(*fd, path))
                        break;
                close(*fd);
                if (*error == 0)
                        continue;       /* somebody replaced the file meanwhile */
                if ((*error == EBADF || *error == EIO) && (operation & LOCK_EX) != 0 && mode == O_RDONLY) {
                        mode = O_RDWR;  /* NFS */
                        continue;
                }
                set_alarm(0);
                return *error == EWOULDBLOCK ? OS_DIRECT_BUSY : *error == EINTR ? OS_DIRECT_TIMED_OUT : OS_DIRECT_FAILED;
        }
        set_alarm(0);
        return OS_DIRECT_OK;
}
