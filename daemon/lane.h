/*
 * Work that may hang, away from the loop: files on network file systems and in FUSE can keep any call on them waiting for ever. A bounded number of
 * threads carries it out; when all of them hang, only work of this kind waits. A quarter of them is the most that one user's files can keep.
 *
 * Jobs with the same key run one at a time, in the order in which they were given, so that an unlock is not overtaken by the lock after it.
 */
#ifndef LANE_H
#define LANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct uv_loop_s uv_loop_t;

struct lane;

/* A job, embedded in its owner's struct, which must live until `done`. */
struct lane_job {
        void (*work)(struct lane_job *job);     /* on a thread of the lane: touches nothing but the job's own struct */
        void (*done)(struct lane_job *job);     /* on the loop: frees the struct; may submit others */
        uint64_t key;                           /* 0: ordered with nobody */
        uint64_t user;                          /* for whose share it counts; jobs with one key have one user. 0: nobody's, not bounded */
        bool dropped;                           /* the lane is at its end: `done` only frees. Perhaps the work was never begun */
        struct lane_job *next;
};

/* NULL when out of memory or threads. */
struct lane *lane_create(uv_loop_t *loop, unsigned threads);

/* Work under way has a second to end; what hangs longer is left to the end of the process. The loop must run once more. */
void lane_destroy(struct lane *l);

/* `done` never runs within this call. */
void lane_submit(struct lane *l, struct lane_job *job);

/* Jobs given and not yet done. */
size_t lane_pending(const struct lane *l);

#endif
