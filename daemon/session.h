/* One connection: bytes to lines, descriptors to their queue, replies to bytes; back-pressure. */
#ifndef SESSION_H
#define SESSION_H

#include "dispatch.h"
#include "transport.h"
#include "turns.h"

#include <sys/queue.h>

/* What sessions share. */
struct session_group {
        struct transport_group *transports;
        struct dispatch *dispatch;
        struct turns *turns;
        void (*over)(void *arg, struct session *s);     /* a connection has ended: once for each; the session is freed after it */
        void *arg;
        struct pl_frame *spare;         /* that no session needs now; NULL: none */
};

void session_group_clear(struct session_group *group);

struct session {
        struct transport *transport;
        struct session_group *group;
        struct client *client;          /* NULL once it is over */
        struct account *account;        /* of its user, while there is a client; NULL: none */
        size_t backlog;                 /* unsent bytes, as last told to it */
        struct pl_frame *frame;         /* NULL: nothing has been read that is not carried out */
        struct turn turn;
        struct share share;
        uint64_t held_back_until_ms;    /* a descriptor is held back until then; then it is dropped, and so are others. 0: none is */
        bool paused;                    /* too many unsent replies, or requests behind one that is looked up */
        bool broken;                    /* it is to end in the next turn: not at once, for dispatch may be on the stack */
        bool gone;                      /* nobody is there any more: what was sent last is still carried out */
        LIST_ENTRY(session) entry;      /* the server's */
};

/* Serve the connected descriptor `fd` (taken over). NULL when it cannot be served: *text says why ("sessions", "memory"); fd is closed. */
struct session *session_create(struct session_group *group, int fd, struct peer *peer, const char **text);
void session_destroy(struct session *s);

/* For dispatch: queue a reply. If it cannot be queued the session ends: its client would wait for ever. */
void session_send(struct session *s, const char *data, size_t len);
/* For dispatch: what made it pause may be over. */
void session_resume(struct session *s);
/* For dispatch: is there something left of its share of this turn? Takes one piece of it. */
bool session_take_share(struct session *s);
/* For dispatch: dispatch_go_on() in the next turn. */
void session_again(struct session *s);
/* For dispatch: a reply was lost. */
void session_fail(struct session *s, const char *reason);
/* More unread replies than PL_BACKLOG_BYTES_MAX? Then nothing more is read from it until they are gone. */
bool session_clogged(const struct session *s);

#endif
