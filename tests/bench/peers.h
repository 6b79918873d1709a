/*
 * The lock servers that are measured, each behind the same few functions. A peer is one connection of one client; it blocks.
 *
 * Our own messages are written by hand here, as the peers' libraries write theirs: what is measured is the server and the wire.
 */
#ifndef BENCH_PEERS_H
#define BENCH_PEERS_H

#include <stdbool.h>
#include <stddef.h>

struct peer;

struct peer_kind {
        const char *name;
        struct peer *(*open)(const char *address, const char *folder, int client, int depth);   /* `depth` locks of its own; exits with a message when it cannot */
        void (*lock)(struct peer *p, int which);        /* waits until it is granted */
        void (*unlock)(struct peer *p, int which);
        void (*pairs)(struct peer *p, int count);       /* `count` locks and unlocks of distinct names sent at once, then all answers; NULL: not that one */
};

/* NULL: no such one. */
const struct peer_kind *peer_kind(const char *name);

/* peers_wire.c, peers_redis.c, peers_postgres.c */
extern const struct peer_kind peer_portalock, peer_portalock_fd, peer_echo, peer_redis, peer_redis_list, peer_postgres;

void bench_fail(const char *what, const char *why) __attribute__((noreturn));

#endif
