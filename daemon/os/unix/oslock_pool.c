/*
 * Waits for flock(2). It has no timeout and cannot be polled: only a signal ends a blocked call. So each wait has a thread with a small stack,
 * and a cancel sends that thread SIGURG (ignored by default, handled here by an empty handler without SA_RESTART). A signal that
 * arrives just before the call is lost; the cancel is therefore repeated by a timer until the thread has answered.
 *
 * Past the bound of threads a wait is tried again and again, at first after a millisecond, then ever more seldom, down to once in about a second, and
 * not all in step. They stand in a heap by the time of their next try, so that thousands of them cost nothing in between; a thread that
 * becomes free goes to the oldest.
 */
#include "oslock.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/queue.h>
#include <time.h>
#include <uv.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define STACK_BYTES (64 * 1024)
#define CANCEL_REPEAT_MS 2
#define RETRY_MIN_MS 1
#define RETRY_MAX_MS 1000
#define RETRY_GRAIN_MS 16       /* the seldom ones are tried in groups: each wake-up of the loop costs more than a try */
#define RETRIES_PER_TURN 256
#define LEAVE_NS 1000000000ull  /* at the end, for all: whoever hangs on a dead file system is left behind */

enum wait_state { WAIT_THREAD, WAIT_DUE /* in the heap */, WAIT_ELSEWHERE /* is being tried there */, WAIT_READY /* to be answered */ };

struct wait {
        struct oslock_pool *pool;
        uint64_t op;
        int fd;
        enum oslock_mode mode;
        enum wait_state state;
        pthread_t thread;
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

struct oslock_pool {
        uv_loop_t *loop;
        uv_async_t async;
        uv_timer_t timer;
        struct wait *waits;                     /* by op */
        struct wait **heap;                     /* by due_ms; room for all without a thread */
        size_t heap_count, heap_cap;
        TAILQ_HEAD(, wait) retries;             /* all without a thread, by age */
        TAILQ_HEAD(, wait) cancelling;          /* threads that are signalled until they have answered */
        struct wait_queue ready;                /* answers of the loop itself */
        unsigned threads, threads_max, retrying, handles;
        unsigned random;
        uint64_t total, tries;
        oslock_done *done;
        oslock_try_elsewhere *elsewhere;
        void *arg;
        pthread_mutex_t mutex;
        struct wait_queue answered;             /* under the mutex: answers of threads */
        bool closing;                           /* under the mutex */
        bool left_behind;                       /* a thread that hangs may still look at all this */
};

static void interrupted(int signo)
{
        (void)signo;
}

static void *wait_main(void *arg)
{
        struct wait *w = arg;
        struct oslock_pool *p = w->pool;
        enum oslock_result result;
        int error = 0;
        bool cancelled;

        for (;;) {
                pthread_mutex_lock(&p->mutex);
                cancelled = w->cancelled;
                pthread_mutex_unlock(&p->mutex);
                if (cancelled) {
                        result = OSLOCK_CANCELLED;
                        break;
                }
                if (flock(w->fd, w->mode == OSLOCK_EX ? LOCK_EX : LOCK_SH) == 0) {
                        result = OSLOCK_TAKEN;
                        break;
                }
                error = errno;
                if (error != EINTR) {
                        result = OSLOCK_FAILED;
                        break;
                }
        }
        pthread_mutex_lock(&p->mutex);
        w->result = result;
        w->error = error;
        w->answered = true;
        STAILQ_INSERT_TAIL(&p->answered, w, ready);
        /* Inside the mutex: the pool cannot be destroyed between the answer and its announcement. */
        if (!p->closing)
                uv_async_send(&p->async);
        pthread_mutex_unlock(&p->mutex);
        return NULL;
}

static int start_thread(struct wait *w)
{
        pthread_attr_t attr;
        sigset_t all, old;
        size_t stack = STACK_BYTES;
        int r;

        if (stack < (size_t)PTHREAD_STACK_MIN)
                stack = (size_t)PTHREAD_STACK_MIN;
        pthread_attr_init(&attr);
        pthread_attr_setstacksize(&attr, stack);
        /* Only SIGURG reaches a waiter: the daemon's other signals belong to the loop. */
        sigfillset(&all);
        sigdelset(&all, SIGURG);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        r = pthread_create(&w->thread, &attr, wait_main, w);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        pthread_attr_destroy(&attr);
        return r;
}

/* ---- the heap: parents are due before their children ---- */

static void heap_put(struct oslock_pool *p, size_t i, struct wait *w)
{
        p->heap[i] = w;
        w->heap_index = i;
}

static void heap_up(struct oslock_pool *p, size_t i, struct wait *w)
{
        while (i > 0 && p->heap[(i - 1) / 2]->due_ms > w->due_ms) {
                heap_put(p, i, p->heap[(i - 1) / 2]);
                i = (i - 1) / 2;
        }
        heap_put(p, i, w);
}

static void heap_down(struct oslock_pool *p, size_t i, struct wait *w)
{
        size_t child;

        while ((child = 2 * i + 1) < p->heap_count) {
                if (child + 1 < p->heap_count && p->heap[child + 1]->due_ms < p->heap[child]->due_ms)
                        child++;
                if (p->heap[child]->due_ms >= w->due_ms)
                        break;
                heap_put(p, i, p->heap[child]);
                i = child;
        }
        heap_put(p, i, w);
}

static void heap_add(struct oslock_pool *p, struct wait *w)
{
        heap_up(p, p->heap_count++, w);
}

static void heap_remove(struct oslock_pool *p, struct wait *w)
{
        struct wait *last = p->heap[--p->heap_count];
        size_t i = w->heap_index;

        if (last == w)
                return;
        if (i > 0 && p->heap[(i - 1) / 2]->due_ms > last->due_ms)
                heap_up(p, i, last);
        else
                heap_down(p, i, last);
}

static bool heap_reserve(struct oslock_pool *p)
{
        size_t cap = p->heap_cap == 0 ? 64 : p->heap_cap * 2;
        struct wait **grown;

        if (p->retrying < p->heap_cap)
                return true;
        grown = realloc(p->heap, cap * sizeof(*grown));
        if (grown == NULL)
                return false;
        p->heap = grown;
        p->heap_cap = cap;
        return true;
}

/* ---- waits without a thread ---- */

static void on_timer(uv_timer_t *timer);

static void set_timer(struct oslock_pool *p)
{
        int64_t now = (int64_t)uv_now(p->loop), at = INT64_MAX;

        if (p->heap_count > 0)
                at = p->heap[0]->due_ms;
        if (!TAILQ_EMPTY(&p->cancelling) && now + CANCEL_REPEAT_MS < at)
                at = now + CANCEL_REPEAT_MS;
        if (at == INT64_MAX)
                uv_timer_stop(&p->timer);
        else
                uv_timer_start(&p->timer, on_timer, at > now ? (uint64_t)(at - now) : 1, 0);
}

/* Three quarters to five quarters of the step. */
static int64_t due_after(struct oslock_pool *p, int step_ms)
{
        int64_t due = (int64_t)uv_now(p->loop) + step_ms;

        if (step_ms < 4)
                return due;
        p->random = p->random * 1103515245u + 12345u;
        due += (int64_t)(p->random >> 16) % (step_ms / 2) - step_ms / 4;
        if (step_ms >= 8 * RETRY_GRAIN_MS)
                due = (due + RETRY_GRAIN_MS - 1) / RETRY_GRAIN_MS * RETRY_GRAIN_MS;
        return due;
}

static void put_off(struct oslock_pool *p, struct wait *w)
{
        w->state = WAIT_DUE;
        w->due_ms = due_after(p, w->step_ms);
        if (w->step_ms < RETRY_MAX_MS)
                w->step_ms = w->step_ms * 2 < RETRY_MAX_MS ? w->step_ms * 2 : RETRY_MAX_MS;
        heap_add(p, w);
}

/* Its answer is known. It is given by the loop, not here: somebody who asks is on the stack. */
static void make_ready(struct oslock_pool *p, struct wait *w, enum oslock_result result, int error)
{
        w->state = WAIT_READY;
        w->result = result;
        w->error = error;
        STAILQ_INSERT_TAIL(&p->ready, w, ready);
        uv_async_send(&p->async);
}

static void tried(struct oslock_pool *p, struct wait *w, enum oslock_result result, int error)
{
        if (result != OSLOCK_BUSY)
                make_ready(p, w, result, error);
        else if (w->cancelled_here)
                make_ready(p, w, OSLOCK_CANCELLED, 0);
        else
                put_off(p, w);
}

static void retry(struct oslock_pool *p, struct wait *w)
{
        enum oslock_result result;
        int error = 0;

        heap_remove(p, w);
        p->tries++;
        if (p->elsewhere == NULL) {
                result = oslock_try(w->fd, w->mode, &error);
                tried(p, w, result, error);
                return;
        }
        w->state = WAIT_ELSEWHERE;
        if (p->elsewhere(p->arg, w->op, w->fd, w->mode) != 0)
                tried(p, w, OSLOCK_BUSY, 0);
}

static void on_timer(uv_timer_t *timer)
{
        struct oslock_pool *p = timer->data;
        int64_t now = (int64_t)uv_now(p->loop);
        struct wait *w;
        int i;

        TAILQ_FOREACH(w, &p->cancelling, entry)
                pthread_kill(w->thread, SIGURG);        /* not joined yet, so the thread's name is still good */
        for (i = 0; i < RETRIES_PER_TURN && p->heap_count > 0 && p->heap[0]->due_ms <= now; i++)
                retry(p, p->heap[0]);
        set_timer(p);
}

void oslock_pool_tried(struct oslock_pool *p, uint64_t op, enum oslock_result result, int error)
{
        struct wait *w;

        HASH_FIND(hh, p->waits, &op, sizeof op, w);
        if (w == NULL || w->state != WAIT_ELSEWHERE)
                return;
        tried(p, w, result, error);
        set_timer(p);
}

/* ---- answers ---- */

/* A thread has become free: for the oldest who has none. */
static void give_thread(struct oslock_pool *p)
{
        struct wait *w;

        TAILQ_FOREACH(w, &p->retries, by_age) {
                if (w->state == WAIT_DUE)
                        break;
        }
        if (w == NULL || p->threads >= p->threads_max)
                return;
        heap_remove(p, w);
        w->state = WAIT_THREAD;
        if (start_thread(w) != 0) {
                put_off(p, w);
                return;
        }
        w->has_thread = true;
        TAILQ_REMOVE(&p->retries, w, by_age);
        p->retrying--;
        p->threads++;
}

static void remove_wait(struct oslock_pool *p, struct wait *w)
{
        HASH_DELETE(hh, p->waits, w);
        if (w->in_cancelling)
                TAILQ_REMOVE(&p->cancelling, w, entry);
        if (w->has_thread) {
                p->threads--;
                return;
        }
        TAILQ_REMOVE(&p->retries, w, by_age);
        p->retrying--;
        if (w->state == WAIT_DUE)
                heap_remove(p, w);
}

static void answer_all(struct oslock_pool *p, struct wait_queue *queue)
{
        struct wait *w;

        while ((w = STAILQ_FIRST(queue)) != NULL) {
                STAILQ_REMOVE_HEAD(queue, ready);
                remove_wait(p, w);
                if (w->has_thread) {
                        pthread_join(w->thread, NULL);
                        give_thread(p);
                }
                p->done(p->arg, w->op, w->result, w->error);
                free(w);
        }
}

static void on_async(uv_async_t *async)
{
        struct oslock_pool *p = async->data;
        struct wait_queue queue = STAILQ_HEAD_INITIALIZER(queue);

        pthread_mutex_lock(&p->mutex);
        STAILQ_CONCAT(&queue, &p->answered);
        pthread_mutex_unlock(&p->mutex);
        STAILQ_CONCAT(&queue, &p->ready);
        answer_all(p, &queue);
        set_timer(p);
}

/* ---- begin and end ---- */

struct oslock_pool *oslock_pool_create(uv_loop_t *loop, unsigned threads, oslock_done *done, oslock_try_elsewhere *elsewhere, void *arg)
{
        struct sigaction action = {.sa_handler = interrupted};  /* no SA_RESTART: it must interrupt */
        struct oslock_pool *p = calloc(1, sizeof *p);

        if (p == NULL)
                return NULL;
        p->loop = loop;
        p->threads_max = threads;
        p->done = done;
        p->elsewhere = elsewhere;
        p->arg = arg;
        TAILQ_INIT(&p->retries);
        TAILQ_INIT(&p->cancelling);
        STAILQ_INIT(&p->ready);
        STAILQ_INIT(&p->answered);
        if (uv_async_init(loop, &p->async, on_async) != 0) {
                free(p);
                return NULL;
        }
        uv_timer_init(loop, &p->timer);
        p->async.data = p->timer.data = p;
        p->handles = 2;
        pthread_mutex_init(&p->mutex, NULL);
        sigaction(SIGURG, &action, NULL);
        return p;
}

static void on_closed(uv_handle_t *handle)
{
        struct oslock_pool *p = handle->data;

        if (--p->handles > 0 || p->left_behind)
                return;
        pthread_mutex_destroy(&p->mutex);
        free(p);
}

/* Those without an answer; each of them is signalled. */
static unsigned signal_all(struct oslock_pool *p)
{
        struct wait *w, *next;
        unsigned count = 0;

        pthread_mutex_lock(&p->mutex);
        p->closing = true;
        HASH_ITER(hh, p->waits, w, next) {
                if (!w->has_thread || w->answered)
                        continue;
                w->cancelled = true;
                pthread_kill(w->thread, SIGURG);
                count++;
        }
        pthread_mutex_unlock(&p->mutex);
        return count;
}

void oslock_pool_destroy(struct oslock_pool *p)
{
        struct timespec pause = {.tv_nsec = 1000000};
        struct wait *w, *next;
        uint64_t until;
        bool answered;

        if (p == NULL)
                return;
        /* A signal just before the call is lost: again, until they have answered. */
        until = uv_hrtime() + LEAVE_NS;
        while (signal_all(p) > 0 && uv_hrtime() < until)
                nanosleep(&pause, NULL);
        HASH_ITER(hh, p->waits, w, next) {
                HASH_DELETE(hh, p->waits, w);
                pthread_mutex_lock(&p->mutex);
                answered = w->answered || !w->has_thread;
                pthread_mutex_unlock(&p->mutex);
                if (!answered) {
                        p->left_behind = true;
                        continue;
                }
                if (w->has_thread)
                        pthread_join(w->thread, NULL);
                free(w);
        }
        free(p->heap);
        p->heap = NULL;
        uv_close((uv_handle_t *)&p->async, on_closed);
        uv_close((uv_handle_t *)&p->timer, on_closed);
}

int oslock_wait(struct oslock_pool *p, uint64_t op, int fd, enum oslock_mode mode)
{
        struct wait *w = calloc(1, sizeof *w);

        if (w == NULL || !heap_reserve(p))
                goto fail;
        *w = (struct wait){.pool = p, .op = op, .fd = fd, .mode = mode, .state = WAIT_THREAD, .step_ms = RETRY_MIN_MS};
        HASH_ADD(hh, p->waits, op, sizeof w->op, w);
        if (w->hh.tbl == NULL)
                goto fail;
        w->has_thread = p->threads < p->threads_max && start_thread(w) == 0;
        if (w->has_thread) {
                p->threads++;
        } else {
                TAILQ_INSERT_TAIL(&p->retries, w, by_age);
                p->retrying++;
                put_off(p, w);
                set_timer(p);
        }
        p->total++;
        return 0;
fail:
        free(w);
        return -ENOMEM;
}

void oslock_cancel(struct oslock_pool *p, uint64_t op)
{
        struct wait *w;

        HASH_FIND(hh, p->waits, &op, sizeof op, w);
        if (w == NULL || w->cancelled_here)
                return;
        w->cancelled_here = true;
        if (w->state == WAIT_DUE) {
                heap_remove(p, w);
                make_ready(p, w, OSLOCK_CANCELLED, 0);
        } else if (w->has_thread) {
                pthread_mutex_lock(&p->mutex);
                w->cancelled = true;
                pthread_mutex_unlock(&p->mutex);
                pthread_kill(w->thread, SIGURG);
                w->in_cancelling = true;
                TAILQ_INSERT_TAIL(&p->cancelling, w, entry);
        }
        set_timer(p);
}

void oslock_pool_stats(const struct oslock_pool *p, struct oslock_stats *out)
{
        out->threads = p->threads;
        out->retrying = p->retrying;
        out->waiting = (uint64_t)p->threads + p->retrying;
        out->waits_total = p->total;
        out->tries_total = p->tries;
}
