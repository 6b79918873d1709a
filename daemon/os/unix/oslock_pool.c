/*
 * Waits for flock(2). It has no timeout and cannot be polled: only a signal ends a blocked call. So each wait has a thread with a small stack,
 * and a cancel sends that thread SIGURG (ignored by default, handled here by an empty handler without SA_RESTART). A signal that
 * arrives just before the call is lost; the cancel is therefore repeated by a timer until the thread has answered.
 *
 * Threads are bounded. Other waits are tried now and then (oslock_retry.c); a thread that becomes free goes to the oldest of them.
 */
#include "oslock_internal.h"

#include "thread.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <time.h>

#define STACK_BYTES (64 * 1024)
#define RETRY_MIN_MS 1
#define YIELD_NS 300000         /* to be woken takes some 50 us on an idle machine */
#define LEAVE_NS 1000000000ull  /* at the end, for all: whoever hangs on a dead file system is left behind */

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

static void wait_main(void *arg)
{
        struct wait *w = arg;
        struct oslock_pool *p = w->pool;
        enum oslock_result result;
        sigset_t cancelling;
        int error = 0;
        bool cancelled;

        sigemptyset(&cancelling);
        sigaddset(&cancelling, SIGURG);
        pthread_sigmask(SIG_UNBLOCK, &cancelling, NULL);
        if (w->yields)
                let_others_go_first(w);
        for (;;) {
                pthread_mutex_lock(&p->mutex);
                cancelled = w->cancelled;
                pthread_mutex_unlock(&p->mutex);
                if (cancelled) {
                        result = OSLOCK_CANCELLED;
                        break;
                }
                if (flock(w->fd, operation(w)) == 0) {
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
        sched_yield();  /* the answer goes before the end of this thread, if they share a processor */
}

/* Is there a thread left, for this user? */
static bool has_thread_for(const struct oslock_pool *p, uint64_t user)
{
        unsigned i, n = 0;

        if (p->threads >= p->threads_max)
                return false;
        for (i = 0; user != 0 && i < p->threads; i++)
                n += p->thread_users[i] == user;
        return user == 0 || n < (p->threads_max + 3) / 4;
}

static bool start_thread(struct wait *w)
{
        struct oslock_pool *p = w->pool;

        if (thread_start(&w->thread, STACK_BYTES, wait_main, w) != 0)
                return false;
        w->has_thread = true;
        p->thread_users[p->threads++] = w->user;
        return true;
}

static void count_thread_off(struct oslock_pool *p, uint64_t user)
{
        unsigned i;

        for (i = 0; p->thread_users[i] != user; i++)
                ;
        p->thread_users[i] = p->thread_users[--p->threads];
}

/* ---- answers ---- */

/* A thread has become free: for the oldest who has none and may have one. */
static void give_thread(struct oslock_pool *p)
{
        uint64_t without = 0;   /* a user whose share is used up: thousands of his may stand there */
        struct wait *w;

        if (p->threads >= p->threads_max)
                return;
        TAILQ_FOREACH(w, &p->retries, by_age) {
                if (w->state != WAIT_DUE || (without != 0 && w->user == without))
                        continue;
                if (has_thread_for(p, w->user))
                        break;
                without = w->user;
        }
        if (w == NULL)
                return;
        retry_remove(p, w);
        w->state = WAIT_THREAD;
        if (!start_thread(w)) {
                retry_put_off(p, w);
                return;
        }
        TAILQ_REMOVE(&p->retries, w, by_age);
        p->retrying--;
}

static void remove_wait(struct oslock_pool *p, struct wait *w)
{
        HASH_DELETE(hh, p->waits, w);
        if (w->in_cancelling)
                TAILQ_REMOVE(&p->cancelling, w, entry);
        if (w->has_thread) {
                count_thread_off(p, w->user);
                return;
        }
        TAILQ_REMOVE(&p->retries, w, by_age);
        p->retrying--;
        if (w->state == WAIT_DUE)
                retry_remove(p, w);
}

static void join_ended(struct oslock_pool *p)
{
        struct wait *w;

        while ((w = STAILQ_FIRST(&p->ended)) != NULL) {
                STAILQ_REMOVE_HEAD(&p->ended, ready);
                uv_thread_join(&w->thread);
                free(w);
        }
}

/* A thread that has answered still takes a while to end. It is joined in the loop's next turn: by then the answer has been written to whoever waits for it. */
static void answer_all(struct oslock_pool *p, struct wait_queue *queue)
{
        struct wait *w;

        while ((w = STAILQ_FIRST(queue)) != NULL) {
                STAILQ_REMOVE_HEAD(queue, ready);
                remove_wait(p, w);
                if (w->has_thread)
                        give_thread(p);
                p->done(p->arg, w->op, w->result, w->error);
                if (w->has_thread)
                        STAILQ_INSERT_TAIL(&p->ended, w, ready);
                else
                        free(w);
        }
        if (!STAILQ_EMPTY(&p->ended))
                uv_async_send(&p->async);
}

static void on_async(uv_async_t *async)
{
        struct oslock_pool *p = async->data;
        struct wait_queue queue = STAILQ_HEAD_INITIALIZER(queue);

        join_ended(p);
        pthread_mutex_lock(&p->mutex);
        STAILQ_CONCAT(&queue, &p->answered);
        pthread_mutex_unlock(&p->mutex);
        STAILQ_CONCAT(&queue, &p->ready);
        answer_all(p, &queue);
        retry_set_timer(p);
}

/* ---- begin and end ---- */

struct oslock_pool *oslock_pool_create(uv_loop_t *loop, unsigned threads, oslock_done *done, oslock_try_elsewhere *elsewhere, void *arg)
{
        struct sigaction action = {.sa_handler = interrupted};  /* no SA_RESTART: it must interrupt */
        struct oslock_pool *p = calloc(1, sizeof *p);

        if (p == NULL)
                return NULL;
        p->thread_users = malloc((threads > 0 ? threads : 1) * sizeof *p->thread_users);
        if (p->thread_users == NULL) {
                free(p);
                return NULL;
        }
        p->loop = loop;
        p->threads_max = threads;
        p->done = done;
        p->elsewhere = elsewhere;
        p->arg = arg;
        TAILQ_INIT(&p->retries);
        TAILQ_INIT(&p->cancelling);
        STAILQ_INIT(&p->ready);
        STAILQ_INIT(&p->answered);
        STAILQ_INIT(&p->ended);
        if (uv_async_init(loop, &p->async, on_async) != 0) {
                free(p->thread_users);
                free(p);
                return NULL;
        }
        uv_timer_init(loop, &p->timer);
        p->async.data = p->timer.data = p;
        p->handles = 2;
        pthread_mutex_init(&p->mutex, NULL);
        sigaction(SIGURG, &action, NULL);
        oslock_keep_spare();
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
                        pthread_detach(w->thread);
                        p->left_behind = true;
                        continue;
                }
                if (w->has_thread)
                        uv_thread_join(&w->thread);
                free(w);
        }
        join_ended(p);
        free(p->heap);
        free(p->thread_users);
        p->heap = NULL;
        p->thread_users = NULL;
        uv_close((uv_handle_t *)&p->async, on_closed);
        uv_close((uv_handle_t *)&p->timer, on_closed);
}

int oslock_wait(struct oslock_pool *p, uint64_t op, int fd, enum oslock_mode mode, bool yields, uint64_t user)
{
        struct wait *w = calloc(1, sizeof *w);

        if (w == NULL || !retry_reserve(p))
                goto fail;
        *w = (struct wait){.pool = p, .op = op, .fd = fd, .mode = mode, .yields = yields, .user = user, .state = WAIT_THREAD, .step_ms = RETRY_MIN_MS};
        HASH_ADD(hh, p->waits, op, sizeof w->op, w);
        if (w->hh.tbl == NULL)
                goto fail;
        if (!has_thread_for(p, user) || !start_thread(w)) {
                TAILQ_INSERT_TAIL(&p->retries, w, by_age);
                p->retrying++;
                retry_put_off(p, w);
                retry_set_timer(p);
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
                retry_remove(p, w);
                retry_make_ready(p, w, OSLOCK_CANCELLED, 0);
        } else if (w->has_thread) {
                pthread_mutex_lock(&p->mutex);
                w->cancelled = true;
                pthread_mutex_unlock(&p->mutex);
                pthread_kill(w->thread, SIGURG);
                w->in_cancelling = true;
                TAILQ_INSERT_TAIL(&p->cancelling, w, entry);
        }
        retry_set_timer(p);
}

void oslock_pool_stats(const struct oslock_pool *p, struct oslock_stats *out)
{
        out->threads = p->threads;
        out->retrying = p->retrying;
        out->waiting = (uint64_t)p->threads + p->retrying;
        out->waits_total = p->total;
        out->tries_total = p->tries;
}
