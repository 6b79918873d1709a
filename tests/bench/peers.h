/*
 * The lock servers that are measured, each behind the same few functions. A peer is one connection of one client; it blocks.
 *
 * What is sent is written once, at the beginning, as far as the peer's library allows it (redisFormatCommand, prepared statements, our own lines), and
 * answers are looked at, not parsed: what is measured is the server and the wire, for everybody.
 */
#ifndef BENCH_PEERS_H
#define BENCH_PEERS_H

#include <stdbool.h>
#include <stddef.h>

#define PEER_DEPTH_MAX 64

struct peer;

struct peer_kind {
        const char *name;
        struct peer *(*open)(const char *address, const char *folder, int client, int depth);   /* `depth` locks of its own; exits with a message when it cannot */
        /* `which`: one of its own locks, 0 ... depth - 1, or -1, the one that all share. */
        void (*lock)(struct peer *p, int which);        /* exclusive; waits until it is granted */
        void (*lock_shared)(struct peer *p, int which); /* NULL: it has no shared locks */
        void (*unlock)(struct peer *p, int which);
        void (*pairs)(struct peer *p, int count);       /* `count` locks and unlocks of distinct names sent at once, then all answers; NULL: not that one */
};

/* peers_wire.c, peers_flock.c */
extern const struct peer_kind peer_portalock, peer_portalock_fd, peer_echo, peer_flock;
/* peers_redis.c, peers_postgres.c, peers_etcd.c: only with PORTALOCK_BENCH */
extern const struct peer_kind peer_redis, peer_redis_list, peer_postgres, peer_etcd;

void bench_fail(const char *what, const char *why) __attribute__((noreturn));

#endif
