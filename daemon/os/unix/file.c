#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef F_DUPFD_QUERY
#define F_DUPFD_QUERY 1027      /* Linux 6.10 */
#endif
#ifndef ANON_INODE_FS_MAGIC
#define ANON_INODE_FS_MAGIC 0x09041934
#endif

#define OPEN_FLAGS (O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
#define OPEN_TRIES 100          /* somebody creates and removes the file all the time */

static int fail(struct file_error *e, const char *syscall_name, int error)
{
        e->syscall = syscall_name;
        e->error = error;
        return -1;
}

static void identity_of(const struct stat *st, struct file_identity *id)
{
        id->device = (uint64_t)st->st_dev;
        id->inode = (uint64_t)st->st_ino;
}

static bool lockable_by_path(const struct stat *st)
{
        return S_ISREG(st->st_mode) || S_ISDIR(st->st_mode) || S_ISBLK(st->st_mode);
}

int file_stat(const char *path, struct file_identity *id, struct file_error *e)
{
        struct stat st;

        if (stat(path, &st) != 0)
                return fail(e, "stat", errno);
        if (!lockable_by_path(&st))
                return fail(e, "open", ENOTSUP);
        identity_of(&st, id);
        return 0;
}

int file_open(const char *path, bool create, struct file_identity *id, struct file_error *e)
{
        struct stat st;
        int fd = -1, i;

        /* Never O_CREAT on what exists: fs.protected_regular refuses that in sticky folders. */
        for (i = 0; fd < 0 && i < OPEN_TRIES; i++) {
                /* A device or FIFO must not even be opened: that alone can have effects. */
                if (stat(path, &st) == 0 && !lockable_by_path(&st))
                        return fail(e, "open", ENOTSUP);
                fd = open(path, OPEN_FLAGS);
                if (fd >= 0 || errno != ENOENT || !create)
                        break;
                fd = open(path, OPEN_FLAGS | O_CREAT | O_EXCL, 0666);
                if (fd < 0 && errno != EEXIST)
                        break;
        }
        if (fd < 0)
                return fail(e, "open", errno);
        if (fstat(fd, &st) != 0 || !lockable_by_path(&st)) {
                close(fd);
                return fail(e, "open", ENOTSUP);
        }
        identity_of(&st, id);
        return fd;
}

int file_reopen(int fd, struct file_error *e)
{
        char name[64];
        int fresh;

        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        fresh = open(name, OPEN_FLAGS);
        return fresh >= 0 ? fresh : fail(e, "open", errno);
}

int file_identify(int fd, struct file_identity *id, struct file_error *e)
{
        struct statfs fs;
        struct stat st;
        int flags = fcntl(fd, F_GETFL);

        if (flags < 0)
                return fail(e, "fcntl", errno);
        if ((flags & O_PATH) != 0)
                return fail(e, "flock", EBADF);
        if (fstat(fd, &st) != 0)
                return fail(e, "fstat", errno);
        if (S_ISSOCK(st.st_mode))
                return fail(e, "flock", ENOTSUP);
        /* All anonymous inodes (epoll, eventfd, ...) share one inode: their identity means nothing. */
        if (fstatfs(fd, &fs) == 0 && fs.f_type == ANON_INODE_FS_MAGIC)
                return fail(e, "flock", ENOTSUP);
        identity_of(&st, id);
        return 0;
}

int file_compare_descriptions(int a, int b)
{
        long pid = (long)getpid();
        long r;

        if (a == b)
                return 0;
        r = syscall(SYS_kcmp, pid, pid, (long)KCMP_FILE, (unsigned long)a, (unsigned long)b);
        if (r == 0)
                return 0;
        if (r == 1 || r == 2)
                return r == 1 ? -1 : 1;
        /* No kcmp (a seccomp filter): equality is still to be had; the order is then that of the numbers. */
        if (fcntl(a, F_DUPFD_QUERY, b) == 1)
                return 0;
        return a < b ? -1 : 1;
}

void file_path(int fd, char *out, size_t size)
{
        char name[64];
        ssize_t n;

        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        n = readlink(name, out, size - 1);
        out[n > 0 ? n : 0] = '\0';
}

size_t file_limit_raise(void)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
                return 1024;
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
        (void)getrlimit(RLIMIT_NOFILE, &limit);
        return (size_t)limit.rlim_cur;
}
