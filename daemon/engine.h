/*
 * The door to the lock table: everything comes in by engine_submit() (requests, hang-ups, answers of the operating system, timers), and
 * every effect is carried out here. News that an effect produces is queued, never stepped inside a step.
 */
#ifndef ENGINE_H
#define ENGINE_H

#include "kernel.h"

struct engine;
struct state;

/* FX_REPLY, FX_WAITING, FX_LOST and FX_MOVED, and FX_OS_LOCK on a file that may hang, in their order. Must not destroy the engine; may submit. */
typedef void engine_report(void *arg, const struct table_effect *fx);

/* `state`, which must live as long, hears of all numbers that are drawn; they begin above its floor. */
struct engine *engine_create(uv_loop_t *loop, struct files *files, struct lane *lane, struct kernel_threads threads, struct state *state,
                             engine_report *report, void *arg);
/* Ends waits in the kernel; touches no lock. The loop must run once more. */
void engine_destroy(struct engine *e);

/* What the caller does not know of `ev`, as the time, is filled in here. Everything that follows at once has happened on return, unless called from a report. */
void engine_submit(struct engine *e, struct table_event *ev);

/* Monotonic milliseconds, as events are stamped. */
int64_t engine_now(const struct engine *e);
/* The next number of the daemon's one growing counter: tokens and session ids. */
uint64_t engine_next_number(struct engine *e);
/*
 * No number above this has been given, by this daemon or by those before it, as far as can be known: by the state file exactly, without one by the clock,
 * with a day for one that was set back. A token that exceeds it is made up.
 */
uint64_t engine_number_bound(const struct engine *e);
/* From now on numbers exceed `floor`. */
void engine_raise_numbers(struct engine *e, uint64_t floor);
/* The wall clock as numbers follow it: microseconds, at most TABLE_CLOCK_MAX. */
uint64_t engine_clock_us(void);
/* How long ago the machine was started, time asleep included; 0 when unknown. */
int64_t engine_boot_age_ms(void);
/* For looking only. */
const struct table *engine_table(const struct engine *e);
void engine_os_stats(const struct engine *e, struct oslock_stats *out);

#endif
