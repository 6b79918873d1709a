/*
 * Shared by the files of dispatch: dispatch.c (doors and the small methods), locking.c (lock, unlock, cancel, break),
 * outcomes.c (what came of them), watch.c (events), list.c (list), deferred.c
 * (requests behind one whose path is looked up off the loop), notices.c (waits told and logged), newcomers.c (what clients are called).
 */
#ifndef DISPATCH_INTERNAL_H
#define DISPATCH_INTERNAL_H

#include "dispatch.h"

#include <sys/queue.h>

/* A request as it was received, with its descriptor. */
struct incoming {
        struct pl_request request;
        struct account *account;        /* that its descriptor counts for */
        int64_t since_ms;
        bool has_fd;            /* a lock with `fd`: one was in the queue; it may be a hole */
        int fd;
};

/* A lock, as the table knows it, or knew it just now. */
struct seen {
        struct table_key key;
        enum table_mode mode;
        uint64_t token, bearer;
};

typedef void identified_fn(struct dispatch *d, struct client *c, struct incoming *in, const struct files_found *found);

/* A request that is kept until something is known: a look at outsiders, where a path leads, or the end of an earlier one. */
struct kept {
        struct dispatch *d;
        struct client *client;  /* NULL: gone meanwhile */
        struct incoming incoming;
        identified_fn *then;    /* goes on with it once its path is identified */
        struct table_key key;   /* of the list's path, once that is known */
        bool has_key;
        TAILQ_ENTRY(kept) entry;
};

/* Those who want to know how the queue of one file moves. */
struct audience;
TAILQ_HEAD(audience_list, audience);
struct audiences {
        struct audience *by_file;
        struct audience_list untold;    /* something has changed there since they were told */
};

/* Those whose commands have not been looked up yet, by age: a ring. */
#define NEWCOMERS_MAX 256
struct newcomers {
        size_t first, count;
        struct newcomer {
                uint64_t session;
                int64_t since_ms;
        } of[NEWCOMERS_MAX];
};

struct dispatch {
        struct files *files;
        struct engine *engine;
        struct outside *outside;
        struct registry registry;
        struct listing listing;
        struct dispatch_options options;
        struct dispatch_hooks hooks;
        struct metrics metrics;
        struct pl_buf out;              /* one line at a time */
        struct kept_list lists;         /* wait for a look at outsiders */
        struct kept_list looked_up;     /* unlock, list and watch whose path is looked up off the loop */
        LIST_HEAD(, client) deferring;  /* whose requests stand behind an earlier one of theirs */
        size_t opening;                 /* lock requests in REQUEST_OPENING */
        size_t path_locks;              /* held by path: they end with the daemon */
        size_t ending;                  /* sessions that are over, but for their locks */
        int64_t started_ms;             /* engine's clock */
        bool stopping;
        struct audiences audiences;     /* those who want notices, by file */
        struct newcomers newcomers;
        int64_t look_ms;                /* when to look who is outside; TABLE_NEVER */
        int64_t wake_ms;
        const char *broken_by;          /* while a lock is being broken: whoever does so */
        LIST_HEAD(, watcher) watchers;
        LIST_HEAD(, client) orphans;    /* whose parents are not there, or not there again yet */
        uint64_t events;
};

/* Send what is in d->out to the client and empty it. `wanted` false: only empty it. */
void dispatch_flush(struct dispatch *d, const struct client *c, bool wanted);
/* The same for the answer to request `id`: one without id is not answered. */
void dispatch_flush_answer(struct dispatch *d, const struct client *c, const struct pl_id *id);
/* An error without further data; nothing is sent for a request without id. */
void dispatch_refuse(struct dispatch *d, const struct client *c, const struct pl_id *id, int code, const char *text);
void dispatch_refuse_for_memory(struct dispatch *d, const struct client *c, const struct pl_id *id);
void dispatch_refuse_member(struct dispatch *d, const struct client *c, const struct pl_id *id, const char *member, const char *text);
void dispatch_refuse_limit(struct dispatch *d, const struct client *c, const struct pl_id *id, const char *limit, const char *text);
void dispatch_refuse_os(struct dispatch *d, const struct client *c, const struct pl_id *id, const struct file_error *e, const char *path);

/* May the daemon look at paths that this client names? Not for another user than its own, when it serves all: it would look with its own eyes, not his. */
bool dispatch_opens_paths(const struct dispatch *d, const struct client *c);

/* An answer that says nothing but yes. */
void dispatch_answer_empty(struct dispatch *d, const struct client *c, const struct pl_id *id);

/* Notification `lost` to the owner of `g`. */
void dispatch_tell_lost(struct dispatch *d, const struct grant *g, const char *by);

/* Free what is left of a request that was carried out or refused. */
void incoming_clear(struct dispatch *d, struct incoming *in);
/* Carry a request out. May take parts of it over (then they are empty afterwards); the caller clears the rest. */
void dispatch_carry_out(struct dispatch *d, struct client *c, struct incoming *in);

/* hello.c */
void hello(struct dispatch *d, struct client *c, const struct pl_request *r);
void hello_close(struct dispatch *d, struct client *c); /* the session ends: its children have no parent until it is back */

/* ending.c */
/* Somebody asks for this file: locks on it of sessions that are over are given back now. Not within a step of the table. */
void ending_gives_way(struct dispatch *d, struct table_key key);
/* So many of d->path_locks are those of sessions that are over. */
size_t ending_path_locks(const struct dispatch *d);

/* deferred.c */
/* Keep a request: *in is moved. NULL when out of memory, with nothing changed. */
struct kept *kept_add(struct kept_list *list, struct dispatch *d, struct client *c, struct incoming *in);
/* Take it out again and free it with what is left of its request. */
void kept_remove(struct kept_list *list, struct kept *k);
void kept_clear(struct kept_list *list);
/* Identify the path of an unlock, a list or a watch, at once or off the loop, and go on with `then`; meanwhile the request is kept and its client held up. */
void deferred_identify(struct dispatch *d, struct client *c, struct incoming *in, const char *path, identified_fn *then);
/* Put a request off until deferred_release(); refused when there is no memory. */
void deferred_add(struct dispatch *d, struct client *c, struct incoming *in);
/* The look-up that held the client up has ended: carry out what stands behind it, up to the next one that holds it up. */
void deferred_release(struct dispatch *d, struct client *c);
/* A deferred request is answered CANCELLED. False: no such one. */
bool deferred_cancel(struct dispatch *d, const struct client *c, const struct pl_id *id);
/* Is a request with this id deferred, or kept for another reason? */
bool deferred_has(const struct client *c, const struct pl_id *id);
void deferred_stop(struct dispatch *d);         /* all are answered SHUTTING_DOWN */
void deferred_tick(struct dispatch *d);         /* those whose time is over are answered TIMED_OUT */
void deferred_close(struct dispatch *d, struct client *c);
/* Call dispatch_tick() at `ms` or before. */
void dispatch_wake_at(struct dispatch *d, int64_t ms);

/* list.c */
void list_request(struct dispatch *d, struct client *c, struct incoming *in);
void list_outside_refreshed(struct dispatch *d);
void list_stop(struct dispatch *d);             /* those that wait for a look at outsiders are answered SHUTTING_DOWN */

/* locking.c */
void locking_lock(struct dispatch *d, struct client *c, struct incoming *in);
void locking_unlock(struct dispatch *d, struct client *c, struct incoming *in);
void locking_cancel(struct dispatch *d, struct client *c, const struct pl_request *r);
/* Opening requests whose time is over are answered. */
void locking_tick(struct dispatch *d);
/* A waiting request is withdrawn, wherever it stands; `code` is its answer unless the table gives one. False: it is granted already, or about to be answered. */
bool locking_withdraw(struct dispatch *d, struct request *q, int code);
/* The request is over: nothing of it is left here. */
void locking_forget(struct dispatch *d, struct request *q);
/*
 * A lock is the client's no more: nothing of it is left here, and what was last seen of the system's locks no longer speaks of it. `event`: what
 * those who watch are told, NULL: nothing.
 */
void locking_ended(struct dispatch *d, struct grant *g, const struct seen *seen, const char *event);
struct seen locking_seen(const struct table_holder *h, struct table_key key);
/* Unlock it in the table. */
void locking_give_up(struct dispatch *d, const struct client *c, table_id lock, bool close_only);
/* Open the request's path, here or off the loop; hold_up: later requests of its session wait so long. */
void locking_open(struct dispatch *d, struct request *q, bool hold_up);
void locking_refuse_for_memory(struct dispatch *d, struct request *q);
/* TIMED_OUT before the file was even open. */
void locking_refuse_timed_out(struct dispatch *d, const struct client *c, const struct pl_id *id);
void locking_break(struct dispatch *d, struct client *c, const struct pl_request *r);
/* May a daemon of ours have given this number (a token, a session id) some day? */
bool reclaim_token_is_credible(const struct dispatch *d, int64_t number);
/* The oldest descriptor of the client's queue; false when none is there. *fd may be a hole. */
bool locking_claim(struct client *c, int *fd);

/* outcomes.c */
void outcome_replied(struct dispatch *d, const struct table_effect *fx);
void outcome_waiting(struct dispatch *d, const struct table_effect *fx);
void outcome_lost(struct dispatch *d, const struct table_effect *fx);
/* The table has asked the system for a lock on a file that may hang: the request can be cancelled from now on. */
void outcome_under_way(struct dispatch *d, const struct table_effect *fx);

/* watch.c */
void watch_begin(struct dispatch *d, struct client *c, struct incoming *in);
void watch_end(struct dispatch *d, struct client *c);
/* Something happened to a request (fx may be NULL) or to a lock. */
void watch_request(struct dispatch *d, const struct request *q, const char *event, const struct table_effect *fx);
void watch_grant(struct dispatch *d, const struct grant *g, const struct seen *seen, const char *event);
void watch_tick(struct dispatch *d);

/* notices.c */
void notices_init(struct dispatch *d);
/* A request waits, or waits anew. */
void notices_waiting(struct dispatch *d, const struct table_effect *fx);
/* The queue or the holders of `key` have changed: those who want to know are told, at most five times a second each. */
void notices_moved(struct dispatch *d, struct table_key key);
void notices_granted(struct dispatch *d, const struct request *q, int64_t waited_ms);
/* It is told no more: it is over, or it will queue for another file. */
void notices_forget(struct dispatch *d, struct request *q);
void notices_outside_refreshed(struct dispatch *d);
void notices_tick(struct dispatch *d);

/* newcomers.c */
void newcomers_add(struct dispatch *d, const struct client *c);
void newcomers_tick(struct dispatch *d);

#endif
