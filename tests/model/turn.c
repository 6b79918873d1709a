/*
 * A file that is handed on and on while an outsider waits for it in the kernel, where each of our tries comes before those who must be woken: the
 * outsider gets it after TABLE_HANDOVERS_MAX hand-overs or TABLE_HANDOVERS_MS, and one more hand-over that may be under way.
 */
#include "walk.h"

#define CONTENDERS 4
#define OUTSIDER UINT64_MAX /* the op by which it waits: the first of the outsiders' */

/* Nobody has anything open any more. */
static void clear_the_field(void)
{
        size_t i, open = 1;

        judge_end();
        for (i = 0; i < PASSED; i++) {
                if (w.passed[i] != 0)
                        fake_close(w.os, w.passed[i]);
                w.passed[i] = 0;
        }
        while (open > 0) {
                settle();
                for (i = 0, open = 0; i < OUTSIDERS; i++) {
                        open += w.outsider_waits[i];
                        if (w.outsider_waits[i] || w.outsiders[i] == 0)
                                continue;
                        fake_close(w.os, w.outsiders[i]);
                        w.outsiders[i] = 0;
                }
        }
}

/* Contender i asks, if it neither waits nor holds. Two of them want EX, so that somebody always waits for what another has. */
static void contend(int i, int file)
{
        struct wish probe = {.session = w.session_ids[i], .shared = true, .file = file, .mode = i < 2 || chance(50) ? TABLE_EX : TABLE_SH,
                             .since = w.now, .deadline = TABLE_NEVER};

        if (!waits_already(&probe) && own_hold(&probe) == NULL)
                ask(probe);
}

/* Those who were woken in the kernel come only after all that the daemon does at once. */
static void let_the_woken_run(int file)
{
        settle();
        fake_serve(w.os, file);
        settle();
}

void judge_outsiders_turn(void)
{
        int file = (int)roll(FILES), round, start = (int)roll(TABLE_HANDOVERS_MAX + 2), i;
        struct hold *h;
        int64_t gap = chance(50) ? 0 : 1 + (int64_t)roll(30);
        unsigned most = TABLE_HANDOVERS_MAX + 1, since = 0;

        if (gap > 0 && TABLE_HANDOVERS_MS / gap + 3 < most)
                most = (unsigned)(TABLE_HANDOVERS_MS / gap) + 3;
        clear_the_field();
        w.steady = true;
        fake_lazy(w.os, true);
        for (round = 0; round < start || w.outsider_waits[0]; round++) {
                for (i = 0; i < CONTENDERS; i++)
                        contend(i, file);
                if (chance(10) && any_wish() != NULL)
                        cancel(any_wish());
                let_the_woken_run(file);
                h = any_hold();
                if (h != NULL && chance(10))
                        break_hold(h);
                else if (h != NULL)
                        unlock(h, false);
                pass_time(gap);
                let_the_woken_run(file);
                if (round == start - 1) {
                        w.outsiders[0] = open_file(file);
                        fake_wait(w.os, OUTSIDER, w.outsiders[0], chance(50) ? OSLOCK_EX : OSLOCK_SH);
                        w.outsider_waits[0] = true;
                        since = w.hand_overs;
                }
                check(round < start || w.hand_overs - since <= most, "an outsider waits in the kernel, and its turn does not come");
        }
        w.turns++;
        fake_lazy(w.os, false);
        for (i = 0; i < FILES; i++)
                fake_serve(w.os, i);
        w.steady = false;
}
