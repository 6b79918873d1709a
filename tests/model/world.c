/* What all of the walk needs: chance, and the end when something is wrong. */
#include "walk.h"

#include <stdio.h>
#include <stdlib.h>

struct world w;

void fail(const char *what)
{
        fprintf(stderr, "walk: seed %" PRIu64 ", step %" PRIu64 ": %s\n", w.seed, w.steps, what);
        abort();
}

void check(bool holds, const char *what)
{
        if (!holds)
                fail(what);
}

void judge(bool holds, const struct wish *q, const char *what)
{
        if (holds)
                return;
        fprintf(stderr, "walk: request %" PRIu64 " of file %d\n", q->cookie, q->file);
        print_file(q->file);
        fail(what);
}

/* What the model knows of a file: for whoever must understand a failure. */
void print_file(int file)
{
        size_t i;

        for (i = 0; i < w.hold_count; i++) {
                const struct hold *h = &w.holds[i];

                if (h->live && h->file == file)
                        fprintf(stderr, "  held: session %" PRIu64 " bearer %" PRIu64 " %s mode %d lock %" PRIu64 "\n", h->session, h->bearer, h->shared ? "path" : "passed", (int)h->mode, h->lock);
        }
        for (i = 0; i < w.wish_count; i++) {
                const struct wish *q = &w.wishes[i];

                if (q->live && q->file == file)
                        fprintf(stderr, "  waits: %" PRIu64 " session %" PRIu64 " bearer %" PRIu64 " %s mode %d%s%s\n", q->cookie, q->session, q->bearer, q->shared ? "path" : "passed", (int)q->mode,
                                q->upgrade ? " upgrade" : "", q->nonblock ? " nonblock" : "");
        }
}

void begin(void)
{
        int i;

        w.random = w.seed * 0x9e3779b97f4a7c15u + 1;
        w.clock = 1000000000;
        w.table = table_create();
        w.os = fake_create();
        w.fx = (struct table_effects){.items = malloc(TABLE_EFFECTS_FIRST * sizeof *w.fx.items), .cap = TABLE_EFFECTS_FIRST};
        for (i = 0; i < SESSIONS; i++)
                w.session_ids[i] = ++w.last_session;
}

void end(void)
{
        table_destroy(w.table);
        fake_destroy(w.os);
        free(w.fx.items);
}

/* The next byte; zeros when there are no more. */
static uint64_t roll_byte(uint64_t below)
{
        if (w.bytes_left == 0)
                return 0;
        w.bytes_left--;
        return *w.bytes++ % below;
}

uint64_t roll(uint64_t below)
{
        if (w.bytes != NULL)
                return roll_byte(below);
        w.random ^= w.random << 13;
        w.random ^= w.random >> 7;
        w.random ^= w.random << 17;
        return w.random % below;
}

bool chance(unsigned percent)
{
        return roll(100) < percent;
}

enum oslock_mode os_mode(enum table_mode mode)
{
        return mode == TABLE_EX ? OSLOCK_EX : OSLOCK_SH;
}

struct table_key key_of(int file)
{
        return (struct table_key){.device = 8, .inode = (uint64_t)file + 100};
}

int open_file(int file)
{
        int d = fake_open(w.os, file);

        w.left_over[d] = TABLE_NONE;
        return d;
}

bool is_open(uint64_t bearer)
{
        bool ours = w.references[bearer] > 0;
        size_t i;

        for (i = 0; i < PASSED; i++)
                ours |= w.passed[i] == (int)bearer;
        return ours;
}
