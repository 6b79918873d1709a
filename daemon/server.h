/* The listener and its sessions: who may connect, how many, and when to pause because descriptors run out. */
#ifndef SERVER_H
#define SERVER_H

#include "session.h"

struct server;

struct server_options {
        int64_t own_uid;
        struct accounts *accounts;      /* not NULL: every user may connect */
        void (*idle)(void *arg, bool idle);     /* the last connection has gone (true), or one has come (false) */
        void *arg;
};

/* Takes over the bound `fd`. NULL on failure with errno set. */
struct server *server_create(uv_loop_t *loop, int fd, struct dispatch *dispatch, struct descriptors *descriptors, const struct server_options *options);
/* No more connections; the sessions stay. */
void server_stop_listening(struct server *s);
/* Keep back all replies and notifications until they are let go. */
void server_hold(struct server *s, bool on);
/* Ends all sessions. The loop must run once more. */
void server_destroy(struct server *s);

#endif
