/* os/oslock.h and descriptions.h on the fake system: passes the same contract as flock(2). One loop, one pool, one file at a time. */
#include "descriptions.h"
#include "fake_os.h"

#include <stdlib.h>
#include <uv.h>

#define DESCRIPTORS_MAX 256

static struct fake_os *os;
static int description_of[DESCRIPTORS_MAX]; /* by descriptor; 0: not open */

void descriptions_begin(void)
{
        os = fake_create();
}

void descriptions_end(void)
{
        fake_destroy(os);
        os = NULL;
}

static int descriptor(int description)
{
        int fd;

        for (fd = 1; description_of[fd] != 0; fd++)
                if (fd + 1 == DESCRIPTORS_MAX)
                        abort();
        description_of[fd] = description;
        return fd;
}

int description_open(void)
{
        return descriptor(fake_open(os, 0));
}

int description_dup(int fd)
{
        fake_dup(os, description_of[fd]);
        return descriptor(description_of[fd]);
}

void description_close(int fd)
{
        fake_close(os, description_of[fd]);
        description_of[fd] = 0;
}

enum oslock_result oslock_try(int fd, enum oslock_mode mode, int *error)
{
        *error = 0;
        return fake_try(os, description_of[fd], mode);
}

enum oslock_result oslock_upgrade(int fd, int *error)
{
        *error = 0;
        return fake_upgrade(os, description_of[fd]);
}

void oslock_downgrade(int fd)
{
        fake_downgrade(os, description_of[fd]);
}

void oslock_unlock(int fd)
{
        fake_unlock(os, description_of[fd]);
}

enum oslock_mode oslock_bears(int fd)
{
        return fake_bears(os, description_of[fd]);
}

/* ---- waits: answers are taken out of the box by the loop ---- */

struct oslock_pool {
        uv_idle_t idle;
        oslock_done *done;
        void *arg;
        unsigned threads;
        uint64_t waits_total;
        struct {
                bool waits;
                uint64_t user;
        } ops[DESCRIPTORS_MAX];
};

static void deliver(uv_idle_t *idle)
{
        struct oslock_pool *p = idle->data;
        struct fake_answer a;

        while (fake_answers(os) > 0) {
                a = fake_take_answer(os, 0);
                p->ops[a.op].waits = false;
                p->done(p->arg, a.op, a.result, 0);
        }
}

struct oslock_pool *oslock_pool_create(uv_loop_t *loop, unsigned threads, oslock_done *done, oslock_try_elsewhere *elsewhere, void *arg)
{
        struct oslock_pool *p = calloc(1, sizeof *p);

        (void)elsewhere;        /* all wait as if they had a thread, whatever the figures say */
        if (p == NULL)
                return NULL;
        p->done = done;
        p->arg = arg;
        p->threads = threads;
        uv_idle_init(loop, &p->idle);
        p->idle.data = p;
        uv_idle_start(&p->idle, deliver);
        return p;
}

static void closed(uv_handle_t *handle)
{
        free(handle->data);
}

void oslock_pool_destroy(struct oslock_pool *p)
{
        uint64_t op;

        for (op = 1; op < DESCRIPTORS_MAX; op++)
                fake_cancel(os, op);
        uv_close((uv_handle_t *)&p->idle, closed);
}

int oslock_wait(struct oslock_pool *p, uint64_t op, int fd, enum oslock_mode mode, bool yields, uint64_t user)
{
        (void)yields;   /* nobody is between being woken and running here */
        p->waits_total++;
        p->ops[op].waits = true;
        p->ops[op].user = user;
        fake_wait(os, op, description_of[fd], mode);
        return 0;
}

void oslock_cancel(struct oslock_pool *p, uint64_t op)
{
        (void)p;
        fake_cancel(os, op);
}

void oslock_pool_tried(struct oslock_pool *p, uint64_t op, enum oslock_result result, int error)
{
        (void)p;
        (void)op;
        (void)result;
        (void)error;
}

static bool has_share(const struct oslock_pool *p, unsigned op)
{
        unsigned i, older = 0;

        for (i = 1; i < op; i++)
                older += p->ops[i].waits && p->ops[i].user == p->ops[op].user;
        return p->ops[op].user == 0 || older < (p->threads + 3) / 4;
}

void oslock_pool_stats(const struct oslock_pool *p, struct oslock_stats *out)
{
        unsigned op;

        out->waiting = fake_waiting(os);
        out->threads = 0;
        for (op = 1; op < DESCRIPTORS_MAX && out->threads < p->threads; op++)
                out->threads += p->ops[op].waits && has_share(p, op);
        out->retrying = out->waiting - out->threads;
        out->waits_total = p->waits_total;
        out->tries_total = 0;
}
