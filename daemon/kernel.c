#include "kernel.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/queue.h>

/* A wait on a new description of the shared bearer's file. */
struct fresh {
        uint64_t op, bearer;
        struct fresh *next;
};

enum errand_kind { ERRAND_TRY, ERRAND_CONVERT, ERRAND_WAIT, ERRAND_RETRY, ERRAND_UNLOCK, ERRAND_DOWNGRADE };

/* An operation on the lane. A wait has only its way there: then it waits as any other, and is a retry if there is no thread for it. */
struct errand {
        struct lane_job job;
        struct kernel *kernel;
        enum errand_kind kind;
        uint64_t op, bearer;
        enum oslock_mode mode;
        int fd;
        bool fresh, yields, cancelled;
        enum oslock_result result;
        int error, fresh_fd;
        struct errand *next;    /* of the waits on their way */
        LIST_ENTRY(errand) of_told;
};

struct kernel {
        struct files *files;
        struct lane *lane;
        struct oslock_pool *local, *away;
        struct fresh *fresh;
        struct errand *waits;
        LIST_HEAD(, errand) told;       /* unlocks and downgrades on their way: nobody is answered, but what they take away is not borne any more */
        kernel_done *done;
        void *arg;
};

static enum oslock_mode mode_of(enum table_mode mode)
{
        return mode == TABLE_EX ? OSLOCK_EX : OSLOCK_SH;
}

static void on_wait_done(void *arg, uint64_t op, enum oslock_result result, int error)
{
        struct kernel *k = arg;
        struct fresh **p, *f;
        uint64_t new_bearer = 0;

        for (p = &k->fresh; (f = *p) != NULL; p = &f->next) {
                if (f->op != op)
                        continue;
                *p = f->next;
                if (result == OSLOCK_TAKEN) {
                        new_bearer = f->bearer;
                        files_share(k->files, new_bearer);
                } else {
                        files_drop(k->files, f->bearer);
                }
                free(f);
                break;
        }
        k->done(k->arg, op, result, error, new_bearer);
}

static int retry_on_lane(void *arg, uint64_t op, int fd, enum oslock_mode mode, uint64_t user);

struct kernel *kernel_create(uv_loop_t *loop, struct files *files, struct lane *lane, struct kernel_threads threads, kernel_done *done, void *arg)
{
        struct kernel *k = calloc(1, sizeof *k);

        if (k == NULL)
                return NULL;
        k->files = files;
        k->lane = lane;
        k->done = done;
        k->arg = arg;
        LIST_INIT(&k->told);
        k->local = oslock_pool_create(loop, threads.local, on_wait_done, NULL, k);
        k->away = oslock_pool_create(loop, threads.away, on_wait_done, retry_on_lane, k);
        if (k->local == NULL || k->away == NULL) {
                oslock_pool_destroy(k->local);
                oslock_pool_destroy(k->away);
                free(k);
                return NULL;
        }
        return k;
}

void kernel_destroy(struct kernel *k)
{
        struct fresh *f;

        if (k == NULL)
                return;
        oslock_pool_destroy(k->local);
        oslock_pool_destroy(k->away);
        while ((f = k->fresh) != NULL) {
                k->fresh = f->next;
                files_drop(k->files, f->bearer);
                free(f);
        }
        free(k);
}

/* ---- waits ---- */

/* Begin to wait on the bearer, or on the new description `fresh_fd` (expected, consumed; -1: it could not be had). */
static void wait_on(struct kernel *k, uint64_t op, uint64_t bearer, enum oslock_mode mode, bool yields, bool fresh, int fresh_fd)
{
        struct fresh *f = NULL;

        if (fresh) {
                f = malloc(sizeof *f);
                if (f == NULL || fresh_fd < 0 || files_fresh(k->files, bearer, fresh_fd, &bearer) != FILES_OK) {
                        /* Too few descriptors, perhaps: outsiders must wait a little longer, our own need not. */
                        if (f == NULL || fresh_fd < 0)
                                files_expect_none(k->files, fresh_fd);
                        free(f);
                        k->done(k->arg, op, OSLOCK_BUSY, 0, 0);
                        return;
                }
                *f = (struct fresh){.op = op, .bearer = bearer, .next = k->fresh};
                k->fresh = f;
        }
        if (oslock_wait(files_is_away(k->files, bearer) ? k->away : k->local, op, files_fd(k->files, bearer), mode, yields,
                        files_user(k->files, bearer)) != 0)
                on_wait_done(k, op, OSLOCK_FAILED, ENOMEM);
}

/* ---- errands ---- */

static void errand_work(struct lane_job *job)
{
        struct errand *r = (struct errand *)job;
        struct file_error error;

        switch (r->kind) {
        case ERRAND_TRY:
        case ERRAND_RETRY:
                r->result = oslock_try(r->fd, r->mode, &r->error);
                break;
        case ERRAND_CONVERT:
                r->result = oslock_upgrade(r->fd, &r->error);
                break;
        case ERRAND_WAIT:
                r->fresh_fd = r->fresh ? file_reopen(r->fd, &error) : -1;
                break;
        case ERRAND_UNLOCK:
                oslock_unlock(r->fd);
                break;
        case ERRAND_DOWNGRADE:
                oslock_downgrade(r->fd);
                break;
        }
}

static void wait_arrived(struct errand *r)
{
        struct kernel *k = r->kernel;
        struct errand **p;

        for (p = &k->waits; *p != r; p = &(*p)->next)
                ;
        *p = r->next;
        if (!r->cancelled) {
                wait_on(k, r->op, r->bearer, r->mode, r->yields, r->fresh, r->fresh_fd);
                return;
        }
        if (r->fresh)
                files_expect_none(k->files, r->fresh_fd);
        k->done(k->arg, r->op, OSLOCK_CANCELLED, 0, 0);
}

static bool is_told(const struct errand *r)
{
        return r->kind == ERRAND_UNLOCK || r->kind == ERRAND_DOWNGRADE;
}

static void errand_done(struct lane_job *job)
{
        struct errand *r = (struct errand *)job;

        if (!job->dropped && r->kind == ERRAND_WAIT)
                wait_arrived(r);
        else if (!job->dropped && r->kind == ERRAND_RETRY)
                oslock_pool_tried(r->kernel->away, r->op, r->result, r->error);
        else if (!job->dropped && (r->kind == ERRAND_TRY || r->kind == ERRAND_CONVERT))
                r->kernel->done(r->kernel->arg, r->op, r->result, r->error, 0);
        if (!job->dropped && is_told(r))
                LIST_REMOVE(r, of_told);
        free(r);
}

/* NULL when out of memory. */
static struct errand *send(struct kernel *k, enum errand_kind kind, uint64_t op, uint64_t bearer, enum oslock_mode mode, bool fresh)
{
        struct errand *r = calloc(1, sizeof *r);

        if (r == NULL)
                return NULL;
        *r = (struct errand){.job = {.work = errand_work, .done = errand_done, .key = bearer, .user = files_user(k->files, bearer)},
                             .kernel = k, .kind = kind, .op = op, .bearer = bearer, .mode = mode, .fd = files_fd(k->files, bearer), .fresh = fresh, .fresh_fd = -1};
        if (kind == ERRAND_WAIT) {
                r->next = k->waits;
                k->waits = r;
        }
        if (is_told(r))
                LIST_INSERT_HEAD(&k->told, r, of_told);
        lane_submit(k->lane, &r->job);
        return r;
}

static int retry_on_lane(void *arg, uint64_t op, int fd, enum oslock_mode mode, uint64_t user)
{
        struct errand *r = calloc(1, sizeof *r);
        struct kernel *k = arg;

        if (r == NULL)
                return -ENOMEM;
        /* In order with nobody: until the wait is answered nothing else is done on its bearer. */
        *r = (struct errand){.job = {.work = errand_work, .done = errand_done, .user = user}, .kernel = k, .kind = ERRAND_RETRY, .op = op, .mode = mode, .fd = fd,
                             .fresh_fd = -1};
        lane_submit(k->lane, &r->job);
        return 0;
}

bool kernel_lock(struct kernel *k, const struct table_effect *fx)
{
        enum errand_kind kind = fx->wait ? ERRAND_WAIT : fx->convert ? ERRAND_CONVERT : ERRAND_TRY;
        int fd = files_fd_here(k->files, fx->bearer), error = 0;
        enum oslock_result result;
        struct file_error file_error;
        struct errand *r;

        if (fx->fresh && !files_expect(k->files)) {
                k->done(k->arg, fx->op, OSLOCK_BUSY, 0, 0);     /* as in wait_on() */
                return false;
        }
        if (fd < 0) {
                r = send(k, kind, fx->op, fx->bearer, mode_of(fx->mode), fx->fresh);
                if (r != NULL) {
                        r->yields = fx->yields; /* looked at when it comes back: on this thread */
                        return true;
                }
                if (fx->fresh)
                        files_expect_none(k->files, -1);
                k->done(k->arg, fx->op, OSLOCK_FAILED, ENOMEM, 0);
                return false;
        }
        if (fx->wait) {
                wait_on(k, fx->op, fx->bearer, mode_of(fx->mode), fx->yields, fx->fresh, fx->fresh ? file_reopen(fd, &file_error) : -1);
                return false;
        }
        result = fx->convert ? oslock_upgrade(fd, &error) : oslock_try(fd, mode_of(fx->mode), &error);
        k->done(k->arg, fx->op, result, error, 0);
        return false;
}

void kernel_cancel(struct kernel *k, uint64_t op)
{
        struct errand *r;

        for (r = k->waits; r != NULL; r = r->next) {
                if (r->op == op) {
                        r->cancelled = true;
                        return;
                }
        }
        oslock_cancel(k->local, op);
        oslock_cancel(k->away, op);
}

/* Without answer: on the loop if even the memory for an errand is missing, for a lock that stays would be worse than a pause. */
static void tell(struct kernel *k, enum errand_kind kind, uint64_t bearer)
{
        int fd = files_fd_here(k->files, bearer);

        if (fd < 0 && send(k, kind, 0, bearer, OSLOCK_NONE, false) != NULL)
                return;
        if (fd < 0)
                fd = files_fd(k->files, bearer);
        if (kind == ERRAND_UNLOCK)
                oslock_unlock(fd);
        else
                oslock_downgrade(fd);
}

void kernel_unlock(struct kernel *k, uint64_t bearer)
{
        tell(k, ERRAND_UNLOCK, bearer);
}

void kernel_downgrade(struct kernel *k, uint64_t bearer)
{
        tell(k, ERRAND_DOWNGRADE, bearer);
}

enum table_mode kernel_bears(const struct kernel *k, uint64_t bearer)
{
        enum table_mode mode = (enum table_mode)oslock_bears(files_fd(k->files, bearer));
        const struct errand *r;

        if (mode == TABLE_NONE || !files_is_away(k->files, bearer))
                return mode;
        /* What the system shows may be about to go: the thread has only not come to it yet. */
        LIST_FOREACH(r, &k->told, of_told) {
                if (r->bearer != bearer)
                        continue;
                if (r->kind == ERRAND_UNLOCK)
                        return TABLE_NONE;
                mode = TABLE_SH;
        }
        return mode;
}

void kernel_stats(const struct kernel *k, struct oslock_stats *out)
{
        struct oslock_stats away;

        oslock_pool_stats(k->local, out);
        oslock_pool_stats(k->away, &away);
        out->waiting += away.waiting;
        out->threads += away.threads;
        out->retrying += away.retrying;
        out->waits_total += away.waits_total;
        out->tries_total += away.tries_total;
}
