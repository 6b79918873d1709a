/* Who is at the other end of a connection, and what a process is called. */
#ifndef PEER_H
#define PEER_H

#include <stdbool.h>
#include <stdint.h>

/* Linux itself keeps no more than 15 bytes of a name; Windows tells the file's. */
#ifdef _WIN32
#define PEER_COMMAND_BYTES 64
#else
#define PEER_COMMAND_BYTES 16
#endif

struct peer {
        int64_t pid;            /* 0: unknown (another pid namespace) */
        int64_t uid;
        uint64_t started;       /* start time of that process: tells it from one that got its pid later; 0 unknown */
        int connection;         /* by which it is asked what it is called; -1: it has been asked */
        char command[PEER_COMMAND_BYTES];       /* as it was called when last asked; "" unknown, or gone before it was asked: peer_command() tells */
};

/* Ask the system about the peer of `fd`, which must stay open as long as *out is asked for its command. Returns 0 or -errno. */
int peer_identify(int fd, struct peer *out);

/* What it is called; it is asked now if it has not been before. */
const char *peer_command(struct peer *p);

/* The same by now (an exec changes it), if the process is still the same. */
void peer_refresh(struct peer *p);

/* The name and start time of a process; false when there is none, or it has ended and is only not collected yet. */
bool peer_process(int64_t pid, char *command, uint64_t *started);

/* Our own, to compare with. */
int64_t peer_own_uid(void);

/* May this peer use, or stop, a daemon that runs as `uid` for its own user? */
bool peer_allowed(const struct peer *p, int64_t uid);

/* Is this uid somebody? 65534 stands for all whom this user namespace does not know, and so is not even itself. */
bool peer_is_known(const struct peer *p);
bool peer_same_user(const struct peer *a, const struct peer *b);

#endif
