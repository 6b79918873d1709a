/*
 * Who holds file locks on this machine besides us, as far as the system tells. Asking is slow and slows everybody's locks, so it happens on
 * a helper thread, and an answer is kept for at least a second, longer the longer it took.
 */
#ifndef OUTSIDE_H
#define OUTSIDE_H

#include "peer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct uv_loop_s uv_loop_t;

struct outside_holder {
        uint64_t device, inode;
        int64_t pid;            /* one that has it, or at least the last one that locked through its description; 0 unknown */
        bool ours;              /* it was locked by this daemon; `pid` is whoever else was found to have it */
        bool gone;              /* it was locked by a process that has ended */
        bool exclusive;
        char command[PEER_COMMAND_BYTES];
};

struct outside;

/* All run on the loop. */
struct outside_hooks {
        void (*refreshed)(void *arg);   /* after each look */
        /* How many locks (open file descriptions) the daemon has on that file for its clients: who has the others is looked for. */
        size_t (*bearers_held)(void *arg, uint64_t device, uint64_t inode);
        /* Does anybody hold, wait for or list that file? */
        bool (*asked_for)(void *arg, uint64_t device, uint64_t inode);
};
struct outside *outside_create(uv_loop_t *loop, const struct outside_hooks *hooks, void *arg);
/* Waits for a look under way; the loop must run once more. */
void outside_destroy(struct outside *o);

/* Look again unless the last look is recent enough. True: a look is under way, `refreshed` will come. False: what is there is recent. */
bool outside_refresh(struct outside *o);

/* The holders of one file at the time of the last look; *count may be 0. Borrowed until the loop turns. */
const struct outside_holder *outside_of(const struct outside *o, uint64_t device, uint64_t inode, size_t *count);

/*
 * The daemon has let go of a lock of that file. Rows that are `ours` are locks that the daemon has now, or such as outlived their session (detached,
 * inherited by a child); what was seen before it let go may be neither.
 */
void outside_released(struct outside *o, uint64_t device, uint64_t inode);
/* May rows of that file that are `ours` be believed: has the daemon let go of none since the last look began? (It may say no without need until the next look.) */
bool outside_knows_ours(const struct outside *o, uint64_t device, uint64_t inode);

#endif
