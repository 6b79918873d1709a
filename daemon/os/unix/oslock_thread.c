/*
 * The threads that wait in flock(2). It has no timeout and cannot be polled: only a signal ends a blocked call. So each wait has a thread with a small
 * stack, and a cancel sends that thread SIGURG (ignored by default, handled here by an empty handler without SA_RESTART). A signal that arrives just
 * before the call is lost; it is therefore repeated until the thread has answered.
 *
 * A thread that has answered stays for the next wait: to start one and to see it end costs more than all else between an outsider's release and the
 * grant, and on one processor its end comes before the client is served. Only some stay; of a crowd the others end.
 */
#include "oslock_internal.h"

#include "thread.h"

#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <time.h>

#define STACK_BYTES (64 * 1024)
#define THREADS_KEPT 8
#define YIELD_NS 300000         /* to be woken takes some 50 us on an idle machine */
#define LEAVE_NS 1000000000ull  /* at the end, for all: whoever hangs on a dead file system is left behind */

struct worker {
        struct oslock_pool *pool;
        uv_thread_t thread;
        LIST_ENTRY(worker) of_all;      /* the loop's */
        sem_t go;                       /* there is a job; none: it shall end */
        /* Under the mutex. */
        struct wait *job;               /* until it is answered */
        STAILQ_ENTRY(worker) entry;     /* of `idle` or `leaving`, while it has no job */
};

static void interrupted(int signo)
{
        (void)signo;
}

static int operation(const struct wait *w)
{
        return w->mode == OSLOCK_EX ? LOCK_EX : LOCK_SH;
}

/*
 * The kernel serves its queue in order, but only those who stand in it. If the lock became free before this thread got there, those who have been woken
 * are about to take it: they shall have the time to.
 */
static void let_others_go_first(const struct wait *w)
{
        struct timespec pause = {.tv_nsec = YIELD_NS};

        if (flock(w->fd, operation(w) | LOCK_NB) != 0)
                return;
        (void)flock(w->fd, LOCK_UN);
        nanosleep(&pause, NULL);
}

static bool is_cancelled(const struct wait *w)
{
        struct oslock_pool *p = w->pool;
        bool cancelled;

        pthread_mutex_lock(&p->mutex);
        cancelled = w->cancelled;
        pthread_mutex_unlock(&p->mutex);
        return cancelled;
}

static enum oslock_result wait_in_kernel(const struct wait *w, int *error)
{
        *error = 0;
        if (w->yields)
                let_others_go_first(w);
        while (!is_cancelled(w)) {
                if (flock(w->fd, operation(w)) == 0)
                        return OSLOCK_TAKEN;
                *error = errno;
                if (*error != EINTR)
                        return OSLOCK_FAILED;
        }
        return OSLOCK_CANCELLED;
}

/* With the mutex. Once it is released `w` is the loop's, who may free it. */
static void answer(struct oslock_pool *p, struct wait *w, enum oslock_result result, int error)
{
        w->result = result;
        w->error = error;
        w->answered = true;
        if (!p->closing)
                STAILQ_INSERT_TAIL(&p->answered, w, ready);
}

/* With the mutex: there is no job any more. False: there are others enough, and it shall end. */
static bool rest(struct oslock_pool *p, struct worker *k)
{
        k->job = NULL;
        if (p->idle_count == THREADS_KEPT) {
                STAILQ_INSERT_TAIL(&p->leaving, k, entry);
                return false;
        }
        STAILQ_INSERT_HEAD(&p->idle, k, entry); /* the last one that ran is the first to run again: its memory is still in the caches */
        p->idle_count++;
        return true;
}

/* NULL: it shall end. */
static struct wait *next_job(struct worker *k)
{
        struct oslock_pool *p = k->pool;
        struct wait *w;

        while (sem_wait(&k->go) != 0)
                ;       /* a signal that came late */
        pthread_mutex_lock(&p->mutex);
        w = k->job;
        pthread_mutex_unlock(&p->mutex);
        return w;
}

static void worker_main(void *arg)
{
        struct worker *k = arg;
        struct oslock_pool *p = k->pool;
        enum oslock_result result;
        bool stays = true, announce;
        sigset_t cancelling;
        struct wait *w;
        int error;

        sigemptyset(&cancelling);
        sigaddset(&cancelling, SIGURG);
        pthread_sigmask(SIG_UNBLOCK, &cancelling, NULL);
        while (stays && (w = next_job(k)) != NULL) {
                result = wait_in_kernel(w, &error);
                pthread_mutex_lock(&p->mutex);
                answer(p, w, result, error);
                stays = rest(p, k);
                announce = !p->closing; /* then it is joined before the pool goes, so the pool is still there to be told */
                pthread_mutex_unlock(&p->mutex);
                if (announce)
                        pool_tell(p);
        }
}

static void give(struct worker *k, struct wait *w)
{
        k->job = w;
        w->worker = k;
        w->has_thread = true;
}

static bool give_to_idle(struct oslock_pool *p, struct wait *w)
{
        struct worker *k;

        pthread_mutex_lock(&p->mutex);
        k = STAILQ_FIRST(&p->idle);
        if (k != NULL) {
                STAILQ_REMOVE_HEAD(&p->idle, entry);
                p->idle_count--;
                give(k, w);
        }
        pthread_mutex_unlock(&p->mutex);
        if (k != NULL)
                sem_post(&k->go);
        return k != NULL;
}

bool thread_wait(struct oslock_pool *p, struct wait *w)
{
        struct worker *k;

        if (give_to_idle(p, w))
                return true;
        k = calloc(1, sizeof *k);
        if (k == NULL)
                return false;
        k->pool = p;
        sem_init(&k->go, 0, 1);
        give(k, w);
        if (thread_start(&k->thread, STACK_BYTES, worker_main, k) != 0) {
                w->has_thread = false;
                sem_destroy(&k->go);
                free(k);
                return false;
        }
        LIST_INSERT_HEAD(&p->workers, k, of_all);
        return true;
}

static void join(struct worker *k)
{
        LIST_REMOVE(k, of_all);
        uv_thread_join(&k->thread);
        sem_destroy(&k->go);
        free(k);
}

bool threads_join_ended(struct oslock_pool *p)
{
        struct worker_queue leaving = STAILQ_HEAD_INITIALIZER(leaving);
        struct worker *k;

        STAILQ_CONCAT(&leaving, &p->joining);
        pthread_mutex_lock(&p->mutex);
        STAILQ_CONCAT(&p->joining, &p->leaving);
        pthread_mutex_unlock(&p->mutex);
        while ((k = STAILQ_FIRST(&leaving)) != NULL) {
                STAILQ_REMOVE_HEAD(&leaving, entry);
                join(k);
        }
        return !STAILQ_EMPTY(&p->joining);
}

void threads_interrupt(struct oslock_pool *p, struct wait *w)
{
        pthread_mutex_lock(&p->mutex);
        w->cancelled = true;
        if (!w->answered)       /* else its thread may have another job, whose place in the kernel's queue a signal would cost */
                pthread_kill(w->worker->thread, SIGURG);
        pthread_mutex_unlock(&p->mutex);
}

void threads_begin(struct oslock_pool *p)
{
        struct sigaction action = {.sa_handler = interrupted};  /* no SA_RESTART: it must interrupt */

        LIST_INIT(&p->workers);
        STAILQ_INIT(&p->idle);
        STAILQ_INIT(&p->leaving);
        STAILQ_INIT(&p->joining);
        pthread_mutex_init(&p->mutex, NULL);
        sigaction(SIGURG, &action, NULL);
}

/* Those that have a job are signalled. How many? */
static unsigned signal_all(struct oslock_pool *p)
{
        unsigned busy = 0;
        struct worker *k;

        pthread_mutex_lock(&p->mutex);
        p->closing = true;
        LIST_FOREACH(k, &p->workers, of_all) {
                if (k->job == NULL)
                        continue;
                k->job->cancelled = true;
                pthread_kill(k->thread, SIGURG);
                busy++;
        }
        pthread_mutex_unlock(&p->mutex);
        return busy;
}

void threads_end(struct oslock_pool *p)
{
        struct timespec pause = {.tv_nsec = 1000000};
        uint64_t until = uv_hrtime() + LEAVE_NS;
        struct worker *k, *next;
        bool hangs;

        /* A signal just before the call is lost: again, until they have answered. */
        while (signal_all(p) > 0 && uv_hrtime() < until)
                nanosleep(&pause, NULL);
        for (k = LIST_FIRST(&p->workers); k != NULL; k = next) {
                next = LIST_NEXT(k, of_all);
                pthread_mutex_lock(&p->mutex);
                hangs = k->job != NULL;
                pthread_mutex_unlock(&p->mutex);
                if (!hangs) {
                        sem_post(&k->go);       /* for nothing: it ends */
                        join(k);
                        continue;
                }
                pthread_detach(k->thread);
                p->left_behind = true;
        }
}
