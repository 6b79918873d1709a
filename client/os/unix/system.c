#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OPEN_TRIES 100

extern char **environ;

int64_t os_now_ms(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t os_process_id(void)
{
        return getpid();
}

bool os_exists(const char *path)
{
        return access(path, F_OK) == 0;
}

bool os_passes_descriptors(void)
{
        return true;
}

int os_begin(struct portalock_session *s)
{
        (void)s;
        return 0;
}

void os_end(struct portalock_session *s)
{
        (void)s;
}

void *os_handle(const struct portalock_session *s)
{
        (void)s;
        return NULL;
}

void os_hang_up(struct portalock_session *s)
{
        if (s->fd >= 0)
                close(s->fd);
        if (s->report_fd >= 0)
                close(s->report_fd);
        s->fd = s->report_fd = -1;
}

void os_wait(struct portalock_session *s, int64_t deadline_ms)
{
        bool write = (portalock_events(s) & PORTALOCK_WRITABLE) != 0;
        struct pollfd p = {.fd = portalock_fd(s), .events = (short)(POLLIN | (write ? POLLOUT : 0))};
        int64_t left = -1;

        if (deadline_ms != INT64_MAX) {
                left = deadline_ms - os_now_ms();
                if (left < 0)
                        left = 0;
                if (left > INT_MAX)
                        left = INT_MAX;
        }
        (void)poll(&p, 1, (int)left);   /* whatever ends it, the caller looks again */
}

int64_t os_send(struct portalock_session *s, const char *data, size_t len, int pass)
{
        union {
                struct cmsghdr align;
                char bytes[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec iov = {.iov_base = (char *)(uintptr_t)data, .iov_len = len};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        struct cmsghdr *c;
        ssize_t n;

        if (pass >= 0) {
                memset(&control, 0, sizeof control);
                msg.msg_control = &control;
                msg.msg_controllen = sizeof control;
                c = CMSG_FIRSTHDR(&msg);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(c), &pass, sizeof(int));
        }
        do
                n = sendmsg(s->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
}

int64_t os_receive(struct portalock_session *s, char *data, size_t len)
{
        ssize_t n;

        do
                n = recv(s->fd, data, len, MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
}

int64_t os_read_report(struct portalock_session *s, char *data, size_t len)
{
        ssize_t n;

        do
                n = read(s->report_fd, data, len);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
}

void os_close(int fd)
{
        close(fd);
}

bool os_is_open(int fd)
{
        return fcntl(fd, F_GETFD) >= 0;
}

int os_duplicate(int fd)
{
        int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

        return copy >= 0 ? copy : -errno;
}

bool os_bears(int fd)
{
        char name[64], text[4096];
        size_t len = 0;
        ssize_t n;
        int info;

        snprintf(name, sizeof name, "/proc/self/fdinfo/%d", fd);
        info = open(name, O_RDONLY | O_CLOEXEC);
        if (info < 0)
                return true;
        while (len < sizeof text - 1 && (n = read(info, text + len, sizeof text - 1 - len)) > 0)
                len += (size_t)n;
        close(info);
        text[len] = '\0';
        return strstr(text, "FLOCK") != NULL;
}

int os_unlock(int fd)
{
        return flock(fd, LOCK_UN) == 0 ? 0 : -errno;
}

int os_open(const char *path, bool for_writing)
{
        int flags = (for_writing ? O_RDWR : O_RDONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
        int fd = -1, i;

        /* Never O_CREAT on what exists: fs.protected_regular refuses that in sticky folders. */
        for (i = 0; i < OPEN_TRIES; i++) {
                fd = open(path, flags);
                if (fd >= 0 || errno != ENOENT)
                        break;
                /* Neither there nor not there: a link to what is still to be made. */
                fd = open(path, flags | O_CREAT | (i == 0 ? O_EXCL : 0), 0666);
                if (fd < 0 && errno == EISDIR) {
                        fd = open(path, flags); /* "missing/": it must not be made, or has been meanwhile */
                        break;
                }
                if (fd >= 0 || errno != EEXIST)
                        break;
        }
        return fd >= 0 ? fd : -errno;
}

bool os_is_current(int fd, const char *path)
{
        struct stat ours, now;

        return fstat(fd, &ours) == 0 && stat(path, &now) == 0 && ours.st_dev == now.st_dev && ours.st_ino == now.st_ino;
}

char *os_absolute(const char *path)
{
        char cwd[PATH_MAX], *out;
        size_t len;

        if (path[0] == '/')
                return strdup(path);
        if (getcwd(cwd, sizeof cwd) == NULL)
                return NULL;
        len = strlen(cwd) + strlen(path) + 2;
        out = malloc(len);
        if (out != NULL)
                snprintf(out, len, "%s/%s", cwd, path);
        return out;
}

/* ---- starting the daemon ---- */

/* Where it is: PORTALOCKD, beside this program, in the build tree, else by PATH. */
static void find_program(char *out, size_t size)
{
        static const char *const places[] = {"/portalockd", "/../daemon/portalockd", "/../sbin/portalockd", "/../bin/portalockd"};
        const char *given = getenv("PORTALOCKD");
        char self[PATH_MAX], *slash;
        ssize_t n;
        size_t i;

        snprintf(out, size, "portalockd");
        if (given != NULL && given[0] != '\0') {
                snprintf(out, size, "%s", given);
                return;
        }
        n = readlink("/proc/self/exe", self, sizeof self - 1);
        if (n <= 0)
                return;
        self[n] = '\0';
        slash = strrchr(self, '/');
        *slash = '\0';
        for (i = 0; i < sizeof places / sizeof places[0]; i++) {
                snprintf(out, size, "%s%s", self, places[i]);
                if (access(out, X_OK) == 0)
                        return;
        }
        snprintf(out, size, "portalockd");
}

/* In the child, only what is safe after fork: a session of its own, nothing inherited but the pipe. */
static void become_daemon(const char *program, const char *socket, int report)
{
        char *argv[] = {(char *)(uintptr_t)program, (char *)(uintptr_t)"--socket", (char *)(uintptr_t)socket, (char *)(uintptr_t)"--idle-exit",
                        (char *)(uintptr_t)"60", (char *)(uintptr_t)"--ready-fd", (char *)(uintptr_t)"3", NULL};
        sigset_t none;
        int null;

        setsid();
        (void)!chdir("/");
        umask(022);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        report = fcntl(report, F_DUPFD, 10);    /* out of the way of what follows, whichever of 0 to 3 were closed */
        null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(null, 1);
        dup2(report, 2);        /* its last words, should it not start */
        dup2(report, 3);
        (void)syscall(SYS_close_range, 4, ~0u, 0);      /* musl has no function for it */
        execvp(program, argv);
        dprintf(2, "%s: %s\n", program, strerror(errno));
        _exit(127);
}

int os_spawn_daemon(struct portalock_session *s)
{
        char program[PATH_MAX];
        int report[2], status = 0;
        pid_t child, grandchild;

        if (getauxval(AT_SECURE) != 0)
                return client_fail(s, PORTALOCK_E_NO_DAEMON, "no daemon listens on %.300s, and a set-id program does not start one", s->address.path);
        find_program(program, sizeof program);
        if (pipe2(report, O_CLOEXEC) != 0)
                return client_fail_os(s, errno, "pipe", s->address.path);
        (void)fcntl(report[0], F_SETFL, O_NONBLOCK);
        child = fork();
        if (child < 0) {
                client_fail_os(s, errno, "fork", program);
                close(report[0]);
                close(report[1]);
                return PORTALOCK_E_OS;
        }
        if (child == 0) {
                /* Twice, so that the daemon is nobody's child; the one between reports an early end. */
                grandchild = fork();
                if (grandchild == 0)
                        become_daemon(program, s->address.path, report[1]);
                _exit(grandchild < 0 ? 1 : 0);
        }
        close(report[1]);
        while (waitpid(child, &status, 0) < 0 && errno == EINTR)
                ;
        return report[0];
}
