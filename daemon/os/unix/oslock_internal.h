/* Shared by oslock.c (flock without waiting), oslock_pool.c (waits), oslock_thread.c (their threads) and oslock_retry.c (waits without a thread). */
#ifndef OSLOCK_INTERNAL_H
#define OSLOCK_INTERNAL_H

#include "oslock.h"

#include <pthread.h>
#include <stddef.h>
#include <sys/queue.h>
#include <uv.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum wait_state { WAIT_THREAD, WAIT_DUE /* in the heap */, WAIT_ELSEWHERE /* is being tried there */, WAIT_READY /* to be answered */ };

struct wait {
        struct oslock_pool *pool;
        uint64_t op;
        int fd;
        enum oslock_mode mode;
        bool yields;
        uint64_t user;
        enum wait_state state;
        struct worker *worker;  /* who waits in the kernel for it, until it is answered */
        bool has_thread, in_cancelling, cancelled_here;
        int64_t due_ms;
        int step_ms;
        size_t heap_index;
        enum oslock_result result;
        int error;
        bool cancelled;         /* under the mutex: written by the loop, read by the thread */
        bool answered;          /* under the mutex: written by the thread */
        TAILQ_ENTRY(wait) by_age;       /* while it has no thread */
        TAILQ_ENTRY(wait) entry;        /* of `cancelling` */
        STAILQ_ENTRY(wait) ready;       /* of `answered` or `ready` */
        UT_hash_handle hh;
};

STAILQ_HEAD(wait_queue, wait);
STAILQ_HEAD(worker_queue, worker);

struct oslock_pool {
        uv_loop_t *loop;
        uv_poll_t answers;                      /* of `told` */
        int told;                               /* an eventfd: there are answers, of threads or of the loop itself */
        uv_timer_t timer;
        struct wait *waits;                     /* by op */
        struct wait **heap;                     /* by due_ms; room for all without a thread */
        size_t heap_count, heap_cap;
        TAILQ_HEAD(, wait) retries;             /* all without a thread, by age */
        TAILQ_HEAD(, wait) cancelling;          /* threads that are signalled until they have answered */
        struct wait_queue ready;                /* answers of the loop itself */
        LIST_HEAD(, worker) workers;            /* all threads */
        struct worker_queue joining;            /* those that end, joined in the loop's next turn */
        unsigned threads, threads_max, retrying, handles;       /* threads: that wait; those that are idle are not counted */
        uint64_t *thread_users;                 /* of the waits with a thread, in no order */
        bool self_told;
        unsigned random;
        uint64_t total, tries;
        oslock_done *done;
        oslock_try_elsewhere *elsewhere;
        void *arg;
        pthread_mutex_t mutex;
        /* Under the mutex. */
        struct wait_queue answered;             /* answers of threads */
        struct worker_queue idle, leaving;      /* threads without a job: for the next wait; those that end, not seen by the loop yet */
        unsigned idle_count;
        bool closing;

        bool left_behind;                       /* a thread that hangs may still look at all this */
};

/* From now on oslock_bears() finds a descriptor in any case. */
void oslock_keep_spare(void);

/* Called by threads: the loop shall look at the answers. */
void pool_tell(const struct oslock_pool *p);
/* Called by the loop: it shall look at them in its next turn. */
void pool_tell_self(struct oslock_pool *p);

/* Let a thread wait for it, an idle one or a new one. False: none is to be had. */
bool thread_wait(struct oslock_pool *p, struct wait *w);
/* End a wait that has a thread, if that has not answered yet: to be repeated until it has. */
void threads_interrupt(struct oslock_pool *p, struct wait *w);
/* Join the threads of which it was seen in the turn before that they end. True: there are others, for the next turn. */
bool threads_join_ended(struct oslock_pool *p);
void threads_begin(struct oslock_pool *p);
/* End all waits and threads; those that hang longer than a second are left behind. */
void threads_end(struct oslock_pool *p);

/* Room for one retry more. */
bool retry_reserve(struct oslock_pool *p);
/* Try it again after its step, which grows. */
void retry_put_off(struct oslock_pool *p, struct wait *w);
/* Do not try it again. */
void retry_remove(struct oslock_pool *p, struct wait *w);
/* Its answer is known. It is given by the loop, not here: somebody who asks is on the stack. */
void retry_make_ready(struct oslock_pool *p, struct wait *w, enum oslock_result result, int error);
/* Run on_timer of the pool when the next one is due, or a cancelled thread is to be signalled again. */
void retry_set_timer(struct oslock_pool *p);

#endif
