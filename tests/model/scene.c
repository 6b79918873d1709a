/* After every step: does the table hold what was granted and nothing else, and were those who wait told of what has changed? */
#include "walk.h"

#include <string.h>

void check_holds(void)
{
        size_t i;

        for (i = 0; i < w.hold_count; i++) {
                const struct hold *h = &w.holds[i];

                if (!h->live || fake_bears(w.os, (int)h->bearer) >= os_mode(h->mode) || loss_is_on_its_way(h))
                        continue;
                print_file(h->file);
                fail("a holder's lock is gone in the system");
        }
}

/* All who were to lose it have been told, and the kernel's lock has gone with the last of them; check_holds() sees to those who keep theirs. */
void judge_broken(void)
{
        uint64_t b = w.broken_bearer;
        size_t i;

        for (i = 0; i < w.hold_count; i++)
                check(!w.holds[i].live || !w.holds[i].broken, "a lock was broken, and one who held it was not told");
        for (i = 0; i < w.wish_count; i++)
                judge(!w.wishes[i].live || !w.wishes[i].broken, &w.wishes[i], "a lock was broken, and its upgrade still waits");
        if (b != 0 && is_open(b) && !is_held(b) && !op_under_way(b))
                check(fake_bears(w.os, (int)b) == OSLOCK_NONE, "a lock was broken, and the system still has it");
}

static void look(int file, struct scene *now)
{
        struct table_holder h;
        struct table_waiter t;

        for (now->holders = 0; table_holder_at(w.table, key_of(file), now->holders, &h); now->holders++) {
                check(now->holders < SCENE_MAX, "too many holders for this model");
                now->locks[now->holders] = h.lock;
                now->modes[now->holders] = h.mode;
        }
        for (now->waiters = 0; table_waiter_at(w.table, key_of(file), now->waiters, &t); now->waiters++) {
                check(now->waiters < SCENE_MAX, "too many waiters for this model");
                now->requests[now->waiters] = t.request;
        }
}

/* The table's holders are those who were granted, and, while they wait, passed descriptions that bear SH and want more. */
static void judge_holders(int file, const struct scene *now)
{
        size_t i, known = 0, wanted = 0;
        struct table_holder h;

        for (i = 0; i < now->holders; i++) {
                const struct hold *mine = hold_of_lock(now->locks[i]);

                if (mine != NULL) {
                        known++;
                        check(mine->file == file && mine->mode == now->modes[i], "a holder has another mode than it was told");
                } else {
                        check(table_lock(w.table, now->locks[i], &h, NULL) && trial_of(h.bearer, h.session) != NULL, "one holds who was not granted it");
                }
        }
        for (i = 0; i < w.hold_count; i++)
                wanted += w.holds[i].live && w.holds[i].file == file;
        check(known == wanted, "one who was granted it holds no more");
}

static bool same_holders(const struct scene *a, const struct scene *b)
{
        return a->holders == b->holders && memcmp(a->locks, b->locks, a->holders * sizeof a->locks[0]) == 0 &&
               memcmp(a->modes, b->modes, a->holders * sizeof a->modes[0]) == 0;
}

/* Has somebody who waited before and still does to be told of a change? */
static bool is_news(const struct scene *before, const struct scene *now)
{
        size_t i, k = 0, still = 0;
        bool moved = false;

        for (i = 0; i < before->waiters; i++) {
                for (k = 0; k < now->waiters && now->requests[k] != before->requests[i]; k++)
                        ;
                still += k < now->waiters;
                moved |= k < now->waiters && k != i;
        }
        return still > 0 && (moved || !same_holders(before, now));
}

static void judge_news(int file, const struct table_effects *fx, const struct scene *now)
{
        size_t i, told = 0;

        for (i = 0; i < fx->count; i++) {
                const struct table_effect *e = &fx->items[i];

                if (e->key.inode != key_of(file).inode)
                        continue;
                check(told == 0, "something happened to a file after it was said what had changed");
                told += e->kind == FX_MOVED;
        }
        check(told == 0 || now->waiters > 0, "told a change to nobody");
        check(told == 1 || !is_news(&w.scenes[file], now), "a change was told to nobody");
}

void judge_scenes(const struct table_effects *fx)
{
        struct scene now;
        int file;

        for (file = 0; file < FILES; file++) {
                look(file, &now);
                judge_holders(file, &now);
                judge_news(file, fx, &now);
                w.scenes[file] = now;
        }
}
