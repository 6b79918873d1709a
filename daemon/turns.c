#include "turns.h"

#include <stdlib.h>
#include <uv.h>

/* A share: so many pieces, or so much time, whatever comes first. Cheap ones cost a few us, so that the count decides; a list may cost 100 ms. */
#define SHARE_COUNT 64
#define SHARE_NS 1000000u

TAILQ_HEAD(turn_queue, turn);

struct turns {
        uv_loop_t *loop;
        uv_prepare_t prepare;           /* before the loop looks for what has come: new shares for that too */
        uv_idle_t idle;                 /* runs while somebody waits for the next turn: then the loop does not sleep */
        uv_timer_t timer;               /* for the first parked */
        uint32_t number;                /* of this turn; one that comes again after four thousand millions of others harms nobody */
        struct turn_queue next, parked;
        int handles;
};

static void on_prepare(uv_prepare_t *prepare)
{
        ((struct turns *)prepare->data)->number++;
}

static void on_idle(uv_idle_t *idle)
{
        struct turns *t = idle->data;
        struct turn marker = {.state = TURN_NEXT}, *turn;

        t->number++;
        /* Those that come meanwhile are for the turn after this. One by one: each may remove others. */
        TAILQ_INSERT_TAIL(&t->next, &marker, entry);
        while ((turn = TAILQ_FIRST(&t->next)) != &marker) {
                turns_remove(t, turn);
                turn->run(turn);
        }
        TAILQ_REMOVE(&t->next, &marker, entry);
        if (TAILQ_EMPTY(&t->next))
                uv_idle_stop(&t->idle);
}

static void on_timer(uv_timer_t *timer);

static void set_timer(struct turns *t)
{
        struct turn *first = TAILQ_FIRST(&t->parked);
        uint64_t now = uv_now(t->loop);

        if (first == NULL)
                uv_timer_stop(&t->timer);
        else
                uv_timer_start(&t->timer, on_timer, first->until_ms > now ? first->until_ms - now : 0, 0);
}

static void on_timer(uv_timer_t *timer)
{
        struct turns *t = timer->data;
        struct turn *turn;

        while ((turn = TAILQ_FIRST(&t->parked)) != NULL && turn->until_ms <= uv_now(t->loop))
                turns_next(t, turn);
        set_timer(t);
}

struct turns *turns_create(uv_loop_t *loop)
{
        struct turns *t = calloc(1, sizeof *t);

        if (t == NULL)
                return NULL;
        t->loop = loop;
        TAILQ_INIT(&t->next);
        TAILQ_INIT(&t->parked);
        uv_prepare_init(loop, &t->prepare);
        uv_idle_init(loop, &t->idle);
        uv_timer_init(loop, &t->timer);
        t->prepare.data = t->idle.data = t->timer.data = t;
        t->handles = 3;
        uv_prepare_start(&t->prepare, on_prepare);
        return t;
}

static void on_closed(uv_handle_t *handle)
{
        struct turns *t = handle->data;

        if (--t->handles == 0)
                free(t);
}

void turns_destroy(struct turns *t)
{
        if (t == NULL)
                return;
        uv_close((uv_handle_t *)&t->prepare, on_closed);
        uv_close((uv_handle_t *)&t->idle, on_closed);
        uv_close((uv_handle_t *)&t->timer, on_closed);
}

void turns_remove(struct turns *t, struct turn *turn)
{
        if (turn->state == TURN_NEXT)
                TAILQ_REMOVE(&t->next, turn, entry);
        else if (turn->state == TURN_PARKED)
                TAILQ_REMOVE(&t->parked, turn, entry);
        turn->state = TURN_NONE;
}

void turns_next(struct turns *t, struct turn *turn)
{
        if (turn->state == TURN_NEXT)
                return;
        turns_remove(t, turn);
        if (TAILQ_EMPTY(&t->next))
                uv_idle_start(&t->idle, on_idle);
        turn->state = TURN_NEXT;
        TAILQ_INSERT_TAIL(&t->next, turn, entry);
}

void turns_park(struct turns *t, struct turn *turn, uint64_t until_ms)
{
        struct turn *after;

        if (turn->state != TURN_NONE)
                return;
        turn->state = TURN_PARKED;
        turn->until_ms = until_ms;
        /* By time; most belong at the end. */
        TAILQ_FOREACH_REVERSE(after, &t->parked, turn_queue, entry) {
                if (after->until_ms <= until_ms)
                        break;
        }
        if (after != NULL)
                TAILQ_INSERT_AFTER(&t->parked, after, turn, entry);
        else
                TAILQ_INSERT_HEAD(&t->parked, turn, entry);
        set_timer(t);
}

uint64_t turns_now(const struct turns *t)
{
        return uv_now(t->loop);
}

void turns_unpark(struct turns *t)
{
        struct turn *turn;

        while ((turn = TAILQ_FIRST(&t->parked)) != NULL)
                turns_next(t, turn);
        uv_timer_stop(&t->timer);
}

bool turns_take(const struct turns *t, struct share *s, unsigned shares)
{
        if (s->number != t->number || s->count == 0) {
                *s = (struct share){.number = t->number, .began_ns = uv_hrtime(), .count = 1};
                return true;
        }
        if (s->count >= shares * SHARE_COUNT || uv_hrtime() - s->began_ns >= (uint64_t)shares * SHARE_NS)
                return false;
        s->count++;
        return true;
}
