/* lockctl run, and flock(1) when we are called by that name: options (run_options.c), the flow (run.c), what is said while it waits (waiting.c). */
#ifndef LOCKCTL_RUN_H
#define LOCKCTL_RUN_H

#include "portalock.h"

#include <stdbool.h>
#include <stdint.h>

struct run_options {
        bool is_flock;          /* called as flock: its words, and silence about the daemon */
        int flags;              /* PORTALOCK_SH or PORTALOCK_EX, perhaps with NB */
        int64_t timeout_ms;     /* -1: for ever */
        int conflict_code;
        bool unlock, close_in_command, no_fork, verbose, require_daemon, warn_when_lost, remove;
        const char *path;       /* NULL: the descriptor */
        int fd;                 /* -1: by path */
        char **command;         /* NULL: none */
        char *shell[4];         /* what `command` is for -c */
};

/* -1 to go on, else the exit code: usage errors, --help, --version. */
int run_parse(int argc, char **argv, bool is_flock, struct run_options *o);

/* The whole job; returns the exit code, or does not return (-F, a signal while it waited). */
int run_all(const struct run_options *o);

/* ---- what is said while it waits ---- */
struct waiting {
        const char *name;       /* the file */
        bool on_terminal, at_once, shown;
        int64_t since_ms, next_ms;
        int64_t position, told_at_ms, held_ms;
        char holder[200], line[1024];
};
/* quiet: nothing if stderr is no terminal, verbose or not. False: nobody looks, it needs no updates. */
bool waiting_begin(struct waiting *w, const char *name, bool verbose, bool quiet);
/* The daemon says who holds it and how many are before us. */
void waiting_update(struct waiting *w, int64_t position, const struct portalock_holder *holders, int count);
/* Show what is due; milliseconds until something is due again, -1: never. */
int64_t waiting_show(struct waiting *w);
/* It does not wait any more: leaves the terminal's line clean. */
void waiting_end(struct waiting *w);

#endif
