/*
 * Bytes, and on Unix descriptors, between the daemon and its clients.
 *
 * All callbacks run on the loop's thread and never within a call of the same transport, but those of transport_destroy(), which calls nothing.
 * What is sent to a peer leaves in one write when all that was just received has been carried out, at the latest at the end of the loop's turn.
 */
#ifndef TRANSPORT_H
#define TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct uv_loop_s uv_loop_t;

#define TRANSPORT_FD_HOLE (-1)  /* a descriptor was sent, but could not be received */

/* Do descriptors travel on this system? */
extern const bool transport_passes_descriptors;

struct transport_group;         /* what the connections of one loop share */
struct transport;

/* What to do with a descriptor that may come with the next bytes. */
enum transport_take {
        TRANSPORT_TAKE,
        TRANSPORT_HOLD_BACK,    /* it stays in the socket, with the bytes that came with it and all that follow */
        TRANSPORT_DROP          /* it is lost: a hole */
};

struct transport_events {
        enum transport_take (*take)(void *arg);
        /* A descriptor was held back. Nothing is read until transport_reading() is called with true. */
        void (*held_back)(void *arg);
        /* Room for bytes to read: at least one at *out; 0 when there is none (the connection is then ended). */
        size_t (*room)(void *arg, char **out);
        /* `len` bytes came into the room; before them in the stream stand `count` descriptors, now owned by the callee. Neither: nothing has come after all. */
        void (*received)(void *arg, size_t len, const int *fds, size_t count);
        /* The peer sends no more, but may still read. */
        void (*ended)(void *arg);
        /* Nobody is there any more; what they sent last may still be had by transport_drain(). The callee destroys the transport, now or later. */
        void (*gone)(void *arg);
        /* Everything that was sent has left. */
        void (*drained)(void *arg);
};

struct transport_group *transport_group_create(uv_loop_t *loop);
/* After all its transports are destroyed; the loop must run once more. */
void transport_group_destroy(struct transport_group *g);

/* Keep back all that is sent on any of its connections until it is let go. What has been handed to the system is gone. */
void transport_group_hold(struct transport_group *g, bool on);

/* Takes over the connected descriptor `fd` (closed on failure too). NULL when out of memory. Reading starts at once. */
struct transport *transport_create(struct transport_group *g, int fd, const struct transport_events *events, void *arg);
void transport_destroy(struct transport *t);
/* Close a connection that is not served, after one line that says why (NULL: none), if it can be written at once. */
void transport_refuse(int fd, const char *line);

/* Queue `len` bytes. Returns 0 or -ENOMEM. */
int transport_send(struct transport *t, const char *data, size_t len);
/* Bytes queued and not yet taken by the system. */
size_t transport_unsent(const struct transport *t);
/* Write now what can be written (for the last words before an exit). */
void transport_flush(struct transport *t);
/* Stop or resume reading; a hang-up is noticed all the same. */
void transport_reading(struct transport *t, bool on);
/* The same for a turn or two: what comes is reported by the poll meanwhile, and not read. */
void transport_skip(struct transport *t, bool on);
/* After `gone`: `received` once more, within this call. False when nothing is left. */
bool transport_drain(struct transport *t);

/* ---- listening ---- */
struct listener;
/*
 * Takes over the bound `fd`. `accepted` owns each new descriptor; a negative one is the errno for which none can be had: said once, it is then tried
 * again now and then. NULL on failure with errno set.
 */
struct listener *listener_create(uv_loop_t *loop, int fd, void (*accepted)(void *arg, int fd), void *arg);
void listener_destroy(struct listener *l);      /* the loop must run once more */
void listener_accepting(struct listener *l, bool on);
/* Something was closed: if there were no descriptors, try again now. */
void listener_retry(struct listener *l);

#endif
