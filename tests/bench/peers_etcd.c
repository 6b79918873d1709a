/*
 * etcd's lock API by its JSON gateway (POST /v3/lock/lock and unlock), which is all that Debian's packages offer without gRPC. The address is HOST:PORT.
 *
 * What a killed client held stays until its lease ends, so each run of the load has names of its own.
 */
#include "peers.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

struct peer {
        int socket, client;
        char lease[32];
        char key[256];          /* base64, of the lock held */
        char in[8192];
};

static void base64(const char *text, char out[256])
{
        static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        size_t len = strlen(text), i, n = 0;

        for (i = 0; i < len; i += 3) {
                unsigned long word = (unsigned long)(unsigned char)text[i] << 16;

                word |= i + 1 < len ? (unsigned long)(unsigned char)text[i + 1] << 8 : 0;
                word |= i + 2 < len ? (unsigned long)(unsigned char)text[i + 2] : 0;
                out[n++] = digits[word >> 18 & 63];
                out[n++] = digits[word >> 12 & 63];
                out[n++] = i + 1 < len ? digits[word >> 6 & 63] : '=';
                out[n++] = i + 2 < len ? digits[word & 63] : '=';
        }
        out[n] = '\0';
}

/* The body of the reply; valid until the next call. */
static const char *post(struct peer *p, const char *where, const char *body)
{
        char request[1024];
        int len = snprintf(request, sizeof request, "POST %s HTTP/1.1\r\nHost: etcd\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", where,
                           strlen(body), body);
        size_t have = 0, want;
        const char *length;
        char *end;
        ssize_t n;

        if (send(p->socket, request, (size_t)len, MSG_NOSIGNAL) != len)
                bench_fail("etcd", "cannot send");
        for (;;) {
                n = recv(p->socket, p->in + have, sizeof p->in - 1 - have, 0);
                if (n <= 0)
                        bench_fail("etcd", n == 0 ? "has closed" : strerror(errno));
                have += (size_t)n;
                p->in[have] = '\0';
                end = strstr(p->in, "\r\n\r\n");
                if (end == NULL)
                        continue;
                length = strcasestr(p->in, "content-length:");
                if (length == NULL || length > end)
                        bench_fail("etcd", "answers without a length");
                want = (size_t)(end + 4 - p->in) + (size_t)atoi(length + 15);
                if (have >= want)
                        break;
        }
        if (strncmp(p->in, "HTTP/1.1 200", 12) != 0)
                bench_fail(where, end + 4);
        return end + 4;
}

/* A string member of a flat answer. */
static void member(const char *json, const char *name, char *out, size_t size)
{
        const char *found = strstr(json, name);
        size_t len;

        if (found == NULL)
                bench_fail(name, json);
        found += strlen(name);
        len = strcspn(found, "\"");
        snprintf(out, size, "%.*s", (int)len, found);
}

static struct peer *open_etcd(const char *address, const char *folder, int client, int depth)
{
        struct peer *p = calloc(1, sizeof *p);
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
        char host[64];
        const char *port = strrchr(address, ':');
        int on = 1;

        (void)folder;
        (void)depth;
        if (p == NULL || port == NULL)
                bench_fail(address, "is no address");
        snprintf(host, sizeof host, "%.*s", (int)(port - address), address);
        if (getaddrinfo(host, port + 1, &hints, &found) != 0)
                bench_fail(address, "is no address");
        p->socket = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(p->socket, found->ai_addr, found->ai_addrlen) != 0)
                bench_fail(address, strerror(errno));
        freeaddrinfo(found);
        setsockopt(p->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        p->client = client;
        member(post(p, "/v3/lease/grant", "{\"TTL\":60}"), "\"ID\":\"", p->lease, sizeof p->lease);
        return p;
}

static void lock(struct peer *p, int which)
{
        char name[64], coded[256], body[512];

        snprintf(name, sizeof name, "%d-%d-%d", (int)getppid(), which < 0 ? -1 : p->client, which);
        base64(name, coded);
        snprintf(body, sizeof body, "{\"name\":\"%s\",\"lease\":\"%s\"}", coded, p->lease);
        member(post(p, "/v3/lock/lock", body), "\"key\":\"", p->key, sizeof p->key);
}

static void unlock(struct peer *p, int which)
{
        char body[512];

        (void)which;
        snprintf(body, sizeof body, "{\"key\":\"%s\"}", p->key);
        post(p, "/v3/lock/unlock", body);
}

const struct peer_kind peer_etcd = {"etcd", open_etcd, lock, NULL, unlock, NULL};
