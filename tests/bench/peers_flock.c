/* flock(2) itself, without any daemon: what the kernel's lock alone costs, and how it serves. */
#include "peers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

struct peer {
        int fds[PEER_DEPTH_MAX + 1];
};

static int opened(const char *path)
{
        int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0666);

        if (fd < 0)
                bench_fail(path, strerror(errno));
        return fd;
}

static struct peer *open_flock(const char *address, const char *folder, int client, int depth)
{
        struct peer *p = calloc(1, sizeof *p);
        char path[256];
        int i;

        (void)address;
        if (p == NULL)
                bench_fail("calloc", strerror(errno));
        snprintf(path, sizeof path, "%s/shared.lock", folder);
        p->fds[PEER_DEPTH_MAX] = opened(path);
        for (i = 0; i < depth; i++) {
                snprintf(path, sizeof path, "%s/a-name-of-the-usual-length-%05d-%02d.lock", folder, client, i);
                p->fds[i] = opened(path);
        }
        return p;
}

static void operate(const struct peer *p, int which, int operation)
{
        if (flock(p->fds[which < 0 ? PEER_DEPTH_MAX : which], operation) != 0)
                bench_fail("flock", strerror(errno));
}

static void lock(struct peer *p, int which)
{
        operate(p, which, LOCK_EX);
}

static void lock_shared(struct peer *p, int which)
{
        operate(p, which, LOCK_SH);
}

static void unlock(struct peer *p, int which)
{
        operate(p, which, LOCK_UN);
}

const struct peer_kind peer_flock = {"flock", open_flock, lock, lock_shared, unlock, NULL};
