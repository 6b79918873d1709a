/*
 * Waits for flock(2), each in a thread (oslock_thread.c). Threads are bounded. Other waits are tried now and then (oslock_retry.c); a thread that becomes
 * free goes to the oldest of them.
 */
#include "oslock_internal.h"

#include "again.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define RETRY_MIN_MS 1

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

        if (!thread_wait(p, w))
                return false;
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

static void answer_all(struct oslock_pool *p, struct wait_queue *queue)
{
        struct wait *w;

        while ((w = STAILQ_FIRST(queue)) != NULL) {
                STAILQ_REMOVE_HEAD(queue, ready);
                remove_wait(p, w);
                if (w->has_thread)
                        give_thread(p);
                p->done(p->arg, w->op, w->result, w->error);
                free(w);
        }
}

/*
 * Not uv_async_send(): in libuv 1.44 a loop that runs before it has returned, as happens where thread and loop share a processor, spins until it
 * has, for 35 us and more.
 */
void pool_tell(const struct oslock_pool *p)
{
        uint64_t one = 1;

        while (write(p->told, &one, sizeof one) < 0 && errno == EINTR)
                ;
}

void pool_tell_self(struct oslock_pool *p)
{
        if (!p->self_told)
                pool_tell(p);
        p->self_told = true;
}

static void on_told(uv_poll_t *poll, int status, int events)
{
        struct oslock_pool *p = poll->data;
        struct wait_queue queue = STAILQ_HEAD_INITIALIZER(queue);
        uint64_t count;

        (void)status;
        (void)events;
        (void)read_again(p->told, &count, sizeof count);
        p->self_told = false;
        if (threads_join_ended(p))
                pool_tell_self(p);      /* an end takes a while: by then the answers have been written to whoever waits for them */
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
        struct oslock_pool *p = calloc(1, sizeof *p);
        int error;

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
        p->told = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (p->told < 0 || uv_poll_init(loop, &p->answers, p->told) != 0) {
                if (p->told >= 0)
                        close(p->told);
                free(p->thread_users);
                free(p);
                return NULL;
        }
        uv_timer_init(loop, &p->timer);
        p->answers.data = p->timer.data = p;
        error = errno;
        uv_poll_start(&p->answers, UV_READABLE, on_told);
        errno = error;  /* libuv has asked epoll to forget what it did not know: that is no reason if something fails later */
        p->handles = 2;
        threads_begin(p);
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

void oslock_pool_destroy(struct oslock_pool *p)
{
        int error = errno;      /* perhaps the reason why the daemon does not start */
        struct wait *w, *next;

        if (p == NULL)
                return;
        threads_end(p);
        pthread_mutex_lock(&p->mutex);
        HASH_ITER(hh, p->waits, w, next) {
                HASH_DELETE(hh, p->waits, w);
                if (!w->has_thread || w->answered)      /* else a thread that was left behind may look at it */
                        free(w);
        }
        pthread_mutex_unlock(&p->mutex);
        free(p->heap);
        free(p->thread_users);
        p->heap = NULL;
        p->thread_users = NULL;
        uv_close((uv_handle_t *)&p->answers, on_closed);
        close(p->told);         /* whoever was left behind tells nobody */
        errno = error;
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
                threads_interrupt(p, w);
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
