/*
 * Where the daemon listens: the same rules on both sides, so that nobody can be led to a stranger's socket.
 */
#ifndef PL_ADDRESS_H
#define PL_ADDRESS_H

#include "../wire.h"

#include <stdbool.h>
#include <stddef.h>

struct pl_address {
        char path[4096];        /* the socket */
        char text[256];         /* after a failure: what is wrong, naming the path */
        bool system;            /* /run/portalock/system, found or named: a daemon for all users */
        bool named;             /* by the user: an option or PORTALOCK_SOCKET */
};

/*
 * Decide the socket's path: `given` (an option) if not NULL, else PORTALOCK_SOCKET, else by design.md's rules. Touches nothing but a stat.
 * Returns 0 or -errno with a->text set.
 */
int pl_address_find(struct pl_address *a, const char *given);

/* Where a daemon for all users listens: `given`, else PORTALOCK_SOCKET, else /run/portalock/system. */
int pl_address_find_system(struct pl_address *a, const char *given);

/* Check, or make, the folder of that socket, wherever it is: a real one of our own, writable by nobody else, open to all. Returns 0 or -errno with a->text set. */
int pl_address_check_system(struct pl_address *a);

/*
 * Check the folder of a socket chosen by rule: a real folder (no symlink), owned by us or root, writable by nobody else. `create`: make
 * it, mode 0700, when missing. A folder that the user named himself (option, environment) is only made, not judged, unless others may write there and it is not sticky. Returns 0 or -errno with a->text set.
 */
int pl_address_check(struct pl_address *a, bool create);

/* connect(2) a new non-blocking CLOEXEC socket, paths over PL_SOCKET_PATH_MAX by /proc/self/fd. Returns the descriptor, or -errno (-EAGAIN: backlog full, try again). */
int pl_address_connect(const struct pl_address *a);

/* Is the server behind a connected descriptor one that may see our files: own uid, root, or the owner of the system's folder? 0 or -errno with a->text; *pid: its pid. */
int pl_address_check_server(struct pl_address *a, int fd, long long *pid);

/* socket+bind (not listen), mode 0600, for `everybody` 0666, after removing a stale socket; the caller holds the start lock. Returns the descriptor or -errno. */
int pl_address_bind(const struct pl_address *a, bool everybody);

/* Open and try to flock PATH.lock, held for the daemon's life. Returns the descriptor, -EWOULDBLOCK when a daemon lives, or -errno. */
int pl_address_start_lock(const struct pl_address *a);

#endif
