#include "fake_os.h"

#include <stdlib.h>
#include <string.h>

#define WAITS_MAX 4096

struct description {
        int file, references;
        enum oslock_mode mode;
};

struct wait {
        uint64_t op;
        int description;
        enum oslock_mode mode;
};

struct fake_os {
        struct description descriptions[FAKE_DESCRIPTIONS];
        int last;               /* highest id in use */
        struct wait waits[WAITS_MAX];
        size_t wait_count;
        struct fake_answer answers[WAITS_MAX];
        size_t answer_count;
        bool lose, fail, lazy;
};

struct fake_os *fake_create(void)
{
        return calloc(1, sizeof(struct fake_os));
}

void fake_destroy(struct fake_os *f)
{
        free(f);
}

static void must(bool condition)
{
        if (!condition)
                abort();        /* the test is at fault */
}

static struct description *get(const struct fake_os *f, int id)
{
        must(id > 0 && id <= f->last && f->descriptions[id].references > 0);
        return (struct description *)&f->descriptions[id];
}

bool fake_conflicts(const struct fake_os *f, int file, int but, enum oslock_mode mode)
{
        int i;

        for (i = 1; i <= f->last; i++) {
                const struct description *d = &f->descriptions[i];

                if (i != but && d->references > 0 && d->file == file && d->mode != OSLOCK_NONE && (mode == OSLOCK_EX || d->mode == OSLOCK_EX))
                        return true;
        }
        return false;
}

static void answer(struct fake_os *f, uint64_t op, enum oslock_result result)
{
        must(f->answer_count < WAITS_MAX);
        f->answers[f->answer_count++] = (struct fake_answer){op, result};
}

static void remove_wait(struct fake_os *f, size_t i)
{
        memmove(&f->waits[i], &f->waits[i + 1], (--f->wait_count - i) * sizeof f->waits[0]);
}

void fake_serve(struct fake_os *f, int file)
{
        size_t i = 0;

        while (i < f->wait_count) {
                struct wait w = f->waits[i];
                struct description *d = get(f, w.description);

                if (d->file != file || fake_conflicts(f, file, w.description, w.mode)) {
                        i++;
                        continue;
                }
                d->mode = w.mode;
                remove_wait(f, i);
                answer(f, w.op, OSLOCK_TAKEN);
        }
}

/* Something was released: waiters in their order. */
static void serve(struct fake_os *f, int file)
{
        if (!f->lazy)
                fake_serve(f, file);
}

void fake_lazy(struct fake_os *f, bool lazy)
{
        f->lazy = lazy;
}

int fake_open(struct fake_os *f, int file)
{
        int i;

        for (i = 1; i <= f->last && f->descriptions[i].references > 0; i++)
                ;
        must(i < FAKE_DESCRIPTIONS);
        if (i > f->last)
                f->last = i;
        f->descriptions[i] = (struct description){.file = file, .references = 1};
        return i;
}

void fake_dup(struct fake_os *f, int id)
{
        get(f, id)->references++;
}

void fake_close(struct fake_os *f, int id)
{
        struct description *d = get(f, id);

        if (--d->references == 0)
                serve(f, d->file);
}

int fake_file(const struct fake_os *f, int id)
{
        return get(f, id)->file;
}

enum oslock_mode fake_bears(const struct fake_os *f, int id)
{
        return get(f, id)->mode;
}

enum oslock_result fake_try(struct fake_os *f, int id, enum oslock_mode mode)
{
        struct description *d = get(f, id);

        if (f->fail) {
                f->fail = false;
                return OSLOCK_FAILED;
        }
        if (fake_conflicts(f, d->file, id, mode))
                return OSLOCK_BUSY;
        d->mode = mode;
        return OSLOCK_TAKEN;
}

enum oslock_result fake_upgrade(struct fake_os *f, int id)
{
        struct description *d = get(f, id);

        if (!fake_conflicts(f, d->file, id, OSLOCK_EX)) {
                d->mode = OSLOCK_EX;
                return OSLOCK_TAKEN;
        }
        if (!f->lose)
                return OSLOCK_BUSY;
        f->lose = false;
        fake_unlock(f, id);
        return OSLOCK_LOST;
}

void fake_downgrade(struct fake_os *f, int id)
{
        struct description *d = get(f, id);

        d->mode = OSLOCK_SH;
        serve(f, d->file);
}

void fake_unlock(struct fake_os *f, int id)
{
        struct description *d = get(f, id);

        d->mode = OSLOCK_NONE;
        serve(f, d->file);
}

void fake_wait(struct fake_os *f, uint64_t op, int id, enum oslock_mode mode)
{
        must(f->wait_count < WAITS_MAX);
        if (f->fail) {
                f->fail = false;
                answer(f, op, OSLOCK_FAILED);
                return;
        }
        f->waits[f->wait_count++] = (struct wait){op, id, mode};
        if (!fake_conflicts(f, get(f, id)->file, id, mode))
                fake_serve(f, get(f, id)->file);
}

void fake_cancel(struct fake_os *f, uint64_t op)
{
        size_t i;

        for (i = 0; i < f->wait_count; i++) {
                if (f->waits[i].op != op)
                        continue;
                remove_wait(f, i);
                answer(f, op, OSLOCK_CANCELLED);
                return;
        }
}

void fake_lose_next(struct fake_os *f)
{
        f->lose = true;
}

void fake_fail_next(struct fake_os *f)
{
        f->fail = true;
}

size_t fake_answers(const struct fake_os *f)
{
        return f->answer_count;
}

size_t fake_waiting(const struct fake_os *f)
{
        return f->wait_count;
}

struct fake_answer fake_take_answer(struct fake_os *f, size_t i)
{
        struct fake_answer a = f->answers[i];

        must(i < f->answer_count);
        memmove(&f->answers[i], &f->answers[i + 1], (--f->answer_count - i) * sizeof f->answers[0]);
        return a;
}
