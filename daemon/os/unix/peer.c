#include "peer.h"

#include "again.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77         /* Linux 6.5; younger than many a libc's headers */
#endif

#define NOBODY 65534            /* what an unmapped uid looks like: equals nobody, not even itself */
#define STARTTIME_FIELD 22      /* of /proc/PID/stat, proc(5) */

bool peer_process(int64_t pid, char *command, uint64_t *started)
{
        char name[64], text[1024], *first, *last;
        ssize_t n;
        size_t len;
        int fd, field;

        snprintf(name, sizeof name, "/proc/%lld/stat", (long long)pid);
        fd = open_again(name, O_RDONLY | O_CLOEXEC, 0);
        if (fd < 0)
                return false;
        n = read_again(fd, text, sizeof text - 1);
        close(fd);
        if (n <= 0)
                return false;
        text[n] = '\0';
        /* The name stands in parentheses and may contain any of them itself. */
        first = strchr(text, '(');
        last = strrchr(text, ')');
        if (first == NULL || last == NULL || last < first)
                return false;
        len = (size_t)(last - first - 1);
        if (len >= PEER_COMMAND_BYTES)
                len = PEER_COMMAND_BYTES - 1;
        memcpy(command, first + 1, len);
        command[len] = '\0';
        if (strncmp(last, ") Z", 3) == 0)
                return false;   /* ended: nobody has collected it, which some never do */
        for (field = 2; field < STARTTIME_FIELD && last != NULL; field++)
                last = strchr(last + 1, ' ');
        *started = last != NULL ? strtoull(last, NULL, 10) : 0;
        return true;
}

/*
 * Whoever connected may be gone by now, and its pid another's. A descriptor of the process itself cannot be: as long as that process has not been
 * reaped the pid is its own. So look first, and then ask whether it is still there.
 */
static bool is_gone(int fd)
{
        int process = -1;
        socklen_t len = sizeof process;
        bool gone;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &process, &len) != 0)
                return errno != ENOPROTOOPT;    /* reaped, or it cannot be asked now: no name is better than a stranger's. ENOPROTOOPT: an old kernel, see below */
        gone = syscall(SYS_pidfd_send_signal, process, 0, NULL, 0) != 0 && errno == ESRCH;
        close(process);
        return gone;
}

/* Before Linux 6.5 nobody can say of a process that was there when it connected whether it still is. */
static bool can_be_asked_later(int fd)
{
        static bool known, can;
        int process = -1;
        socklen_t len = sizeof process;

        if (known)
                return can;
        can = getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &process, &len) == 0 || errno != ENOPROTOOPT;
        if (process >= 0)
                close(process);
        known = true;
        return can;
}

int peer_identify(int fd, struct peer *out)
{
        struct ucred cred;
        socklen_t len = sizeof cred;

        memset(out, 0, sizeof *out);
        out->connection = -1;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0)
                return -errno;
        out->pid = cred.pid;
        out->uid = (int64_t)cred.uid;
        if (cred.pid > 0)
                out->connection = fd;
        if (cred.pid > 0 && !can_be_asked_later(fd))
                (void)peer_command(out);
        return 0;
}

const char *peer_command(struct peer *p)
{
        if (p->connection >= 0 && (!peer_process(p->pid, p->command, &p->started) || is_gone(p->connection))) {
                p->started = 0;
                p->command[0] = '\0';
        }
        p->connection = -1;
        return p->command;
}

void peer_refresh(struct peer *p)
{
        char command[PEER_COMMAND_BYTES];
        uint64_t started;

        if (p->connection >= 0)
                (void)peer_command(p);
        else if (p->started != 0 && peer_process(p->pid, command, &started) && started == p->started)
                memcpy(p->command, command, sizeof command);
}

int64_t peer_own_uid(void)
{
        return (int64_t)geteuid();
}

bool peer_allowed(const struct peer *p, int64_t uid)
{
        return p->uid == 0 || (p->uid == uid && uid != NOBODY);
}

bool peer_is_known(const struct peer *p)
{
        return p->uid != NOBODY;
}

bool peer_same_user(const struct peer *a, const struct peer *b)
{
        return a->uid == b->uid && a->uid != NOBODY;
}
