/* Owns the loop and all parts; the only place that sees them together. */
#ifndef DAEMON_H
#define DAEMON_H

#include "log.h"

#include <stdint.h>

struct daemon_options {
        const char *socket;     /* NULL: by the rules of protocol/os/address.h */
        const char *state_dir;  /* NULL: by the rules of os/statefile.h */
        bool system;            /* serve every user */
        int64_t idle_exit_s;    /* -1: never */
        int64_t keep_open_ms;   /* files_create() */
        int64_t log_waits_ms;   /* -1: never */
        int64_t sessions_max;
        int ready_fd;           /* -1: none; "READY\n" is written there once connections are accepted */
        enum log_level log_level;
};

/* Exit codes of portalockd. */
enum {
        DAEMON_EXIT_OK = 0,
        DAEMON_EXIT_FAILED = 1,
        DAEMON_EXIT_RUNNING = 3,        /* another daemon serves this socket */
        DAEMON_EXIT_USAGE = 64
};

/* Start, serve until told to stop, and stop. Returns an exit code. */
int daemon_run(const struct daemon_options *options);

#endif
