/*
 * The lock table: who is granted, who waits, who times out. Pure: no I/O, no clock, no threads, no JSON.
 *
 * One door in: table_step() takes one event with its time. One door out: it appends effects, which the engine
 * carries out in their order. Nothing is called back; a step never happens inside a step.
 *
 * Words. A *resource* is a file by identity (key). A *bearer* is an open file description, known here as an opaque id: the
 * kernel lock sits on it. All requests by path of one file share one bearer (`shared`); each passed description is its own.
 * An *owner* is the bearer itself for passed descriptions (every session that names it is a co-holder), and
 * (session, handle) for requests by path. Two owners exclude each other by the usual rule: only SH with SH.
 *
 * Every LOCK event brings one reference on its bearer, OS_KEEP effects ask for more; every reference leaves by exactly one OS_DROP effect. Every OS_LOCK effect is
 * answered by exactly one EV_OS_DONE, also after OS_CANCEL. Every LOCK event gets exactly one REPLY effect.
 */
#ifndef TABLE_H
#define TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Never reused; 0 is none. Requests: slot + generation. Locks: drawn from the counter of the tokens, so that an id from before a restart names nobody. */
typedef uint64_t table_id;

enum table_mode { TABLE_NONE = 0, TABLE_SH = 1, TABLE_EX = 2 };

struct table_key {
        uint64_t device, inode;
};

#define TABLE_NEVER INT64_MAX           /* no deadline */
#define TABLE_NUMBER_MAX ((UINT64_C(1) << 53) - 1)      /* of tokens and ids: what a double keeps exactly */
/* What a clock may say, in microseconds (the year 2255). Whatever it says, the numbers will not be used up: no one lives to draw 2^41. */
#define TABLE_CLOCK_MAX ((UINT64_C(1) << 53) - (UINT64_C(1) << 41))
#define TABLE_HANDOVERS_MAX 16          /* in a row, or ... */
#define TABLE_HANDOVERS_MS 100          /* ... this long: then the next head queues in the kernel, */
#define TABLE_KERNEL_TURNS 2            /* and so many in a row */
#define TABLE_TIMEOUTS_MAX 256          /* in one step: a crowd whose time is over must not hold up the others */
#define TABLE_UPGRADE_RETRY_MIN_MS 10   /* an upgrade that only outsiders block */
#define TABLE_UPGRADE_RETRY_MAX_MS 1000

enum table_event_kind {
        EV_SESSION,     /* what a session says of itself, before all else of it, or again when its parent has come back; see `parent` and `concurrent`. Without memory nothing is kept: table_knows_session() */
        EV_LOCK,        /* a request */
        EV_UNLOCK,      /* a lock id of this session is given up */
        EV_BREAK_LOCK,  /* a lock id is taken away from whoever holds it, and a passed description's from all who hold by it: FX_LOST for each, a waiting
                           upgrade replies OUT_LOST, nothing is left in the kernel. By path only that owner has it no more */
        EV_CANCEL,      /* a waiting request (by its table id) is withdrawn: replies OUT_CANCELLED */
        EV_SESSION_END, /* all requests and locks of a session go; its requests get a REPLY OUT_CANCELLED too. With `locks_stay` it is over but for its locks:
                           they go by EV_UNLOCK, and what is left of it by another EV_SESSION_END */
        EV_OS_DONE,     /* the answer to one OS_LOCK */
        EV_TIMER        /* time has passed; when more than TABLE_TIMEOUTS_MAX are due, table_next_deadline() stays in the past and another one is to come soon */
};

enum table_os_result {
        OS_TAKEN,       /* the bearer holds the lock in the wanted mode */
        OS_BUSY,        /* somebody outside has it; a conversion still holds what it held. To a wait: no wait can be had now */
        OS_LOST,        /* a conversion lost what it held */
        OS_FAILED,      /* `error` says why; a conversion still holds what it held */
        OS_CANCELLED    /* given up because of OS_CANCEL; the bearer holds what it held before */
};

struct table_event {
        enum table_event_kind kind;
        int64_t now_ms;
        uint64_t clock_us;              /* wall clock: a new grant's token is this, or the last number + 1 if that is more */
        uint64_t session;               /* EV_SESSION, EV_LOCK, EV_UNLOCK, EV_SESSION_END: a non-zero id of the caller's */
        /* EV_SESSION */
        uint64_t parent;                /* a session that lives and waits for the end of this one; 0: none */
        bool concurrent;                /* it does other things while it waits: no wait of it is part of a deadlock */
        /* EV_SESSION_END */
        bool locks_stay;
        /* EV_LOCK */
        uint64_t cookie;                /* the caller's, echoed in the REPLY */
        struct table_key key;
        uint64_t bearer;
        bool shared;                    /* by path: the file's shared bearer; else a passed description */
        int64_t handle;
        enum table_mode mode;
        enum table_mode bears;          /* what a passed description is known to hold in the kernel already, unknown to the table */
        enum table_mode claims;         /* a lock from before the daemon died, or before the connection broke: that mode, which `bears` must confirm; else NONE */
        uint64_t claimed_token;         /* with `claims`; later tokens are greater */
        uint64_t group;                 /* its session's, always the same: an older request overtakes those of its own group alone, and nobody behind another's */
        bool nonblock;                  /* never queue */
        bool detach;                    /* forget the owner right after the grant, without OS_UNLOCK */
        int64_t since_ms;               /* arrival: now_ms, or earlier for one that must queue again at its old place */
        int64_t deadline_ms;            /* TABLE_NEVER */
        /* EV_UNLOCK, EV_BREAK_LOCK */
        table_id lock;
        bool close_only;                /* drop the bearer, no OS_UNLOCK (passed descriptions only) */
        /* EV_CANCEL */
        table_id request;
        /* EV_OS_DONE */
        uint64_t op;
        enum table_os_result result;
        int error;
        uint64_t new_bearer;            /* with OS_TAKEN on an op that was `fresh`: the shared bearer of the file from now on (one reference) */
};

enum table_outcome {
        OUT_GRANTED,    /* lock, mode, token, waited_ms */
        OUT_REFUSED,    /* nonblock and somebody has it; an upgrade still holds SH */
        OUT_TIMED_OUT,
        OUT_DEADLOCK,   /* it would wait for ever: table_cycle(). What its session holds it still holds */
        OUT_CANCELLED,
        OUT_LOST,       /* an upgrade lost its SH, to an outsider or because it was `broken`: the lock is gone. What was claimed is not borne any more */
        OUT_FAILED,     /* error: errno of the OS */
        OUT_DUPLICATE,  /* this owner has a waiting request on this resource already */
        OUT_LIMIT       /* out of memory or of table room: nothing changed */
};

enum table_effect_kind {
        FX_REPLY,
        FX_OS_LOCK,     /* take `mode` on `bearer`; `wait`: wait in the kernel, else answer at once. `fresh`: `bearer` is the shared one and in use: wait on
                           a new description of the same file and report it as new_bearer. `convert`: it holds SH and wants EX; never with wait */
        FX_OS_CANCEL,   /* end the wait of `op`; its EV_OS_DONE still comes */
        FX_OS_UNLOCK,   /* LOCK_UN on `bearer` */
        FX_OS_DOWNGRADE,/* EX -> SH on `bearer`: cannot fail, no answer */
        FX_OS_KEEP,     /* one reference more on `bearer` */
        FX_OS_DROP,     /* one reference on `bearer` is given back (closed with the last), after any unlock before it */
        FX_LOST,        /* `lock` of `session` is gone, which it had on `bearer`: `broken`, or an outsider took the file during a conversion. Comes before the
                           REPLY, if any, and before the bearer's OS_DROP */
        FX_WAITING,     /* request `request` is queued, or waits for an outsider from now on */
        FX_MOVED        /* the holders of the file `key` have changed, or somebody's place in its queue: for those who wait there. At most once per file and
                           event, after all that the event does to this file; not when nobody waits */
};

struct table_effect {
        enum table_effect_kind kind;
        enum table_outcome outcome;     /* FX_REPLY */
        uint64_t session, cookie;       /* FX_REPLY, FX_WAITING, FX_OS_LOCK */
        table_id request;               /* FX_REPLY, FX_WAITING, FX_OS_LOCK */
        table_id lock;                  /* FX_REPLY: 0 when detached; FX_LOST */
        table_id dropped;               /* FX_REPLY OUT_GRANTED and detached: the lock that its session had until now and has no more; 0: none */
        struct table_key key;           /* FX_REPLY, FX_WAITING, FX_OS_LOCK, FX_LOST, FX_MOVED */
        enum table_mode mode;           /* with it FX_LOST: as it was held, with `token` */
        uint64_t token;
        int64_t waited_ms;
        int error;
        bool broken;                    /* FX_LOST, FX_REPLY OUT_LOST: by EV_BREAK_LOCK, not by an outsider */
        bool relock;                    /* FX_REPLY OUT_GRANTED: held before (relock, downgrade, claim) */
        size_t cycle;                   /* FX_REPLY OUT_DEADLOCK: for table_cycle() */
        uint64_t op;                    /* FX_OS_LOCK, FX_OS_CANCEL */
        uint64_t bearer;
        bool wait, fresh, convert;
        bool yields;                    /* FX_OS_LOCK with wait: it is the outsiders' turn, those who wait in the kernel already go first */
};

struct table_effects {
        struct table_effect *items;     /* owned by the caller of table_step; from malloc(3), grown by it */
        size_t count, cap;
};
#define TABLE_EFFECTS_FIRST 16          /* places before the first step: room to refuse the request for which there is no room */

struct table;

struct table *table_create(void);       /* NULL when out of memory */
void table_destroy(struct table *t);

/*
 * Decide. Appends to `fx` (the caller empties it). Reserves memory before it changes state: when that fails, an EV_LOCK is answered OUT_LIMIT. The other events
 * allocate nothing that they cannot do without: the room for the effects of all that can happen to a request comes with its EV_LOCK. For that `fx` must be one
 * and the same for all steps of a table, with TABLE_EFFECTS_FIRST places before the first; with less, a step that finds no memory calls abort(3).
 */
void table_step(struct table *t, const struct table_event *ev, struct table_effects *fx);

/* The next number of the one growing counter, from which tokens are drawn too. The clock is believed up to TABLE_CLOCK_MAX. */
uint64_t table_next_number(struct table *t, uint64_t clock_us);
/* The last one. */
uint64_t table_last_number(const struct table *t);
/* From now on numbers exceed `floor`. */
void table_raise_numbers(struct table *t, uint64_t floor);

/* The earliest time at which an EV_TIMER is due; TABLE_NEVER when none. */
int64_t table_next_deadline(const struct table *t);

/* ---- looking ---- */
struct table_holder {
        table_id lock;
        uint64_t session, bearer, token;
        int64_t handle, since_ms;       /* granted at */
        enum table_mode mode;
        bool shared;
};
struct table_waiter {
        table_id request;
        uint64_t session, cookie;
        enum table_mode mode;
        int64_t since_ms, deadline_ms;
        uint64_t position;              /* 1 = head */
        bool upgrade, in_kernel;        /* in_kernel: waits for an outsider in the OS */
        bool shared;
        int64_t handle;
};

/* Is there anything that the table has to remember of this session? */
bool table_knows_session(const struct table *t, uint64_t session);
/* Does the table know this file (a holder, a waiter or an OS operation under way)? */
bool table_knows(const struct table *t, struct table_key key);
/* Lock by id: false when unknown. *key may be NULL. */
bool table_lock(const struct table *t, table_id lock, struct table_holder *out, struct table_key *key);
/* The lock of (session, handle) by path on `key`, or the newest of the session with that handle by any bearer: 0 if none. */
table_id table_lock_of(const struct table *t, struct table_key key, uint64_t session, int64_t handle);
/* The session's newest lock: 0 if it has none. */
table_id table_newest_lock(const struct table *t, uint64_t session);
/* A bearer of the file, of a holder or else of a waiter: 0 if none. */
uint64_t table_any_bearer(const struct table *t, struct table_key key);

/*
 * Walk over the resources by slot: the first at or behind *cursor (0 to start); false at the end. *cursor is advanced past it. A resource keeps its slot while
 * it lives, so a walk in pages meets each that lives throughout exactly once.
 */
bool table_walk(const struct table *t, uint64_t *cursor, struct table_key *key);
/* How many descriptions bear the holders' locks. */
size_t table_bearers_held(const struct table *t, struct table_key key);
/* Holders by index, in the order of their lock ids: a late co-holder comes last, whatever its token. Waiters in the order of the queue. False past the end. Sequential access (i = 0, 1, 2 ...) is O(1) each. */
bool table_holder_at(const struct table *t, struct table_key key, size_t i, struct table_holder *out);
bool table_waiter_at(const struct table *t, struct table_key key, size_t i, struct table_waiter *out);

size_t table_holder_count(const struct table *t, struct table_key key);
/* The place of a waiting request in its queue, 1 = head; 0 when it does not wait. Costs nothing near both ends. */
uint64_t table_position(const struct table *t, table_id request);

/*
 * Who waits for whom in a deadlock that the last event would have closed: the session that was refused first, each waits for the next and the last for the
 * first. `at` is that of the reply. False past the end; there are TABLE_CYCLE_MAX steps at most, a longer circle is shown in part. Valid until the next event.
 */
#define TABLE_CYCLE_MAX 64
struct table_cycle_step {
        uint64_t session;
        struct table_key key;
        enum table_mode mode;           /* that it waits for; TABLE_NONE: it is the next one's parent, and waits for its end */
};
bool table_cycle(const struct table *t, size_t at, size_t i, struct table_cycle_step *out);
/* What the searches for deadlocks cost in the last event: how many locks, sessions and places in queues they looked at. */
size_t table_search_visits(const struct table *t);

struct table_counts {
        uint64_t resources, locks, waiting, os_ops;     /* gauges */
};
void table_count(const struct table *t, struct table_counts *out);

/* Every invariant; NULL when all hold, else a sentence (static storage). Costs time in proportion to the table: for tests and debug builds. */
const char *table_check(const struct table *t);

#endif
