/* One connection: bytes to lines, descriptors to their queue, replies to bytes; back-pressure. */
#ifndef SESSION_H
#define SESSION_H

#include "dispatch.h"
#include "transport.h"

#include <sys/queue.h>

struct session {
        struct transport *transport;
        struct dispatch *dispatch;
        struct client *client;          /* NULL once it is over */
        struct pl_frame *frame;
        void (*over)(void *arg, struct session *s);
        void *arg;
        bool paused;                    /* too many unsent replies, or requests behind one that is looked up */
        LIST_ENTRY(session) entry;      /* the server's */
};

/*
 * Serve the connected descriptor `fd` (taken over). `over` is called once when the connection has ended; the session is freed after it.
 * NULL when it cannot be served: *text says why ("sessions", "memory"); fd is closed.
 */
struct session *session_create(struct transport_group *group, struct dispatch *dispatch, int fd, const struct peer *peer,
                               void (*over)(void *arg, struct session *s), void *arg, const char **text);
void session_destroy(struct session *s);

/* For dispatch: queue a reply. */
void session_send(struct session *s, const char *data, size_t len);
/* For dispatch: what made it pause may be over. */
void session_resume(struct session *s);
/* More unread replies than PL_BACKLOG_BYTES_MAX? Then nothing more is read from it until they are gone. */
bool session_clogged(const struct session *s);

#endif
