/* portalockd by path and by passed descriptor, the roofline and relay servers (which speak the same), and the echo of the same bytes. */
#include "peers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct name {
        char lock[512], share[512], unlock[512];        /* the request lines; unlock by path, for pipelining */
        size_t lock_len, share_len, unlock_len;
        long long id;                   /* of the lock held */
        int fd;
};

struct peer {
        int socket;
        bool passes, echoes;
        char in[1 << 16];
        size_t in_start, in_end;
        struct name shared, own[PEER_DEPTH_MAX];
};

static void send_all(struct peer *p, const char *data, size_t len, int fd)
{
        struct iovec part = {(char *)data, len};
        union {
                struct cmsghdr align;
                char room[CMSG_SPACE(sizeof(int))];
        } control;
        struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
        struct cmsghdr *c;
        ssize_t n;

        if (fd >= 0) {
                m.msg_control = control.room;
                m.msg_controllen = sizeof control.room;
                c = CMSG_FIRSTHDR(&m);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof fd);
                memcpy(CMSG_DATA(c), &fd, sizeof fd);
        }
        while (part.iov_len > 0) {
                n = sendmsg(p->socket, &m, MSG_NOSIGNAL);
                if (n < 0)
                        bench_fail("sendmsg", strerror(errno));
                part.iov_base = (char *)part.iov_base + n;
                part.iov_len -= (size_t)n;
                m.msg_control = NULL;
                m.msg_controllen = 0;
        }
}

/* The next whole line, without its LF; valid until the next call. */
static char *take_line(struct peer *p)
{
        char *line, *end;
        ssize_t n;

        while ((end = memchr(p->in + p->in_start, '\n', p->in_end - p->in_start)) == NULL) {
                if (p->in_start > 0) {
                        memmove(p->in, p->in + p->in_start, p->in_end - p->in_start);
                        p->in_end -= p->in_start;
                        p->in_start = 0;
                }
                n = recv(p->socket, p->in + p->in_end, sizeof p->in - p->in_end, 0);
                if (n <= 0)
                        bench_fail("recv", n == 0 ? "the server has closed" : strerror(errno));
                p->in_end += (size_t)n;
        }
        *end = '\0';
        line = p->in + p->in_start;
        p->in_start = (size_t)(end + 1 - p->in);
        return line;
}

static size_t lock_line(const struct peer *p, char out[512], const char *path, const char *mode)
{
        return (size_t)snprintf(out, 512, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"lock\",\"params\":{\"path\":\"%s\",%s\"flags\":[\"%s\"]}}\n", path,
                                p->passes ? "\"fd\":true," : "", mode);
}

static void prepare(struct peer *p, struct name *n, const char *path)
{
        n->fd = -1;
        n->lock_len = lock_line(p, n->lock, path, "LOCK_EX");
        n->share_len = lock_line(p, n->share, path, "LOCK_SH");
        n->unlock_len = (size_t)snprintf(n->unlock, sizeof n->unlock, "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"unlock\",\"params\":{\"path\":\"%s\"}}\n", path);
        if (p->echoes)
                return;
        n->fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0666);      /* by path too: that the file has to be made is nothing of the server's */
        if (n->fd < 0)
                bench_fail(path, strerror(errno));
        if (!p->passes) {
                close(n->fd);
                n->fd = -1;
        }
}

static struct peer *open_wire(const char *address, const char *folder, int client, int depth, bool passes, bool echoes)
{
        struct peer *p = calloc(1, sizeof *p);
        struct sockaddr_un where = {.sun_family = AF_UNIX};
        char path[256];
        int i;

        if (p == NULL)
                bench_fail("calloc", strerror(errno));
        p->passes = passes;
        p->echoes = echoes;
        snprintf(where.sun_path, sizeof where.sun_path, "%s", address);
        p->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        while (connect(p->socket, (struct sockaddr *)&where, sizeof where) != 0) {
                if (errno != EAGAIN)
                        bench_fail(address, strerror(errno));
        }
        snprintf(path, sizeof path, "%s/shared.lock", folder);
        prepare(p, &p->shared, path);
        for (i = 0; i < depth; i++) {
                snprintf(path, sizeof path, "%s/a-name-of-the-usual-length-%05d-%02d.lock", folder, client, i);
                prepare(p, &p->own[i], path);
        }
        return p;
}

static struct peer *open_path(const char *address, const char *folder, int client, int depth)
{
        return open_wire(address, folder, client, depth, false, false);
}

static struct peer *open_fd(const char *address, const char *folder, int client, int depth)
{
        return open_wire(address, folder, client, depth, true, false);
}

static struct peer *open_echo(const char *address, const char *folder, int client, int depth)
{
        return open_wire(address, folder, client, depth, false, true);
}

static struct name *name_of(struct peer *p, int which)
{
        return which < 0 ? &p->shared : &p->own[which];
}

static void granted(struct peer *p, struct name *n)
{
        const char *line = take_line(p), *member;

        if (p->echoes)
                return;
        member = strstr(line, "\"lock\":");
        if (member == NULL)
                bench_fail("lock", line);
        n->id = atoll(member + 7);
}

static void lock(struct peer *p, int which)
{
        struct name *n = name_of(p, which);

        send_all(p, n->lock, n->lock_len, n->fd);
        granted(p, n);
}

static void lock_shared(struct peer *p, int which)
{
        struct name *n = name_of(p, which);

        send_all(p, n->share, n->share_len, n->fd);
        granted(p, n);
}

static void unlock(struct peer *p, int which)
{
        char line[128];
        int len = snprintf(line, sizeof line, "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"unlock\",\"params\":{\"lock\":%lld}}\n", name_of(p, which)->id);
        const char *reply;

        send_all(p, line, (size_t)len, -1);
        reply = take_line(p);
        if (!p->echoes && strstr(reply, "true") == NULL)
                bench_fail("unlock", reply);
}

static void pairs(struct peer *p, int count)
{
        static __thread char all[PEER_DEPTH_MAX * 1024];
        size_t len = 0;
        int i;

        for (i = 0; i < count; i++) {
                struct name *n = &p->own[i];

                memcpy(all + len, n->lock, n->lock_len);
                len += n->lock_len;
                if (p->passes) {        /* a message carries one descriptor: it takes along the unlock of the lock before */
                        send_all(p, all, len, n->fd);
                        len = 0;
                }
                memcpy(all + len, n->unlock, n->unlock_len);
                len += n->unlock_len;
        }
        send_all(p, all, len, -1);
        for (i = 0; i < 2 * count; i++) {
                const char *line = take_line(p);

                if (!p->echoes && strstr(line, "\"error\"") != NULL)
                        bench_fail("a pipelined request", line);
        }
}

const struct peer_kind peer_portalock = {"portalock", open_path, lock, lock_shared, unlock, pairs};
const struct peer_kind peer_portalock_fd = {"portalock-fd", open_fd, lock, lock_shared, unlock, pairs};
const struct peer_kind peer_echo = {"echo", open_echo, lock, NULL, unlock, pairs};
