/*
 * flock(2). It has no timeout and cannot be polled: only a signal ends a blocked call. So each wait has a thread with a small stack,
 * and a cancel sends that thread SIGURG (ignored by default, handled here by an empty handler without SA_RESTART). A signal that
 * arrives just before the call is lost; the cancel is therefore repeated by a timer until the thread has answered.
 */
#include "oslock.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/file.h>
#include <unistd.h>
#include <uv.h>

#define STACK_BYTES (64 * 1024)
#define CANCEL_REPEAT_MS 2
#define RETRY_MIN_MS 1
#define RETRY_MAX_MS 16
#define LEAVE_TRIES 1000        /* at the end, a millisecond each: whoever hangs on a dead file system is left behind */

static int flock_operation(enum oslock_mode mode)
{
        return mode == OSLOCK_EX ? LOCK_EX : LOCK_SH;
}

static int flock_retry(int fd, int operation)
{
        int r;

        do
                r = flock(fd, operation);
        while (r < 0 && errno == EINTR);
        return r;
}

enum oslock_result oslock_try(int fd, enum oslock_mode mode, int *error)
{
        if (flock_retry(fd, flock_operation(mode) | LOCK_NB) == 0)
                return OSLOCK_TAKEN;
        *error = errno;
        return *error == EWOULDBLOCK ? OSLOCK_BUSY : OSLOCK_FAILED;
}

enum oslock_result oslock_upgrade(int fd, int *error)
{
        if (flock_retry(fd, LOCK_EX | LOCK_NB) == 0)
                return OSLOCK_TAKEN;
        *error = errno;
        /* The failed conversion has dropped the SH: take it back before anybody notices. */
        if (flock_retry(fd, LOCK_SH | LOCK_NB) != 0)
                return OSLOCK_LOST;
        return *error == EWOULDBLOCK ? OSLOCK_BUSY : OSLOCK_FAILED;
}

void oslock_downgrade(int fd)
{
        (void)flock_retry(fd, LOCK_SH | LOCK_NB);
}

void oslock_unlock(int fd)
{
        (void)flock_retry(fd, LOCK_UN);
}

enum oslock_mode oslock_bears(int fd)
{
        enum oslock_mode mode = OSLOCK_NONE;
        char name[64], line[256];
        FILE *f;

        snprintf(name, sizeof name, "/proc/self/fdinfo/%d", fd);
        f = fopen(name, "re");
        if (f == NULL)
                return OSLOCK_NONE;
        while (fgets(line, sizeof line, f) != NULL) {
                if (strncmp(line, "lock:", 5) != 0 || strstr(line, "FLOCK") == NULL)
                        continue;
                mode = strstr(line, "WRITE") != NULL ? OSLOCK_EX : OSLOCK_SH;
        }
        fclose(f);
        return mode;
}

/* ---- waits ---- */

enum wait_kind { WAIT_THREAD, WAIT_RETRY };

struct wait {
        struct oslock_pool *pool;
        struct wait *next, *prev;
        uint64_t op;
        int fd;
        enum oslock_mode mode;
        enum wait_kind kind;
        pthread_t thread;
        int64_t retry_at_ms;
        int retry_step_ms;
        enum oslock_result result;
        int error;
        bool cancelled;         /* written by the loop under the mutex, read by the thread */
        bool answered;          /* under the mutex */
};

struct oslock_pool {
        uv_loop_t *loop;
        uv_async_t async;
        uv_timer_t timer;
        pthread_mutex_t mutex;
        struct wait *waits;
        unsigned threads, threads_max, retrying, handles;
        uint64_t total;
        oslock_done *done;
        void *arg;
        bool closing;           /* under the mutex */
        bool left_behind;       /* a thread that hangs may still look at all this */
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
                if (flock(w->fd, flock_operation(w->mode)) == 0) {
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
        /* Inside the mutex: the pool cannot be destroyed between the answer and its announcement. */
        if (!p->closing)
                uv_async_send(&p->async);
        pthread_mutex_unlock(&p->mutex);
        return NULL;
}

static void wait_unlink(struct oslock_pool *p, struct wait *w)
{
        if (w->prev != NULL)
                w->prev->next = w->next;
        else
                p->waits = w->next;
        if (w->next != NULL)
                w->next->prev = w->prev;
        if (w->kind == WAIT_THREAD)
                p->threads--;
        else
                p->retrying--;
}

static void retry(struct wait *w, int64_t now_ms)
{
        int error = 0;

        if (w->cancelled) {
                w->result = OSLOCK_CANCELLED;
                w->answered = true;
                return;
        }
        if (now_ms < w->retry_at_ms)
                return;
        w->result = oslock_try(w->fd, w->mode, &error);
        w->error = error;
        w->answered = w->result != OSLOCK_BUSY;
        if (w->retry_step_ms < RETRY_MAX_MS)
                w->retry_step_ms *= 2;
        w->retry_at_ms = now_ms + w->retry_step_ms;
}

static void on_timer(uv_timer_t *timer);

static void sweep(struct oslock_pool *p)
{
        int64_t now_ms = (int64_t)uv_now(p->loop);
        struct wait *w, *next, *ready = NULL;
        bool again = false;

        pthread_mutex_lock(&p->mutex);
        for (w = p->waits; w != NULL; w = next) {
                next = w->next;
                if (w->kind == WAIT_RETRY)
                        retry(w, now_ms);
                if (!w->answered) {
                        if (w->kind == WAIT_THREAD && w->cancelled)
                                pthread_kill(w->thread, SIGURG);
                        again = again || w->kind == WAIT_RETRY || w->cancelled;
                        continue;
                }
                wait_unlink(p, w);
                w->next = ready;
                ready = w;
        }
        pthread_mutex_unlock(&p->mutex);

        if (again)
                uv_timer_start(&p->timer, on_timer, CANCEL_REPEAT_MS, 0);
        for (w = ready; w != NULL; w = next) {
                next = w->next;
                if (w->kind == WAIT_THREAD)
                        pthread_join(w->thread, NULL);
                p->done(p->arg, w->op, w->result, w->error);
                free(w);
        }
}

static void on_timer(uv_timer_t *timer)
{
        sweep(timer->data);
}

static void on_async(uv_async_t *async)
{
        sweep(async->data);
}

struct oslock_pool *oslock_pool_create(uv_loop_t *loop, unsigned threads, oslock_done *done, void *arg)
{
        struct sigaction action = {.sa_handler = interrupted};  /* no SA_RESTART: it must interrupt */
        struct oslock_pool *p = calloc(1, sizeof *p);

        if (p == NULL)
                return NULL;
        p->loop = loop;
        p->threads_max = threads;
        p->done = done;
        p->arg = arg;
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

/* False when its thread cannot be woken. */
static bool end_wait(struct oslock_pool *p, struct wait *w)
{
        struct timespec pause = {.tv_nsec = 1000000};
        bool answered = w->kind == WAIT_RETRY;
        int i;

        for (i = 0; !answered && i < LEAVE_TRIES; i++) {
                pthread_mutex_lock(&p->mutex);
                w->cancelled = true;
                answered = w->answered;
                pthread_mutex_unlock(&p->mutex);
                if (answered) {
                        pthread_join(w->thread, NULL);
                        break;
                }
                /* A signal just before the call is lost: again, until it has answered. */
                pthread_kill(w->thread, SIGURG);
                nanosleep(&pause, NULL);
        }
        return answered;
}

void oslock_pool_destroy(struct oslock_pool *p)
{
        struct wait *w;

        if (p == NULL)
                return;
        pthread_mutex_lock(&p->mutex);
        p->closing = true;
        pthread_mutex_unlock(&p->mutex);
        while ((w = p->waits) != NULL) {
                wait_unlink(p, w);
                if (end_wait(p, w))
                        free(w);
                else
                        p->left_behind = true;
        }
        uv_close((uv_handle_t *)&p->async, on_closed);
        uv_close((uv_handle_t *)&p->timer, on_closed);
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

int oslock_wait(struct oslock_pool *p, uint64_t op, int fd, enum oslock_mode mode)
{
        struct wait *w = calloc(1, sizeof *w);

        if (w == NULL)
                return -ENOMEM;
        w->pool = p;
        w->op = op;
        w->fd = fd;
        w->mode = mode;
        w->kind = p->threads < p->threads_max ? WAIT_THREAD : WAIT_RETRY;
        if (w->kind == WAIT_THREAD && start_thread(w) != 0)
                w->kind = WAIT_RETRY;
        if (w->kind == WAIT_THREAD) {
                p->threads++;
        } else {
                p->retrying++;
                w->retry_step_ms = RETRY_MIN_MS;
                uv_timer_start(&p->timer, on_timer, RETRY_MIN_MS, 0);
        }
        p->total++;
        w->next = p->waits;
        if (w->next != NULL)
                w->next->prev = w;
        p->waits = w;
        return 0;
}

void oslock_cancel(struct oslock_pool *p, uint64_t op)
{
        struct wait *w;

        for (w = p->waits; w != NULL; w = w->next) {
                if (w->op != op)
                        continue;
                pthread_mutex_lock(&p->mutex);
                w->cancelled = true;
                if (w->kind == WAIT_THREAD && !w->answered)
                        pthread_kill(w->thread, SIGURG);
                pthread_mutex_unlock(&p->mutex);
                uv_timer_start(&p->timer, on_timer, CANCEL_REPEAT_MS, 0);
                return;
        }
}

void oslock_pool_stats(const struct oslock_pool *p, struct oslock_stats *out)
{
        out->threads = p->threads;
        out->retrying = p->retrying;
        out->waiting = (uint64_t)p->threads + p->retrying;
        out->waits_total = p->total;
}
