#include "statefile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SYSTEM_PLACE "/var/lib"

static bool set_place(struct statefile *f, const char *given, const char *below)
{
        int n = snprintf(f->folder, sizeof f->folder, "%s%s", given, below);

        f->given = strlen(given);
        return n > 0 && (size_t)n < sizeof f->folder;
}

/* Where the folder above the last one of `path` ends; a "/" at the end counts for nothing. */
static size_t length_of_parent(const char *path)
{
        size_t len = strlen(path);

        while (len > 1 && path[len - 1] == '/')
                len--;
        while (len > 0 && path[len - 1] != '/')
                len--;
        return len;
}

bool statefile_place(struct statefile *f, const char *given, bool system)
{
        const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

        if (given != NULL) {
                if (!set_place(f, given, ""))
                        return false;
                f->given = length_of_parent(given);
                return true;
        }
        /* As the XDG rules have it, what is not absolute is not there. */
        if (state != NULL && state[0] == '/') {
                if (!set_place(f, state, "/portalock"))
                        return false;
                f->given = length_of_parent(state);
                return true;
        }
        if (system || geteuid() == 0)
                return set_place(f, SYSTEM_PLACE, "/portalock");
        if (home != NULL && home[0] == '/')
                return set_place(f, home, "/.local/state/portalock");
        return false;
}

static int failed(const char **step, const char *what)
{
        *step = what;
        return -errno;
}

/* Whatever is missing below the given part. What is there already is judged when it is opened. */
static int make_folders(const struct statefile *f, const char **step)
{
        char path[sizeof f->folder];
        char *slash = path + f->given;

        memcpy(path, f->folder, sizeof path);
        while (slash != NULL && *slash != '\0') {
                slash = strchr(slash + 1, '/');
                if (slash != NULL)
                        *slash = '\0';
                if (mkdir(path, 0700) != 0 && errno != EEXIST)
                        return failed(step, "mkdir");
                if (slash != NULL)
                        *slash = '/';
        }
        return 0;
}

/* A descriptor of the folder, or -errno. */
static int open_folder(const struct statefile *f, const char **step)
{
        int fd = open(f->folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        struct stat st;

        if (fd < 0)
                return failed(step, "open the folder");
        if (fstat(fd, &st) == 0 && (st.st_uid == geteuid() || st.st_uid == 0) && (st.st_mode & 0022) == 0)
                return fd;
        close(fd);
        *step = "folder open to others";
        return -EPERM;
}

static bool is_ours(const struct stat *st)
{
        return S_ISREG(st->st_mode) && st->st_uid == geteuid();
}

static int read_all(int fd, char *out, const char **step)
{
        size_t len = 0;
        ssize_t n;

        do {
                n = read(fd, out + len, STATEFILE_TEXT_MAX - 1 - len);
                if (n < 0 && errno != EINTR)
                        return failed(step, "read");
                len += n > 0 ? (size_t)n : 0;
        } while (n != 0 && len < STATEFILE_TEXT_MAX - 1);
        out[len] = '\0';
        return (int)len;
}

int statefile_read(const struct statefile *f, char out[STATEFILE_TEXT_MAX], const char **step)
{
        int dir = open_folder(f, step), fd, r;
        struct stat st;

        if (dir < 0)
                return dir;
        /* O_NONBLOCK: a fifo must not keep us waiting. */
        fd = openat(dir, f->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0) {
                r = failed(step, "open");
        } else if (fstat(fd, &st) != 0 || !is_ours(&st)) {
                *step = "not a file of ours";
                r = -EPERM;
        } else {
                r = read_all(fd, out, step);
        }
        if (fd >= 0)
                close(fd);
        close(dir);
        return r;
}

static int write_all(int fd, const char *text, bool durable, const char **step)
{
        size_t len = strlen(text), sent = 0;

        while (sent < len) {
                ssize_t n = write(fd, text + sent, len - sent);

                if (n < 0 && errno != EINTR)
                        return failed(step, "write");
                sent += n > 0 ? (size_t)n : 0;
        }
        return !durable || fsync(fd) == 0 ? 0 : failed(step, "fsync");
}

/* A new file `name` that holds the text. On failure there is none. */
static int write_aside(int dir, const char *name, const char *text, bool durable, const char **step)
{
        int fd, r;

        /* Left by one of us who was killed: the start lock lets no two live at once. */
        if (unlinkat(dir, name, 0) != 0 && errno != ENOENT)
                return failed(step, "unlink the new file");
        fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return failed(step, "create");
        r = write_all(fd, text, durable, step);
        if (close(fd) != 0 && r == 0)
                r = failed(step, "close");
        if (r != 0)
                unlinkat(dir, name, 0);
        return r;
}

static int replace(int dir, const char *name, const char *text, bool durable, const char **step)
{
        char aside[sizeof((struct statefile *)0)->name + 8];
        struct stat st;
        int r;

        if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !is_ours(&st)) {
                *step = "not a file of ours";
                return -EEXIST;
        }
        snprintf(aside, sizeof aside, "%s.new", name);
        r = write_aside(dir, aside, text, durable, step);
        if (r != 0)
                return r;
        if (renameat(dir, aside, dir, name) != 0) {
                r = failed(step, "rename");
                unlinkat(dir, aside, 0);
                return r;
        }
        /* EINVAL: a file system that knows no such thing. */
        return !durable || fsync(dir) == 0 || errno == EINVAL ? 0 : failed(step, "fsync of the folder");
}

int statefile_write(const struct statefile *f, const char *text, bool durable, const char **step)
{
        int r = make_folders(f, step), dir;

        if (r != 0)
                return r;
        dir = open_folder(f, step);
        if (dir < 0)
                return dir;
        r = replace(dir, f->name, text, durable, step);
        close(dir);
        return r;
}
