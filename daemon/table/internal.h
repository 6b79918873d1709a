/* The table's inside: what its files share. store.c keeps the records (pool.c has their memory; pool.c, chains.c and deadlines.c find them), queue.c decides who is next, waitgraph.c who would
 * wait for ever, reclaim.c what was held before, step.c is the door, look.c and check.c only look. */
#ifndef TABLE_INTERNAL_H
#define TABLE_INTERNAL_H

#include "table.h"

#include "chains.h"
#include "pool.h"
#include "zeroed.h"

#include <sys/queue.h>

/* An open file description that a holder or a waiter refers to. */
struct bearer {
        uint64_t id;
        struct link by_id;
        uint32_t users;         /* records that refer to it; each owns one reference */
        uint32_t holders : 25;  /* a pool's records have numbers of 24 bits */
        enum table_mode mode : 2;       /* what it holds in the kernel */
        enum table_mode left : 2;       /* without holders: what the last of them left on it in the kernel, not ours to take away */
        bool shared : 1;
        bool has_trial : 1;     /* one of the holders is on trial */
        bool unlock_due : 1;    /* all holders but the one on trial have left, the last by an unlock */
};

/* Owner of a lock, as what it is found by. By path: (resource, session, handle). Passed: (bearer, session). `place`: the resource's address, the bearer's id. */
struct owner {
        bool shared;
        uint64_t place, session;
        int64_t handle;
};

/* There may be hundreds of thousands of holders and requests: what can be had from others is not kept in them. */
struct holder {
        table_id id;
        struct resource *resource;
        struct bearer *bearer;
        struct session_records *records;        /* of its session */
        uint64_t token;
        int64_t since_ms;
        TAILQ_ENTRY(holder) entry;              /* of the resource, by lock id */
        LIST_ENTRY(holder) of_session;
        struct link by_owner, by_id;
        int32_t handle;
        enum table_mode mode : 2;
        bool on_trial : 1;      /* made for a request that wants more than the description bears: goes with it unless it is granted */
};

enum request_state { REQUEST_WAITING, REQUEST_GHOST /* answered, but its OS operation is not */ };

struct request {                                /* its id is its pool's */
        struct resource *resource;
        struct bearer *bearer;
        struct session_records *records;        /* of its session */
        uint64_t cookie;
        int64_t since_ms, deadline_ms;
        struct holder *upgrade;                 /* holds SH by this and wants EX; NULL for others */
        uint64_t entered;                       /* grows: the newest request of a circle has the largest */
        uint64_t swept;                         /* by the last search of the wait-for graph that was here; see waitgraph.c */
        TAILQ_ENTRY(request) entry;             /* of the resource's queue */
        LIST_ENTRY(request) of_session;
        struct link by_owner;
        uint32_t due_index;                     /* its place in the heap of what is due; 0: none */
        int32_t handle;
        int16_t retry_step_ms;
        enum table_mode mode : 2;
        enum request_state state : 8;
        bool shared : 1, nonblock : 1, detach : 1;
        bool queued_before : 1;                 /* FX_WAITING was said */
        bool op_waits : 1, op_fresh : 1, op_cancelled : 1;      /* of the resource's operation, if it is this one's */
        bool in_hand : 1;                       /* the kernel has given it the lock already; only ever the head */
        bool queued : 1;                        /* it stands in the queue */
        bool rests : 1;                         /* an upgrade blocked by outsiders: it is tried again when it is due */
};

/* Those who wait for a file, and what is under way for it. */
struct line {
        TAILQ_HEAD(waiters, request) queue;
        struct request *op;                     /* whose OS operation is under way: one at a time */
        uint32_t waiter_count;
        uint32_t leading;                       /* waiters whose sessions may have others waiting for them elsewhere */
};

struct resource {
        struct table_key key;
        TAILQ_HEAD(holders, holder) holders;
        struct line *line;                      /* its own while there is a request; between events most files share an empty one */
        struct link by_key;
        uint32_t holder_count;
        uint32_t bearer_count;                  /* of those who hold */
        uint32_t streak_since_ms;               /* the clock's last 32 bits: a streak is over in less than 49 days, or the outsiders have their turn a little late */
        uint8_t streak;                         /* hand-overs in a row, at most TABLE_HANDOVERS_MAX; and those after them that went through the kernel's queue */
        bool exclusive : 1;                     /* somebody holds so: one, or the co-holders of one description */
        bool released : 1;                      /* an owner has left since the last grant */
        bool moved : 1;                         /* its holders have changed, or somebody's place in its queue: FX_MOVED at rest */
        bool touched : 1;                       /* among those that the event has to pump */
};

/* Why one session waits for another; see waitgraph.c. */
struct way {
        struct request *by;                     /* its request; NULL: it is the parent */
        struct request *behind;                 /* stands before that one in the queue; NULL: a lock is held */
        struct session_records *whom;
};

struct session_records {
        uint64_t id;
        LIST_HEAD(, holder) holders;
        LIST_HEAD(, request) requests;
        size_t count;                           /* holders, requests, children, and one if it `introduced` itself */
        size_t places;                          /* holders and places in queues */
        bool introduced, concurrent;
        uint64_t group;                         /* see EV_LOCK */
        struct session_records *parent;
        LIST_HEAD(, session_records) children;
        LIST_ENTRY(session_records) of_parent;
        uint64_t found;                         /* by this search */
        struct way way;
        struct session_records *next_found;
        struct link by_id;
};

/* When there is something to be done about a request. */
struct due {
        int64_t at_ms;
        struct request *request;
};

struct table {
        struct chains resources, bearers, sessions;
        struct chains owners, locks;            /* of holders */
        struct chains waiting;                  /* requests by owner, but for ghosts */
        struct pool request_pool, line_pool, resource_pool, holder_pool, bearer_pool;
        struct due *heap;       /* [1, heap_count] */
        size_t heap_count, heap_cap;
        uint64_t last_number, last_entered, last_search;
        struct table_cycle_step cycle[TABLE_CYCLE_MAX];
        bool cycle_first[TABLE_CYCLE_MAX];      /* here one begins */
        size_t cycle_count;     /* of this event */
        size_t visits;          /* what the searches of this event cost */
        struct resource **touched;              /* those that this event has to pump; room for all */
        size_t touched_count, touched_cap;
        struct table_counts counts;
        bool late;              /* more were due than one EV_TIMER does: the rest waits for the next */
        /* While stepping. */
        struct table_effects *fx;
        int64_t now_ms;
        uint64_t clock_us;
        table_id arrived;       /* the request that this event brought */
        size_t cycle_at;        /* of the reply that is being made */
        /* Where the last look at holders and waiters was: makes walks by index cheap. */
        struct {
                const struct resource *resource;
                size_t index;
                const struct holder *holder;
                const struct request *waiter;
        } holder_cursor, waiter_cursor;
};

/* ---- store.c ---- */
struct resource *store_resource(struct table *t, struct table_key key);        /* found or made; NULL: no memory */
struct resource *store_find_resource(const struct table *t, struct table_key key);
void store_free_resource(struct table *t, struct resource *r);                  /* if nothing is left of it; and its line without it */
bool store_has_line(const struct resource *r);                                  /* of its own */
struct bearer *store_bearer(struct table *t, uint64_t id, bool shared);         /* one user more; NULL: no memory */
void store_keep_bearer(struct table *t, struct bearer *b);         /* one user more, with its OS_KEEP */
void store_drop_bearer(struct table *t, struct bearer *b);                      /* one user less, with its OS_DROP */
struct session_records *store_session(struct table *t, uint64_t id);            /* found or made */
struct session_records *store_find_session(const struct table *t, uint64_t id);
void store_leave_session(struct table *t, uint64_t id);                         /* one record less; freed with the last */
bool store_init(struct table *t);                                               /* false: no memory */
void store_clear(struct table *t);                                              /* all records are freed, without effects */
struct holder *store_holder(const struct table *t, const struct owner *o);
struct holder *store_lock(const struct table *t, table_id id);
struct request *store_waiting(const struct table *t, const struct owner *o);
/* What `s` says of itself. False: no memory, nothing changed. */
bool store_introduce(struct table *t, uint64_t id, uint64_t parent, bool concurrent);
void store_take_leave(struct table *t, struct session_records *s);     /* it has no parent and no children any more */
bool store_leads(const struct session_records *s);
void store_queued(struct request *q, bool queued);                     /* it has entered the queue, or left it */
struct request *store_upgrade(const struct resource *r);               /* the one that waits; NULL: none */
struct request *waiting_upgrade(const struct holder *h);               /* that this holder waits for; NULL: none */
/* The first of those who hold by a description; a passed one's share one token. NULL: nobody does. Looks at the file's holders: for what is rare. */
struct holder *store_holder_by(const struct resource *r, const struct bearer *b);
void store_set_trial(struct holder *h, bool on_trial);
/* It is answered, but its OS operation is not. */
void store_become_ghost(struct table *t, struct request *q);
struct owner store_owner(const struct request *q);                     /* as what it would hold */
/* A waiting request with its session and room for its grant; does not enter the queue. NULL: no memory. */
struct request *store_request(struct table *t, struct resource *r, struct bearer *b, const struct table_event *ev);
void store_free_request(struct table *t, struct request *q);           /* its user of the bearer becomes the caller's */
void store_end_request(struct table *t, struct request *q);            /* with its user of the bearer */
/* The request's owner becomes a holder. It takes over no bearer: the caller says which user it is. */
struct holder *store_hold(struct table *t, struct request *q, enum table_mode mode, uint64_t token);
void store_free_holder(struct table *t, struct holder *h);

/* deadline part of the store */
bool heap_reserve(struct table *t);
void heap_update(struct table *t, struct request *q, int64_t at_ms);    /* (re)places it; removes it if that is TABLE_NEVER */
void heap_remove(struct table *t, struct request *q);

/* ---- queue.c ---- */
void queue_insert(struct table *t, struct request *q);
void queue_leave(struct table *t, struct request *q);
/* Bring the resource to rest, as the last thing that an event does to it: everything that can start has started, who waits is told. May free it. */
void queue_pump(struct table *t, struct resource *r);
void queue_os_done(struct table *t, struct request *q, const struct table_event *ev);
/* Answer and remove; becomes a ghost if its OS operation is under way. */
void queue_answer(struct table *t, struct request *q, enum table_outcome outcome, int error);
/* Take the lock from a holder: OS_UNLOCK with the last holder of the bearer if `unlock`. A waiting upgrade of it is answered so. */
void queue_release(struct table *t, struct holder *h, bool unlock, enum table_outcome upgrade_outcome);
/* Take it from its holder, and from the co-holders of a passed description: they are told FX_LOST. */
void queue_break(struct table *t, struct holder *h);
void queue_downgrade(struct table *t, struct holder *h);
/* The holder's request was not granted: its session never had the lock. */
void queue_end_trial(struct table *t, struct holder *h);
/* Reply GRANTED for a lock that exists (relock) and end the request. */
void queue_regrant(struct table *t, struct request *q, struct holder *h);

/* ---- reclaim.c ---- */
/* Answer a claim, which never queues; the request ends. `other`: the one that waits with the same description, or NULL. */
void reclaim(struct table *t, struct request *q, const struct request *other, const struct table_event *ev);

/* ---- step.c ---- */
/* Answer a request that never entered the queue, and end it. */
void refuse_request(struct table *t, struct request *q, const struct table_event *ev, enum table_outcome outcome);

/* ---- waitgraph.c ---- */
/*
 * Others may wait for `s` who did not before, or it for others. If it is part of a circle: the newest request of that, which is to be refused; its
 * cycle is kept for the reply. NULL: there is none.
 */
struct request *waitgraph_victim(struct table *t, struct session_records *s);
/* The cycle of an upgrade that finds another before it. */
void waitgraph_two_upgrades(struct table *t, const struct request *second, const struct request *first);
/* Does `w` wait for the holder `h`, or for one that stands before it, `p`, to have had its turn? */
bool waits_for_holder(const struct request *w, const struct holder *h);
bool waits_for_request(const struct request *w, const struct request *p);

struct table_effect *emit(struct table *t, enum table_effect_kind kind);
uint64_t next_token(struct table *t);

#endif
