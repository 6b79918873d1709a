/*
 * Numbers (tokens, ids) that grow over restarts, whatever becomes of the clock: a file says what no number has exceeded.
 *
 * A bound above all numbers in use is written ahead, and a new one when half of the way to it is used up. A number above the bound may be drawn, for the
 * loop never waits, but nobody shall see it before the file says so: `hold` keeps back what is sent, for a tenth of a second at most. After that, and as
 * long as the file cannot be written, numbers grow by the clock alone, and the log says so. Who draws no numbers writes nothing.
 */
#ifndef STATE_H
#define STATE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct uv_loop_s uv_loop_t;
struct lane;
struct state;

struct state_options {
        const char *folder;     /* NULL: by the rules of os/statefile.h */
        const char *socket;     /* its path names the file: each daemon of a user has one of its own. Not kept */
        bool system;
        void (*hold)(void *arg, bool on);
        /* No number up to this one may be drawn. Called once at most, and only if the file could not be read by the time state_create() returned. */
        void (*raise)(void *arg, uint64_t floor);
        void *arg;
};

/*
 * Read the file and write the first bound. Runs the loop meanwhile, which must have nothing to do yet, for a second at most: a file that takes longer is
 * minded when it has been read. `lane` is for nothing else. NULL when out of memory.
 */
struct state *state_create(uv_loop_t *loop, struct lane *lane, const struct state_options *options, uint64_t clock_us);
/* Before the lane is destroyed; the loop must run once more. */
void state_destroy(struct state *s);

/* Every number drawn from now on must exceed this: the bound that was found. */
uint64_t state_floor(const struct state *s);

/* `number` is the last one that was drawn, by a clock that says `clock_us`. */
void state_drawn(struct state *s, uint64_t number, uint64_t clock_us);

/* Write that the last number drawn was the last, so that an orderly restart need not keep away from it. May be called again. */
void state_finish(struct state *s);
/* Something is being written. */
bool state_is_busy(const struct state *s);

#endif
