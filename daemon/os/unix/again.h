/* Calls that are made again when a signal, or a file system of its own accord, has interrupted them. */
#ifndef AGAIN_H
#define AGAIN_H

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static inline int open_again(const char *path, int flags, mode_t mode)
{
        int fd;

        do
                fd = open(path, flags, mode);
        while (fd < 0 && errno == EINTR);
        return fd;
}

static inline int openat_again(int dir, const char *path, int flags)
{
        int fd;

        do
                fd = openat(dir, path, flags);
        while (fd < 0 && errno == EINTR);
        return fd;
}

static inline ssize_t read_again(int fd, void *data, size_t len)
{
        ssize_t n;

        do
                n = read(fd, data, len);
        while (n < 0 && errno == EINTR);
        return n;
}

#endif
