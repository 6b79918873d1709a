/*
 * The lock table against a second, naive model: random histories of sessions, paths, passed descriptions, outsiders, time-outs, cancels and
 * hang-ups, deaths of the daemon, with a fake operating system that answers late, in any order, fails, loses conversions and wins races.
 *
 * The naive model keeps plain lists and walks over all of them. It does not foresee when the system answers; it judges every reply: was
 * that allowed, was it that request's turn, is the lock really held? After every step it compares who holds, and when everything has come to
 * rest it asks: should somebody have been served? Is a lock left that nobody has, or gone that somebody had? Now and then a file is fought for
 * without a pause while an outsider waits for it in the kernel: it must get its turn.
 *
 *   walk [--steps N] [--seed S] [--trace yes]
 */
#include "walk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EPOCH 200               /* steps after which the world is brought to rest and, now and then, to its end */

int main(int argc, char **argv)
{
        uint64_t steps = 1000000;
        int i;

        w.seed = (uint64_t)time(NULL);
        for (i = 1; i + 1 < argc; i += 2) {
                if (strcmp(argv[i], "--steps") == 0)
                        steps = strtoull(argv[i + 1], NULL, 10);
                else if (strcmp(argv[i], "--seed") == 0)
                        w.seed = strtoull(argv[i + 1], NULL, 10);
                else if (strcmp(argv[i], "--trace") == 0)
                        w.trace = strcmp(argv[i + 1], "yes") == 0;
        }
        printf("walk: %" PRIu64 " steps, seed %" PRIu64 "\n", steps, w.seed);
        fflush(stdout);
        begin();
        for (i = 0; i < SESSIONS; i++)
                introduce(i);
        for (w.steps = 0; w.steps < steps; w.steps++) {
                move();
                if (w.steps % EPOCH == EPOCH - 1)
                        judge_rest();
                if (w.steps % (EPOCH * 20) == EPOCH * 20 - 1)
                        judge_outsiders_turn();
        }
        judge_end();
        printf("walk: granted %" PRIu64 " refused %" PRIu64 " timed out %" PRIu64 " deadlocks %" PRIu64 " (circles %" PRIu64 ", joined %" PRIu64 ") cancelled %" PRIu64 " lost %" PRIu64 " broken %" PRIu64 " asked twice %" PRIu64
               " detached %" PRIu64 " cancel races %" PRIu64 " outsiders' turns %" PRIu64 " restarts %" PRIu64 "\n",
               w.grants, w.refusals, w.timeouts, w.deadlocks, w.circles, w.joins, w.cancels, w.losses, w.breaks, w.duplicates, w.detached, w.races, w.turns, w.restarts);
        end();
        return 0;
}
