/*
 * Every descriptor the daemon holds is counted here: its own, connections, received ones, bearers of locks, those being opened or closed off the loop.
 * What it may still take on follows from this one number, by how many are free (`reserve` is PL_FDS_RESERVE, less under a small limit):
 *
 *      2 x reserve and more    everything
 *      fewer                   nobody hoards: a session that has descriptors which it did not claim gets no more of them
 *      1 x reserve             no new connections
 *      DESCRIPTORS_LAST        no received descriptors at all; none is opened for a lock by path
 *
 * Requests without descriptors are always read and carried out, so that unlock, cancel and a session's end, which free some, get through.
 */
#ifndef DESCRIPTORS_H
#define DESCRIPTORS_H

#include <stdbool.h>
#include <stddef.h>

#define DESCRIPTORS_OWN 32      /* the loop's, stdio, the socket, what is open for a moment on a helper thread */
#define DESCRIPTORS_LAST 16

enum descriptors_level { DESCRIPTORS_PLENTY, DESCRIPTORS_NO_HOARDING, DESCRIPTORS_NO_CONNECTIONS, DESCRIPTORS_EXHAUSTED };

struct descriptors {
        size_t limit, reserve, used;
        enum descriptors_level level;
        void (*changed)(void *arg);     /* the level; must not call back. NULL: nobody */
        void *arg;
        void (*give_back)(void *lender);        /* NULL: nobody keeps any */
        void *lender;
};

/* `limit`: the process's. */
void descriptors_init(struct descriptors *d, size_t limit);
void descriptors_watch(struct descriptors *d, void (*changed)(void *arg), void *arg);

/* Somebody keeps descriptors that nobody needs: `give_back` closes them all as soon as they are not plenty any more. */
void descriptors_lend(struct descriptors *d, void (*give_back)(void *lender), void *lender);

void descriptors_add(struct descriptors *d);
void descriptors_remove(struct descriptors *d);

size_t descriptors_free(const struct descriptors *d);
/* How many of them may bear locks. */
size_t descriptors_for_locks(const struct descriptors *d);

#endif
