/*
 * The door to the lock table: everything comes in by engine_submit() (requests, hang-ups, answers of the operating system, timers), and
 * every effect is carried out here. News that an effect produces is queued, never stepped inside a step.
 */
#ifndef ENGINE_H
#define ENGINE_H

#include "kernel.h"

struct engine;

/* FX_REPLY, FX_WAITING, FX_LOST and FX_MOVED, and FX_OS_LOCK on a file that may hang, in their order. Must not destroy the engine; may submit. */
typedef void engine_report(void *arg, const struct table_effect *fx);

struct engine *engine_create(uv_loop_t *loop, struct files *files, struct lane *lane, struct kernel_threads threads, engine_report *report, void *arg);
/* Ends waits in the kernel; touches no lock. The loop must run once more. */
void engine_destroy(struct engine *e);

/* `ev` is copied; its time and token are filled in here. Everything that follows at once has happened on return, unless called from a report. */
void engine_submit(struct engine *e, const struct table_event *ev);

/* Monotonic milliseconds, as events are stamped. */
int64_t engine_now(const struct engine *e);
/* The next number of the daemon's one growing counter: tokens and session ids. */
uint64_t engine_next_number(struct engine *e);
/* An earlier daemon has given this number: the next ones are greater. */
void engine_number_given(struct engine *e, uint64_t number);
/* No number that was ever given is above this, as far as the clock can tell. */
uint64_t engine_number_bound(const struct engine *e);
/* How long ago the machine was started, time asleep included; 0 when unknown. */
int64_t engine_boot_age_ms(void);
/* For looking only. */
const struct table *engine_table(const struct engine *e);
void engine_os_stats(const struct engine *e, struct oslock_stats *out);

#endif
