/*
 * flock(2) as a game: descriptions of files, their locks and the waits for them, without a kernel. Locks are taken and waits are served as the
 * kernel does (waiters in order, new sharers overtake), but answers lie in a box until the test takes them out: late, in any order.
 */
#ifndef FAKE_OS_H
#define FAKE_OS_H

#include "oslock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAKE_DESCRIPTIONS 4096

struct fake_os;

struct fake_os *fake_create(void);
void fake_destroy(struct fake_os *f);

/* A new description of `file`; a duplicate counts one reference more; the last close frees the lock. Ids from 1. */
int fake_open(struct fake_os *f, int file);
void fake_dup(struct fake_os *f, int description);
void fake_close(struct fake_os *f, int description);
int fake_file(const struct fake_os *f, int description);

enum oslock_result fake_try(struct fake_os *f, int description, enum oslock_mode mode);
enum oslock_result fake_upgrade(struct fake_os *f, int description);
void fake_downgrade(struct fake_os *f, int description);
void fake_unlock(struct fake_os *f, int description);
enum oslock_mode fake_bears(const struct fake_os *f, int description);
/* Is there a description but this one that stands in the way of `mode`? */
bool fake_conflicts(const struct fake_os *f, int file, int but, enum oslock_mode mode);

/*
 * Lazy: those who wait get nothing when a lock is released until fake_serve(), as woken processes that have not run yet: a try comes before them.
 */
void fake_lazy(struct fake_os *f, bool lazy);
void fake_serve(struct fake_os *f, int file);

void fake_wait(struct fake_os *f, uint64_t op, int description, enum oslock_mode mode);
/* The wait ends CANCELLED, unless it has its lock already. */
void fake_cancel(struct fake_os *f, uint64_t op);

/* The next conversion that is refused loses its SH; the next try or wait fails. */
void fake_lose_next(struct fake_os *f);
void fake_fail_next(struct fake_os *f);

struct fake_answer {
        uint64_t op;
        enum oslock_result result;
};
/* Answers in the box, and one of them taken out. */
size_t fake_answers(const struct fake_os *f);
struct fake_answer fake_take_answer(struct fake_os *f, size_t index);
size_t fake_waiting(const struct fake_os *f);

#endif
