#include "file.h"
#include "again.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#ifndef F_DUPFD_QUERY
#define F_DUPFD_QUERY 1027      /* Linux 6.10 */
#endif

#define OPEN_FLAGS (O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
#define OPEN_TRIES 100          /* somebody creates and removes the file all the time */

const bool file_may_linger = true;

static int fail(struct file_error *e, const char *syscall_name, int error)
{
        *e = (struct file_error){.syscall = syscall_name, .error = error};
        return -1;
}

static bool lockable_by_path(mode_t mode)
{
        return S_ISREG(mode) || S_ISDIR(mode) || S_ISBLK(mode);
}

int file_stat(const char *path, struct file_identity *id, struct file_error *e)
{
        struct stat st;

        if (stat(path, &st) != 0)
                return fail(e, "stat", errno);
        *id = (struct file_identity){.device = (uint64_t)st.st_dev, .inode = (uint64_t)st.st_ino};
        return 0;
}

/* ---- without waiting for anybody ---- */

/* What the kernel knows of an open descriptor by itself. */
static int stat_cached(int fd, struct statx *out)
{
        return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_MNT_ID, out);
}

static uint64_t device_of(const struct statx *st)
{
        return (uint64_t)makedev(st->stx_dev_major, st->stx_dev_minor);
}

static struct file_identity identity_of(const struct statx *st)
{
        return (struct file_identity){.device = device_of(st),
                                      .inode = st->stx_ino,
                                      .mount = (st->stx_mask & STATX_MNT_ID) != 0 ? st->stx_mnt_id : 0,
                                      .lockable = lockable_by_path(st->stx_mode)};
}

bool file_is_local(struct mounts *m, int fd, const struct file_identity *known)
{
        struct file_identity id;
        struct statx st;

        if (known != NULL)
                return mounts_is_local(m, known->mount, known->device);
        if (stat_cached(fd, &st) != 0)
                return false;
        id = identity_of(&st);
        return mounts_is_local(m, id.mount, id.device);
}

/* A descriptor that only names the file; EAGAIN: part of the path is not in the kernel's cache. ENOSYS, EINVAL or EPERM: an old kernel, or a filter. */
static int name_cached(const char *path, int flags)
{
        struct open_how how = {.flags = (uint64_t)(unsigned)(O_PATH | O_CLOEXEC | flags), .resolve = RESOLVE_CACHED};

        return (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
}

/* As that, but on an old kernel or behind a filter the way there may hang; the file itself not. */
static int name_at_once(const char *path, int flags)
{
        int named = name_cached(path, flags);

        if (named < 0 && (errno == ENOSYS || errno == EINVAL || errno == EPERM))
                named = open_again(path, O_PATH | O_CLOEXEC | flags, 0);
        return named;
}

static int glanced_at = -1;     /* what the last glance has found */

void file_end_glance(void)
{
        if (glanced_at >= 0)
                close(glanced_at);      /* of a mere name: nothing to flush */
        glanced_at = -1;
}

/* Takes the descriptor over. */
static enum file_place place_of(struct mounts *m, int named, struct file_identity *id, struct file_error *e)
{
        struct statx st;

        file_end_glance();
        glanced_at = named;
        if (stat_cached(named, &st) != 0) {
                fail(e, "stat", errno);
                return FILE_BAD;
        }
        *id = identity_of(&st);
        return S_ISLNK(st.stx_mode) || !mounts_is_local(m, id->mount, id->device) ? FILE_AWAY : FILE_LOCAL;
}

/* The file itself is not in the cache: if its folder is there and local, only a disk stands between. A link may lead anywhere: not followed. */
static enum file_place glance_into_folder(struct mounts *m, const char *path, struct file_identity *id, struct file_error *e)
{
        const char *name = strrchr(path, '/');
        char folder[PATH_MAX];
        int dir, named, error;

        if (name == NULL || name[1] == '\0' || (size_t)(name - path) >= sizeof folder - 1)
                return FILE_AWAY;
        snprintf(folder, sizeof folder, "%.*s/", (int)(name - path), path);
        dir = name_at_once(folder, O_DIRECTORY);
        if (dir < 0 && errno != EAGAIN) {
                fail(e, "open", errno);
                return FILE_BAD;
        }
        if (dir < 0)
                return FILE_AWAY;
        if (!file_is_local(m, dir, NULL)) {
                close(dir);
                return FILE_AWAY;
        }
        named = openat_again(dir, name + 1, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        error = errno;
        close(dir);
        if (named >= 0)
                return place_of(m, named, id, e);
        if (error == ENOENT)
                return FILE_MISSING;
        fail(e, "stat", error);
        return FILE_BAD;
}

enum file_place file_glance(struct mounts *m, const char *path, struct file_identity *id, struct file_error *e)
{
        int named = name_at_once(path, 0);

        if (named >= 0)
                return place_of(m, named, id, e);
        if (errno == EAGAIN || errno == ENOENT)
                return glance_into_folder(m, path, id, e);
        fail(e, "stat", errno);
        return FILE_BAD;
}

int file_way(struct mounts *m, const char *path, const char **rest)
{
        size_t len = strlen(path);
        char folder[PATH_MAX];
        int dir = -1;

        if (len >= sizeof folder)
                return -1;
        memcpy(folder, path, len + 1);
        do {
                while (len > 0 && folder[len - 1] != '/')
                        len--;
                if (len == 0)
                        return -1;
                folder[len] = '\0';     /* with its slash */
                dir = name_cached(folder, O_DIRECTORY);
                *rest = path + len;
                len--;
        } while (dir < 0 && (errno == EAGAIN || errno == ENOENT));
        if (dir < 0 || file_is_local(m, dir, NULL))
                return dir;
        close(dir);
        return -1;
}

void file_walk(int folder, const char *rest)
{
        struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS};
        int fd = (int)syscall(SYS_openat2, folder, rest, &how, sizeof how);

        if (fd >= 0)
                close(fd);
}

/* ---- */

/* All anonymous inodes (epoll, eventfd, ...) are on one device of their own. */
static bool is_anonymous(uint64_t device)
{
        static uint64_t anonymous;
        struct stat st;
        int fd;

        if (anonymous == 0) {
                fd = eventfd(0, EFD_CLOEXEC);
                if (fd < 0)
                        return false;
                if (fstat(fd, &st) == 0)
                        anonymous = (uint64_t)st.st_dev;
                close(fd);
        }
        return device == anonymous;
}

/* A device or FIFO must not even be opened: that alone can have effects. */
static bool forbids_opening(const char *path, const struct file_identity *glanced)
{
        struct stat st;

        if (glanced != NULL)
                return !glanced->lockable;
        return stat(path, &st) == 0 && !lockable_by_path(st.st_mode);
}

int file_open(const char *path, bool create, const struct file_identity *glanced, struct file_identity *id, struct file_error *e)
{
        struct statx st;
        int fd = -1, i;

        /* Never O_CREAT on what exists: fs.protected_regular refuses that in sticky folders. */
        for (i = 0; fd < 0 && i < OPEN_TRIES; i++) {
                if (forbids_opening(path, i == 0 ? glanced : NULL))
                        return fail(e, "open", ENOTSUP);
                fd = open_again(path, OPEN_FLAGS, 0);
                if (fd >= 0 || errno != ENOENT || !create)
                        break;
                /* Neither there nor not there: a link to what is still to be made. */
                fd = open_again(path, OPEN_FLAGS | O_CREAT | (i == 0 ? O_EXCL : 0), 0666);
                if (fd < 0 && errno != EEXIST)
                        break;
        }
        if (fd < 0)
                return fail(e, "open", errno);
        if (stat_cached(fd, &st) != 0 || !lockable_by_path(st.stx_mode)) {
                close(fd);
                return fail(e, "open", ENOTSUP);
        }
        *id = identity_of(&st);
        return fd;
}

void file_close(int fd)
{
        close(fd);
}

int file_reopen(int fd, struct file_error *e)
{
        char name[64];
        int fresh;

        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        fresh = open_again(name, OPEN_FLAGS, 0);
        return fresh >= 0 ? fresh : fail(e, "open", errno);
}

int file_identify(int fd, struct file_identity *id, struct file_error *e)
{
        struct statx st;
        int flags = fcntl(fd, F_GETFL);

        if (flags < 0)
                return fail(e, "fcntl", errno);
        if ((flags & O_PATH) != 0)
                return fail(e, "flock", EBADF);
        if (stat_cached(fd, &st) != 0)
                return fail(e, "stat", errno);
        /* Anonymous inodes share one inode number: their identity means nothing. */
        if (S_ISSOCK(st.stx_mode) || is_anonymous(device_of(&st)))
                return fail(e, "flock", ENOTSUP);
        *id = identity_of(&st);
        return 0;
}

/* 0 equal, 1 less, 2 greater, -1 when it is forbidden: many seccomp filters know nothing of it. */
static long own_pid;    /* asked once: a look for one of 50 descriptions is a dozen comparisons */

static long kcmp_files(int a, int b)
{
        return syscall(SYS_kcmp, own_pid, own_pid, (long)KCMP_FILE, (unsigned long)a, (unsigned long)b);
}

/* Linux 6.10. */
static bool can_query(int fd)
{
        return fcntl(fd, F_DUPFD_QUERY, fd) == 1;
}

enum file_comparing file_comparing(void)
{
        static enum file_comparing known;
        static bool asked;
        int fd;

        if (asked)
                return known;
        own_pid = (long)getpid();
        fd = eventfd(0, EFD_CLOEXEC);
        if (fd < 0)
                return FILE_NOTHING;    /* for now */
        known = kcmp_files(fd, fd) == 0 ? FILE_ORDER : can_query(fd) ? FILE_EQUALITY : FILE_NOTHING;
        asked = true;
        close(fd);
        return known;
}

int file_compare_descriptions(int a, int b)
{
        long r = a == b ? 0 : kcmp_files(a, b);

        return r == 0 ? 0 : r == 1 ? -1 : 1;
}

bool file_same_description(int a, int b)
{
        return a == b || fcntl(a, F_DUPFD_QUERY, b) == 1;
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
