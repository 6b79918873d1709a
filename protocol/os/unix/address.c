#include "../address.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SYSTEM_FOLDER "/run/portalock"
#define SYSTEM_SOCKET SYSTEM_FOLDER "/system"

static int fail(struct pl_address *a, int error, const char *path, const char *why)
{
        snprintf(a->text, sizeof a->text, "%.150s: %s", path, why);
        return -error;
}

static int set_path(struct pl_address *a, const char *folder, const char *name)
{
        int n = snprintf(a->path, sizeof a->path, "%s%s", folder, name);

        if (n < 0 || (size_t)n >= sizeof a->path)
                return fail(a, ENAMETOOLONG, folder, "the socket's path is longer than 4095 bytes");
        return 0;
}

/* The place of the system's daemon, found or named: the rules for it hold in either case. */
static int set_system(struct pl_address *a)
{
        a->system = true;
        a->named = false;
        return set_path(a, SYSTEM_SOCKET, "");
}

/* `given`, else PORTALOCK_SOCKET. 0: neither is set, or a->named; or -errno. */
static int find_named(struct pl_address *a, const char *given)
{
        memset(a, 0, sizeof *a);
        if (given == NULL)
                given = getenv("PORTALOCK_SOCKET");
        if (given == NULL || given[0] == '\0')
                return 0;
        a->named = true;
        if (strcmp(given, SYSTEM_SOCKET) == 0)
                return set_system(a);
        if (given[0] == '/')
                return set_path(a, given, "");
        if (strlen(given) > PATH_MAX / 2)
                return fail(a, ENAMETOOLONG, given, "the socket's path is too long");
        if (getcwd(a->path, sizeof a->path - strlen(given) - 2) == NULL)
                return fail(a, errno, given, strerror(errno));
        strcat(strcat(a->path, "/"), given);
        return 0;
}

int pl_address_find(struct pl_address *a, const char *given)
{
        const char *runtime = getenv("XDG_RUNTIME_DIR");
        uid_t uid = geteuid();
        char folder[64];
        struct stat st;
        int r = find_named(a, given);

        if (r != 0 || a->named || a->system)
                return r;
        if (stat(SYSTEM_SOCKET, &st) == 0 && S_ISSOCK(st.st_mode))
                return set_system(a);
        if (uid == 0)
                return set_path(a, SYSTEM_FOLDER "/socket", "");
        if (runtime != NULL && runtime[0] == '/')
                return set_path(a, runtime, "/portalock/socket");
        snprintf(folder, sizeof folder, "/tmp/portalock-%lu", (unsigned long)uid);
        return set_path(a, folder, "/socket");
}

int pl_address_find_system(struct pl_address *a, const char *given)
{
        int r = find_named(a, given);

        if (r == 0 && !a->named)
                r = set_system(a);
        return r;
}

/* The folder part of the socket's path; `out` as large as a->path. */
static void folder_of(const struct pl_address *a, char *out)
{
        char *slash;

        memcpy(out, a->path, sizeof a->path);
        slash = strrchr(out, '/');
        if (slash == out)
                slash++;
        *slash = '\0';
}

static const char *base_of(const struct pl_address *a)
{
        return strrchr(a->path, '/') + 1;
}

int pl_address_check(struct pl_address *a, bool create)
{
        char folder[sizeof a->path];
        struct stat st;

        folder_of(a, folder);
        if (create && mkdir(folder, a->system || strcmp(folder, SYSTEM_FOLDER) == 0 ? 0755 : 0700) != 0 && errno != EEXIST)
                return fail(a, errno, folder, strerror(errno));
        if (lstat(folder, &st) != 0)
                return fail(a, errno, folder, strerror(errno));
        if (a->named) {
                if (stat(folder, &st) != 0 || !S_ISDIR(st.st_mode))
                        return fail(a, ENOTDIR, folder, "is not a folder");
                if ((st.st_mode & 0022) != 0 && (st.st_mode & S_ISVTX) == 0)
                        return fail(a, EPERM, folder, "others may write there: they could put a socket of theirs in its place (chmod go-w it)");
                return 0;
        }
        if (!S_ISDIR(st.st_mode))
                return fail(a, ENOTDIR, folder, "is not a folder (a symbolic link is not followed)");
        if (!a->system && st.st_uid != geteuid())
                return fail(a, EPERM, folder, "belongs to another user");
        if ((st.st_mode & 0022) != 0 || (!a->system && strcmp(folder, SYSTEM_FOLDER) != 0 && (st.st_mode & 0077) != 0))
                return fail(a, EPERM, folder, "is open to others (it must have mode 0700)");
        return 0;
}

int pl_address_check_system(struct pl_address *a)
{
        char folder[sizeof a->path];
        struct stat st;

        folder_of(a, folder);
        if (mkdir(folder, 0755) == 0)
                (void)chmod(folder, 0755);      /* whatever the umask */
        else if (errno != EEXIST)
                return fail(a, errno, folder, strerror(errno));
        if (lstat(folder, &st) != 0)
                return fail(a, errno, folder, strerror(errno));
        if (!S_ISDIR(st.st_mode))
                return fail(a, ENOTDIR, folder, "is not a folder (a symbolic link is not followed)");
        if (st.st_uid != geteuid())
                return fail(a, EPERM, folder, "must belong to the user that this daemon runs as: by that clients know whom to trust");
        if ((st.st_mode & 0022) != 0)
                return fail(a, EPERM, folder, "others may write there: they could put a socket of theirs in its place (it must have mode 0755)");
        if ((st.st_mode & 0005) != 0005)
                return fail(a, EPERM, folder, "is closed to others, who shall connect here (it must have mode 0755)");
        return 0;
}

/* Fill in the socket's address; a path too long for it goes by its folder's descriptor, returned in *dir (-1: none). */
static int fill(const struct pl_address *a, struct sockaddr_un *sun, int *dir)
{
        char folder[sizeof a->path];
        int n;

        memset(sun, 0, sizeof *sun);
        sun->sun_family = AF_UNIX;
        *dir = -1;
        if (strlen(a->path) <= PL_SOCKET_PATH_MAX) {
                memcpy(sun->sun_path, a->path, strlen(a->path) + 1);
                return 0;
        }
        folder_of(a, folder);
        *dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (*dir < 0)
                return -errno;
        n = snprintf(sun->sun_path, sizeof sun->sun_path, "/proc/self/fd/%d/%s", *dir, base_of(a));
        if (n < 0 || (size_t)n >= sizeof sun->sun_path) {
                close(*dir);
                return -ENAMETOOLONG;
        }
        return 0;
}

int pl_address_connect(const struct pl_address *a)
{
        struct sockaddr_un sun;
        int dir, fd, r = fill(a, &sun, &dir);

        if (r != 0)
                return r;
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                r = -errno;
        else if (connect(fd, (struct sockaddr *)&sun, sizeof sun) != 0)
                r = -errno;
        if (dir >= 0)
                close(dir);
        if (r == 0)
                return fd;
        if (fd >= 0)
                close(fd);
        return r;
}

int pl_address_check_server(struct pl_address *a, int fd, long long *pid)
{
        struct ucred cred;
        socklen_t len = sizeof cred;
        struct stat st;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0)
                return fail(a, errno, a->path, strerror(errno));
        *pid = cred.pid;
        if (cred.uid == geteuid() || cred.uid == 0)
                return 0;
        if (a->system && stat(SYSTEM_FOLDER, &st) == 0 && st.st_uid == cred.uid)
                return 0;
        return fail(a, EPERM, a->path, "is served by another user, who is not trusted with our files");
}

int pl_address_bind(const struct pl_address *a, bool everybody)
{
        struct sockaddr_un sun;
        struct stat st;
        mode_t old;
        int dir, fd, r;

        /* The start lock is ours: a socket that is here belongs to a dead daemon. Anything else is not ours to remove. */
        if (lstat(a->path, &st) == 0) {
                if (!S_ISSOCK(st.st_mode))
                        return -EEXIST;
                if (unlink(a->path) != 0)
                        return -errno;
        }
        r = fill(a, &sun, &dir);
        if (r != 0)
                return r;
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        old = umask(everybody ? 0111 : 0177);
        if (fd < 0 || bind(fd, (struct sockaddr *)&sun, sizeof sun) != 0)
                r = -errno;
        umask(old);
        if (dir >= 0)
                close(dir);
        if (r == 0)
                return fd;
        if (fd >= 0)
                close(fd);
        return r;
}

int pl_address_start_lock(const struct pl_address *a)
{
        char path[sizeof a->path + 8];
        int fd, error;

        snprintf(path, sizeof path, "%s.lock", a->path);
        fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
                return fd;
        error = errno;
        close(fd);
        return -error;
}
