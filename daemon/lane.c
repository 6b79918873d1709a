#include "lane.h"

#include "thread.h"

#include <stdlib.h>
#include <uv.h>

#define STACK_BYTES (128 * 1024)
#define LEAVE_NS 1000000000ull  /* for what is under way at the end */

struct worker {
        struct lane *lane;
        uv_thread_t thread;
        bool ended;
};

struct lane {
        uv_async_t async;
        uv_mutex_t mutex;
        uv_cond_t changed;
        size_t pending;                         /* the loop's, and so is this: */
        bool left_behind;                       /* somebody hangs, and will look at all this should it ever wake up */
        /* Under the mutex. */
        struct lane_job *waiting, **waiting_end; /* not begun, by age */
        struct lane_job *running;
        struct lane_job *finished, **finished_end;
        unsigned waiting_count, idle, alive, started, threads_max;
        bool closing;
        struct worker workers[];
};

static bool is_running(const struct lane *l, uint64_t key)
{
        const struct lane_job *j;

        for (j = l->running; j != NULL; j = j->next) {
                if (j->key == key && key != 0)
                        return true;
        }
        return false;
}

/* Has this user as many threads as he may have? */
static bool share_is_used(const struct lane *l, uint64_t user)
{
        const struct lane_job *j;
        unsigned n = 0;

        if (user == 0)
                return false;
        for (j = l->running; j != NULL; j = j->next)
                n += j->user == user;
        return n >= (l->threads_max + 3) / 4;
}

static void append(struct lane_job ***end, struct lane_job *job)
{
        job->next = NULL;
        **end = job;
        *end = &job->next;
}

/*
 * The oldest job whose key is free and whose user has a share left: the jobs of one key, which are one user's, keep their order, for the younger ones
 * stand behind. NULL: none.
 */
static struct lane_job *take(struct lane *l)
{
        struct lane_job **p, *j;

        for (p = &l->waiting; (j = *p) != NULL; p = &j->next) {
                if (is_running(l, j->key) || share_is_used(l, j->user))
                        continue;
                *p = j->next;
                if (l->waiting_end == &j->next)
                        l->waiting_end = p;
                l->waiting_count--;
                j->next = l->running;
                l->running = j;
                return j;
        }
        return NULL;
}

static void put(struct lane *l, struct lane_job *job)
{
        struct lane_job **p;

        for (p = &l->running; *p != job; p = &(*p)->next)
                ;
        *p = job->next;
        append(&l->finished_end, job);
}

static void worker_main(void *arg)
{
        struct worker *w = arg;
        struct lane *l = w->lane;
        struct lane_job *job;

        uv_mutex_lock(&l->mutex);
        while (!l->closing) {
                job = take(l);
                if (job == NULL) {
                        l->idle++;
                        uv_cond_wait(&l->changed, &l->mutex);
                        l->idle--;
                        continue;
                }
                uv_mutex_unlock(&l->mutex);
                job->work(job);
                uv_mutex_lock(&l->mutex);
                put(l, job);
                if (!l->closing)
                        uv_async_send(&l->async);
        }
        w->ended = true;
        l->alive--;
        uv_cond_broadcast(&l->changed);
        uv_mutex_unlock(&l->mutex);
}

static bool start_worker(struct lane *l)
{
        struct worker *w = &l->workers[l->started];

        w->lane = l;
        if (thread_start(&w->thread, STACK_BYTES, worker_main, w) != 0)
                return false;
        l->started++;
        l->alive++;
        return true;
}

static void done_all(struct lane *l, struct lane_job *job, bool dropped)
{
        struct lane_job *next;

        for (; job != NULL; job = next) {
                next = job->next;
                l->pending--;
                job->dropped = dropped;
                job->done(job);
        }
}

static void on_finished(uv_async_t *async)
{
        struct lane *l = async->data;
        struct lane_job *finished;

        uv_mutex_lock(&l->mutex);
        finished = l->finished;
        l->finished = NULL;
        l->finished_end = &l->finished;
        uv_mutex_unlock(&l->mutex);
        done_all(l, finished, false);
}

static void on_closed(uv_handle_t *handle)
{
        struct lane *l = handle->data;

        if (l->left_behind)
                return;
        uv_cond_destroy(&l->changed);
        uv_mutex_destroy(&l->mutex);
        free(l);
}

struct lane *lane_create(uv_loop_t *loop, unsigned threads)
{
        struct lane *l = calloc(1, sizeof *l + threads * sizeof l->workers[0]);

        if (l == NULL)
                return NULL;
        if (uv_async_init(loop, &l->async, on_finished) != 0) {
                free(l);
                return NULL;
        }
        l->async.data = l;
        uv_mutex_init(&l->mutex);
        uv_cond_init(&l->changed);
        l->threads_max = threads;
        l->waiting_end = &l->waiting;
        l->finished_end = &l->finished;
        /* One from the start: every job will find a thread some day. */
        if (!start_worker(l)) {
                uv_close((uv_handle_t *)&l->async, on_closed);
                return NULL;
        }
        return l;
}

void lane_destroy(struct lane *l)
{
        uint64_t now, until = uv_hrtime() + LEAVE_NS;
        struct lane_job *finished, *waiting;
        unsigned i;

        if (l == NULL)
                return;
        uv_mutex_lock(&l->mutex);
        l->closing = true;
        uv_cond_broadcast(&l->changed);
        while (l->alive > 0 && (now = uv_hrtime()) < until)
                (void)uv_cond_timedwait(&l->changed, &l->mutex, until - now);
        for (i = 0; i < l->started; i++) {
                if (l->workers[i].ended)
                        uv_thread_join(&l->workers[i].thread);
        }
        l->left_behind = l->alive > 0;
        finished = l->finished;
        waiting = l->waiting;
        l->finished = l->waiting = NULL;
        l->finished_end = &l->finished;         /* whoever ends later puts its job there, and nobody takes it */
        uv_mutex_unlock(&l->mutex);
        done_all(l, finished, true);
        done_all(l, waiting, true);
        uv_close((uv_handle_t *)&l->async, on_closed);
}

void lane_submit(struct lane *l, struct lane_job *job)
{
        l->pending++;
        uv_mutex_lock(&l->mutex);
        append(&l->waiting_end, job);
        if (++l->waiting_count > l->idle && l->started < l->threads_max)
                (void)start_worker(l);
        uv_cond_signal(&l->changed);
        uv_mutex_unlock(&l->mutex);
}

size_t lane_pending(const struct lane *l)
{
        return l->pending;
}
