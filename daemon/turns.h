/*
 * Shares of the loop. Whoever has more to do than its share stops and goes on in the next turn, after everybody else has had theirs; whoever can do
 * nothing before somebody frees something is parked.
 */
#ifndef TURNS_H
#define TURNS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

typedef struct uv_loop_s uv_loop_t;

struct turns;

/* Embedded in its owner's struct; zeroed but for `run`. */
struct turn {
        void (*run)(struct turn *turn); /* on the loop; may put itself in again */
        enum { TURN_NONE, TURN_NEXT, TURN_PARKED } state;
        uint64_t until_ms;
        TAILQ_ENTRY(turn) entry;
};

/* NULL when out of memory. */
struct turns *turns_create(uv_loop_t *loop);
void turns_destroy(struct turns *t);    /* everybody removed; the loop must run once more */

/* Run in the next turn. */
void turns_next(struct turns *t, struct turn *turn);
/* Run after the next turns_unpark(), or at `until_ms`. Whoever is to run in the next turn is not parked. */
void turns_park(struct turns *t, struct turn *turn, uint64_t until_ms);
void turns_unpark(struct turns *t);
void turns_remove(struct turns *t, struct turn *turn);
/* Monotonic milliseconds. */
uint64_t turns_now(const struct turns *t);

/* ---- what one share is ---- */
struct share {
        uint64_t began_ns;
        uint32_t number;        /* of the turn it is for */
        unsigned count;
};
/* One more piece of work; false when this turn's share, or so many shares, are used up. */
bool turns_take(const struct turns *t, struct share *s, unsigned shares);

#endif
