/*
 * The kernel's locks on bearers, as the table's effects ask for them: on local files at once, on others on the lane, where they may hang.
 * All that is done on one bearer happens in the order in which it was asked for.
 */
#ifndef KERNEL_H
#define KERNEL_H

#include "files.h"
#include "lane.h"
#include "oslock.h"
#include "table.h"

struct kernel;

/* One answer to each kernel_lock(), perhaps within it. new_bearer: of a `fresh` wait that was taken (one reference), else 0. */
typedef void kernel_done(void *arg, uint64_t op, enum oslock_result result, int error, uint64_t new_bearer);

/* How many waits for outsiders may have a thread of their own: on local files, and on others, lest a dead file server take the threads of both. */
struct kernel_threads {
        unsigned local, away;
};

/* NULL when out of memory. */
struct kernel *kernel_create(uv_loop_t *loop, struct files *files, struct lane *lane, struct kernel_threads threads, kernel_done *done, void *arg);
/* Ends the waits, unanswered; touches no lock. The loop must run once more. */
void kernel_destroy(struct kernel *k);

/* FX_OS_LOCK. True: it is on the lane, and may stay there for long. */
bool kernel_lock(struct kernel *k, const struct table_effect *fx);
void kernel_cancel(struct kernel *k, uint64_t op);                      /* FX_OS_CANCEL */
void kernel_unlock(struct kernel *k, uint64_t bearer);
void kernel_downgrade(struct kernel *k, uint64_t bearer);
/* What a description bears by itself, less what is being taken away on the lane; asks nobody but our own kernel. */
enum table_mode kernel_bears(const struct kernel *k, uint64_t bearer);
void kernel_stats(const struct kernel *k, struct oslock_stats *out);

#endif
