/* Every reply is judged: was that allowed, was it that request's turn, is the lock really held? And every loss that is told. */
#include "walk.h"

/* Forgotten here, its lock lives on with the description. */
static void judge_detached(const struct wish *q, const struct table_effect *fx)
{
        struct hold *mine = session_hold(q);

        judge(fx->lock == 0, q, "a detached lock has an id");
        judge(fx->dropped == (mine != NULL ? mine->lock : 0), q, "a detached lock is gone, and its old id is not named");
        if (mine != NULL)
                mine->live = false;
        w.left_over[q->bearer] = fx->mode;
        w.detached++;
}

static void judge_kept(const struct wish *q, const struct table_effect *fx)
{
        struct table_holder h;

        judge(table_lock(w.table, fx->lock, &h, NULL), q, "a granted lock is not known by its id");
        judge(h.session == q->session && h.mode == q->mode && h.token == fx->token, q, "a granted lock is not the one asked for");
        judge(fx->dropped == 0, q, "a lock is dropped that nobody detached");
        if (hold_of_lock(fx->lock) == NULL)
                add_hold(q, fx, h.bearer);
        judge(fake_bears(w.os, (int)h.bearer) >= os_mode(q->mode), q, "granted, but the system's lock is not there");
}

static void judge_granted(struct wish *q, const struct table_effect *fx)
{
        const struct hold *own = own_hold(q);
        size_t i;

        if (fx->relock) {
                if (own == NULL)        /* the kernel knew of it before the table did */
                        judge(!q->shared && q->found != TABLE_NONE, q, "a relock of what was not held");
                else
                        judge(own->token == fx->token, q, "a relock changed the token");
        } else {
                judge(head_of(q->file) == q, q, "granted before its turn");
                judge(!others_conflict(q), q, "granted although another holds");
                judge(fx->token > w.last_token, q, "a token that does not grow");
                w.hand_overs += w.left && q->waited;
                w.left = false;
        }
        if (fx->relock && session_hold(q) == NULL) {
                w.joined = true;
                w.joins++;
        }
        w.grants++;
        judge(fx->waited_ms == w.now - q->since, q, "waited for another time than it did");
        if (q->detach)
                judge_detached(q, fx);
        else
                judge_kept(q, fx);
        for (i = 0; i < w.hold_count; i++) {    /* co-holders share mode and token */
                if (w.holds[i].live && same_owner(&w.holds[i], q)) {
                        w.holds[i].mode = fx->mode;
                        w.holds[i].token = fx->token;
                }
        }
        if (fx->token > w.last_token)
                w.last_token = fx->token;
}

void on_lost(const struct table_effect *fx)
{
        struct hold *h = hold_of_lock(fx->lock);

        check(h != NULL, "lost what nobody had");
        check(h->session == fx->session, "a loss told to the wrong session");
        check(fx->broken == h->broken, "said to be broken, or lost to an outsider, and it was the other");
        check(h->broken || fake_bears(w.os, (int)h->bearer) < os_mode(h->mode), "said to be lost, but the system's lock is there");
        h->live = false;
}

/* The system alone says what of that is true, and a co-holder who came back before with less. */
static bool is_true(const struct wish *q)
{
        const struct hold *own = own_hold(q);

        return q->found >= q->mode && (own == NULL || own->mode >= q->mode);
}

static void judge_claim(const struct wish *q, const struct table_effect *fx)
{
        const struct hold *own = own_hold(q);

        judge(fx->outcome == OUT_GRANTED || fx->outcome == OUT_LOST, q, "a claim is neither granted nor lost");
        judge((fx->outcome == OUT_GRANTED) == is_true(q), q, "a claim is granted though the system says no, or lost though it says yes");
        judge(fx->outcome == OUT_LOST || (fx->relock && fx->token == (own != NULL ? own->token : q->token)), q, "a claim is granted as something new");
}

static void judge_loss(const struct wish *q, const struct table_effect *fx)
{
        const struct hold *own = own_hold(q);

        judge(fx->broken == q->broken, q, "said to be lost to a break, or to an outsider, and it was the other");
        if (q->broken)
                judge(own == NULL || own->broken, q, "lost to a break, but its owner has it still");
        else
                judge(q->saw_loss && own == NULL, q, "lost, but the system took nothing");
}

void on_reply(const struct table_effect *fx)
{
        struct wish *q = wish_of(fx->cookie);

        check(q != NULL, "a second answer, or one to nobody");
        judge(!q->duplicate || fx->outcome == OUT_DUPLICATE, q, "its owner waits already, and it was not told so");
        judge(!q->broken || fx->outcome == OUT_LOST, q, "its lock was broken, and it was not told so");
        if (q->claims)
                judge_claim(q, fx);
        switch (fx->outcome) {
        case OUT_GRANTED:
                judge_granted(q, fx);
                break;
        case OUT_REFUSED:
                w.refusals++;
                judge(q->nonblock, q, "refused, but it would have waited");
                judge(q->saw_busy || others_conflict(q) || blocking_wish_waits(q->file, q) || upgrader_of(q->file, q) != NULL, q, "refused, but nobody has it");
                break;
        case OUT_TIMED_OUT:
                w.timeouts++;
                judge(w.now >= q->deadline, q, "timed out too early");
                break;
        case OUT_DEADLOCK:
                judge_deadlock(q, fx->cycle);
                break;
        case OUT_CANCELLED:
                w.cancels++;
                judge(q->cancelled, q, "cancelled by nobody");
                break;
        case OUT_LOST:
                w.losses++;
                if (!q->claims)
                        judge_loss(q, fx);
                break;
        case OUT_FAILED:
                judge(q->saw_failure, q, "failed, but the system did not");
                break;
        case OUT_DUPLICATE:
                w.duplicates++;
                judge(q->duplicate, q, "said to be asked twice, but it was not");
                break;
        case OUT_LIMIT:
                fail("an answer that this model never provokes");
        }
        q->live = false;
}
