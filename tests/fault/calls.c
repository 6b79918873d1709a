/* The calls themselves, as the linker leads the daemon's own objects to them (see CMakeLists.txt for the list). */
#include "faults.h"
#include "table.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <uv.h>

#define A_DAY_S 86400

int __real_flock(int fd, int operation);
ssize_t __real_send(int fd, const void *data, size_t len, int flags);
ssize_t __real_recvmsg(int fd, struct msghdr *msg, int flags);
int __real_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags);
int __real_open(const char *path, int flags, ...);
int __real_openat(int dir, const char *path, int flags, ...);
int __real_dup(int fd);
ssize_t __real_read(int fd, void *data, size_t len);
ssize_t __real_write(int fd, const void *data, size_t len);
int __real_fsync(int fd);
int __real_fdatasync(int fd);
int __real_rename(const char *from, const char *to);
int __real_renameat(int from_dir, const char *from, int to_dir, const char *to);
int __real_uv_gettimeofday(uv_timeval64_t *out);
void __real_table_step(struct table *t, const struct table_event *ev, struct table_effects *fx);

int __wrap_flock(int fd, int operation);
ssize_t __wrap_send(int fd, const void *data, size_t len, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags);
int __wrap_open(const char *path, int flags, ...);
int __wrap_openat(int dir, const char *path, int flags, ...);
int __wrap_dup(int fd);
ssize_t __wrap_read(int fd, void *data, size_t len);
ssize_t __wrap_write(int fd, const void *data, size_t len);
int __wrap_fsync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_rename(const char *from, const char *to);
int __wrap_renameat(int from_dir, const char *from, int to_dir, const char *to);
int __wrap_uv_gettimeofday(uv_timeval64_t *out);
void __wrap_table_step(struct table *t, const struct table_event *ev, struct table_effects *fx);

int __wrap_flock(int fd, int operation)
{
        int r;

        if (fault_now(CALL_FLOCK) != FAULT_NONE)
                return -1;
        r = __real_flock(fd, operation);
        if (r == 0)
                fault_succeeded(CALL_FLOCK);
        return r;
}

/* The three shapes of most calls: it fails, or it is done in full, or with one byte. */
#define DONE(call, expression)                          \
        do {                                            \
                ssize_t r_;                             \
                if (fault_now(call) == FAULT_ERROR)     \
                        return -1;                      \
                r_ = (expression);                      \
                if (r_ >= 0)                            \
                        fault_succeeded(call);          \
                return (__typeof__(expression))r_;      \
        } while (0)
#define MOVED(call, len, expression)                    \
        do {                                            \
                enum fault_kind fault_ = fault_now(call); \
                ssize_t r_;                             \
                if (fault_ == FAULT_ERROR)              \
                        return -1;                      \
                if (fault_ == FAULT_SHORT && (len) > 1) \
                        (len) = 1;                      \
                r_ = (expression);                      \
                if (r_ >= 0)                            \
                        fault_succeeded(call);          \
                return r_;                              \
        } while (0)

ssize_t __wrap_send(int fd, const void *data, size_t len, int flags)
{
        MOVED(CALL_SEND, len, __real_send(fd, data, len, flags));
}

ssize_t __wrap_read(int fd, void *data, size_t len)
{
        MOVED(CALL_READ, len, __real_read(fd, data, len));
}

ssize_t __wrap_write(int fd, const void *data, size_t len)
{
        MOVED(CALL_WRITE, len, __real_write(fd, data, len));
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags)
{
        struct iovec first = msg->msg_iov[0];
        enum fault_kind fault = fault_now(CALL_RECVMSG);
        struct msghdr less = *msg;
        ssize_t n;

        if (fault == FAULT_ERROR)
                return -1;
        if (fault == FAULT_SHORT && first.iov_len > 1) {
                first.iov_len = 1;
                less.msg_iov = &first;
                less.msg_iovlen = 1;
        }
        if (fault == FAULT_TRUNC)
                less.msg_controllen = 0;        /* as if no number were free: the kernel drops them and says so */
        n = __real_recvmsg(fd, &less, flags);
        if (n < 0)
                return n;
        msg->msg_controllen = less.msg_controllen;
        msg->msg_flags = less.msg_flags;
        msg->msg_namelen = less.msg_namelen;
        fault_succeeded(CALL_RECVMSG);
        return n;
}

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
        DONE(CALL_ACCEPT4, __real_accept4(fd, address, len, flags));
}

static mode_t mode_of(int flags, va_list more)
{
        return (flags & O_CREAT) != 0 ? va_arg(more, mode_t) : 0;
}

int __wrap_open(const char *path, int flags, ...)
{
        va_list more;
        mode_t mode;

        va_start(more, flags);
        mode = mode_of(flags, more);
        va_end(more);
        DONE(CALL_OPEN, __real_open(path, flags, mode));
}

int __wrap_openat(int dir, const char *path, int flags, ...)
{
        va_list more;
        mode_t mode;

        va_start(more, flags);
        mode = mode_of(flags, more);
        va_end(more);
        DONE(CALL_OPENAT, __real_openat(dir, path, flags, mode));
}

int __wrap_dup(int fd)
{
        DONE(CALL_DUP, __real_dup(fd));
}

int __wrap_fsync(int fd)
{
        DONE(CALL_FSYNC, __real_fsync(fd));
}

int __wrap_fdatasync(int fd)
{
        DONE(CALL_FDATASYNC, __real_fdatasync(fd));
}

int __wrap_rename(const char *from, const char *to)
{
        DONE(CALL_RENAME, __real_rename(from, to));
}

int __wrap_renameat(int from_dir, const char *from, int to_dir, const char *to)
{
        DONE(CALL_RENAMEAT, __real_renameat(from_dir, from, to_dir, to));
}

int __wrap_uv_gettimeofday(uv_timeval64_t *out)
{
        int r = __real_uv_gettimeofday(out);

        if (r != 0)
                return r;
        switch (fault_now(CALL_GETTIMEOFDAY)) {
        case FAULT_BACK:
                out->tv_sec -= A_DAY_S;
                break;
        case FAULT_FORWARD:
                out->tv_sec += A_DAY_S;
                break;
        default:
                break;
        }
        return 0;
}

void __wrap_table_step(struct table *t, const struct table_event *ev, struct table_effects *fx)
{
        static unsigned steps;
        size_t cap = fx->cap;
        struct table_counts n;
        const char *wrong;

        __real_table_step(t, ev, fx);
        table_count(t, &n);
        /* A look at a large table takes its time: not at each step of a crowd. */
        wrong = ++steps % (1 + (n.waiting + n.locks) / 64) == 0 ? table_check(t) : NULL;
        if (ev->kind != EV_LOCK && fx->cap != cap)
                wrong = "there was not room for all effects beforehand";
        if (wrong == NULL)
                return;
        fprintf(stderr, "portalockd_fault: after event %d: %s\n", (int)ev->kind, wrong);
        abort();
}
