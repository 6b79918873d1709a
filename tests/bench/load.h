/* What the clients of the load share with each other and with the process that counts. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "peers.h"

#include <stdatomic.h>
#include <stdint.h>

#define LOAD_CLIENTS_MAX 255
#define LOAD_BUCKETS 4096               /* 64 for each power of two of nanoseconds: within 1.6 % */

struct load {
        atomic_int ready;
        atomic_bool go, over;
        atomic_ullong released;                                 /* when the shared lock was given up last; 0: that has been counted */
        atomic_int turn;                                        /* outsider: whose it is */
        atomic_ullong hold_ns, holds;                           /* readers: how long they really held */
        atomic_ullong waiting_since;                            /* readers: the writer's wait that has not ended; 0: none */
        atomic_ullong done[LOAD_CLIENTS_MAX];
        atomic_ullong histogram[LOAD_BUCKETS];
};

extern struct load *load;

uint64_t load_now_ns(void);
void load_record(uint64_t ns);

/* What one client does until load->over. */
struct load_mode {
        const char *name;
        int clients_min;
        void (*run)(const struct peer_kind *kind, struct peer *p, int client, int depth, const char *folder);
};

/* NULL: no such one. */
const struct load_mode *load_mode(const char *name);

#endif
