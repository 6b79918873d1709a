/*
 * The operating system's lock on an open file: what is promised on every platform.
 *
 * Try, upgrade, downgrade and unlock answer at once. A wait is asked once and answered exactly once, through the loop, also after a
 * cancel; a lock that came although the wait was cancelled is reported as taken, and the caller gives it back.
 */
#ifndef OSLOCK_H
#define OSLOCK_H

#include <stdbool.h>
#include <stdint.h>

typedef struct uv_loop_s uv_loop_t;

enum oslock_mode { OSLOCK_NONE = 0, OSLOCK_SH = 1, OSLOCK_EX = 2 };

enum oslock_result {
        OSLOCK_TAKEN,
        OSLOCK_BUSY,            /* somebody else has it; a conversion keeps what it had */
        OSLOCK_LOST,            /* a conversion dropped what it had and could not get it back */
        OSLOCK_FAILED,          /* *error is an errno value */
        OSLOCK_CANCELLED        /* a wait was ended by oslock_cancel() before it got the lock */
};

/* Take `mode` without waiting, on a description that holds nothing (or that mode already). */
enum oslock_result oslock_try(int fd, enum oslock_mode mode, int *error);
/* SH -> EX without waiting: TAKEN, BUSY (SH is kept), LOST, FAILED. */
enum oslock_result oslock_upgrade(int fd, int *error);
/* EX -> SH, without a gap. */
void oslock_downgrade(int fd);
void oslock_unlock(int fd);
/* The mode that the description itself bears now, as the kernel says. On the loop's thread. */
enum oslock_mode oslock_bears(int fd);

struct oslock_pool;

/* `done` runs on the loop's thread, never within oslock_wait() or oslock_cancel(). */
typedef void oslock_done(void *arg, uint64_t op, enum oslock_result result, int error);

/*
 * Try `op` once, off the loop, without waiting for the lock, and say the outcome by oslock_pool_tried(); `fd` stays open until then. Returns 0 or
 * -ENOMEM (then nothing is said).
 */
typedef int oslock_try_elsewhere(void *arg, uint64_t op, int fd, enum oslock_mode mode, uint64_t user);

/*
 * At most `threads` waits have a thread, and a quarter of them at most those of one user; the others are tried again and again, ever more seldom, and the
 * oldest of them whose user has a share left gets the next free thread.
 * `elsewhere` NULL: the tries are made on the loop, so the files must be such that flock(2) answers at once. NULL when out of memory or resources.
 */
struct oslock_pool *oslock_pool_create(uv_loop_t *loop, unsigned threads, oslock_done *done, oslock_try_elsewhere *elsewhere, void *arg);
/*
 * Ends every wait (unanswered), joins the threads and closes the pool's handles; run the loop once more before it is closed. All threads together have
 * a second to end; those that hang longer are left to the end of the process.
 */
void oslock_pool_destroy(struct oslock_pool *p);

/*
 * Wait until `mode` is taken on `fd` (borrowed: must stay open until the answer). `yields`: it is the turn of others; whoever has been waiting in the kernel goes
 * first even if the lock is free by now. `user`: for whose share of the threads it counts; 0: nobody's. Returns 0 or -ENOMEM (then there is no answer).
 */
int oslock_wait(struct oslock_pool *p, uint64_t op, int fd, enum oslock_mode mode, bool yields, uint64_t user);
/* End the wait `op` as soon as possible; unknown ops are ignored (their answer may be on its way). */
void oslock_cancel(struct oslock_pool *p, uint64_t op);
/* The outcome of a try elsewhere: TAKEN, BUSY or FAILED. */
void oslock_pool_tried(struct oslock_pool *p, uint64_t op, enum oslock_result result, int error);

struct oslock_stats {
        uint64_t waiting, threads, retrying;
        uint64_t waits_total, tries_total;      /* tries: of those without a thread */
};
void oslock_pool_stats(const struct oslock_pool *p, struct oslock_stats *out);

#endif
