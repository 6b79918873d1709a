/* What `stats` counts: plain numbers of the loop's thread. */
#ifndef METRICS_H
#define METRICS_H

#include "message.h"

#include <stdint.h>

#define METRICS_WAIT_BUCKETS 20 /* bucket i: waits of less than 2^i ms; the last one: longer */

struct metrics {
        uint64_t sessions_total, refused_lines, granted, relocked, lock_failed, timed_out, deadlocks, cancelled, lost, reopened;
        uint64_t requests[PL_METHOD_COUNT];
        uint64_t waited[METRICS_WAIT_BUCKETS];
};

static inline void metrics_waited(struct metrics *m, int64_t ms)
{
        unsigned i = 0;

        while (i < METRICS_WAIT_BUCKETS - 1 && ms >= (int64_t)1 << i)
                i++;
        m->waited[i]++;
}

#endif
