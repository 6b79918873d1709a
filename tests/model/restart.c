/*
 * The daemon dies, and another begins with an empty table: what it had open is closed, its waits end, its answers are lost, what it had won for a waiter's own
 * description stays there. Then the clients come back: holders claim, waiters ask again at their old age.
 */
#include "walk.h"

#include <string.h>

/* Waits end; a lock that one of them has won stays on its description. */
static void lose_answers(void)
{
        size_t i;

        for (i = 0; i < REQUESTS_MAX; i++)
                if (w.ops[i].op != 0)
                        fake_cancel(w.os, w.ops[i].op);
        while (fake_answers(w.os) > 0) {
                struct fake_answer a = fake_take_answer(w.os, 0);

                if (a.op > UINT64_MAX - OUTSIDERS)
                        w.outsider_waits[UINT64_MAX - a.op] = false;
        }
        for (i = 0; i < REQUESTS_MAX; i++) {
                if (w.fresh[i].op != 0) {
                        w.references[w.fresh[i].fresh] = 0;
                        fake_close(w.os, w.fresh[i].fresh);
                }
                w.fresh[i].op = w.ops[i].op = 0;
                w.late[i].live = false;
        }
}

static void die(void)
{
        size_t i;

        lose_answers();
        for (i = 0; i < FAKE_DESCRIPTIONS; i++) {
                if (w.references[i] > 0)
                        fake_close(w.os, (int)i);
                w.references[i] = 0;
        }
        for (i = 0; i < FILES; i++)
                w.shared_bearer[i] = 0;
        for (i = 0; i < w.wish_count; i++)
                w.wishes[i].live = false;
        for (i = 0; i < w.hold_count; i++)
                w.holds[i].live = false;
        for (i = 0; i < PASSED; i++)
                if (w.passed[i] != 0)
                        w.left_over[w.passed[i]] = (enum table_mode)fake_bears(w.os, w.passed[i]);
        w.wish_count = w.hold_count = 0;
        w.left = false;
        memset(w.scenes, 0, sizeof w.scenes);
        if (w.clock <= table_last_number(w.table))
                w.clock = table_last_number(w.table) + 1;       /* the wall clock carries tokens and ids over */
        table_destroy(w.table);
        w.table = table_create();
}

static bool is_clients(uint64_t bearer)
{
        size_t i;

        for (i = 0; i < PASSED; i++)
                if (w.passed[i] == (int)bearer)
                        return true;
        return false;
}

static void come_back(const struct hold *h, uint64_t session)
{
        struct wish probe = {.session = session, .file = h->file, .bearer = h->bearer, .mode = h->mode, .claims = true, .token = h->token, .since = w.now,
                             .deadline = TABLE_NEVER};

        if (chance(10))
                probe.mode = TABLE_SH;
        ask(probe);
}

static void wait_again(const struct wish *q, uint64_t session)
{
        struct wish probe = {.session = session, .shared = q->shared, .file = q->file, .bearer = q->bearer, .handle = q->handle, .mode = q->mode,
                             .detach = q->detach, .since = q->since, .deadline = q->deadline};

        if (!waits_already(&probe))
                ask(probe);
}

static uint64_t new_id(const uint64_t *old, uint64_t session)
{
        size_t i;

        for (i = 0; i < SESSIONS; i++)
                if (old[i] == session)
                        return w.session_ids[i];
        return 0;
}

/* Claims what it never held: true only if the description bears it all the same. */
static void lie(uint64_t bearer, uint64_t session)
{
        struct hold h = {.file = fake_file(w.os, (int)bearer), .bearer = bearer, .mode = chance(50) ? TABLE_EX : TABLE_SH, .token = w.last_token};

        come_back(&h, session);
}

void restart(void)
{
        static struct hold holds[HOLDS_MAX];
        static struct wish wishes[REQUESTS_MAX];
        size_t held = w.hold_count, wished = w.wish_count, i;
        uint64_t old[SESSIONS];

        memcpy(old, w.session_ids, sizeof old);
        memcpy(holds, w.holds, held * sizeof holds[0]);
        memcpy(wishes, w.wishes, wished * sizeof wishes[0]);
        die();
        w.restarts++;
        for (i = 0; i < SESSIONS; i++) {
                w.session_ids[i] = ++w.last_session;
                w.parents[i] = 0;
                w.concurrent[i] = false;
        }
        for (i = 0; i < SESSIONS; i++)
                introduce((int)i);
        for (i = 0; i < held; i++)
                if (holds[i].live && !holds[i].shared && is_clients(holds[i].bearer) && new_id(old, holds[i].session) != 0 && chance(90))
                        come_back(&holds[i], new_id(old, holds[i].session));
        for (i = 0; i < PASSED; i++)
                if (w.passed[i] != 0 && chance(20))
                        lie((uint64_t)w.passed[i], w.session_ids[roll(SESSIONS)]);
        for (i = 0; i < wished; i++)
                if (wishes[i].live && (wishes[i].shared || is_clients(wishes[i].bearer)) && new_id(old, wishes[i].session) != 0 && chance(90))
                        wait_again(&wishes[i], new_id(old, wishes[i].session));
}
