/*
 * What the lock table does not need to know: the clients behind its session ids, the JSON-RPC id and path of each waiting request, and
 * the label under which each lock was asked for. In a daemon for all users (`everybody`) also what each of them has to do with a file: his *stake*.
 */
#ifndef REGISTRY_H
#define REGISTRY_H

#include "account.h"
#include "chains.h"
#include "hash.h"
#include "labels.h"
#include "message.h"
#include "peer.h"
#include "pool.h"
#include "table.h"

#include <sys/queue.h>

struct listener;
struct session;
struct registry;
struct kept;
TAILQ_HEAD(kept_list, kept);

/* A lock on a passed descriptor that was no use, its file having been replaced: whose place in the queue a request for the new file may take. */
struct given_back {
        struct table_key key;
        enum table_mode mode;
        int64_t since_ms;               /* when it had been asked for */
        int64_t at_ms;                  /* when it was given back */
        char label[];
};

/* Of one who watches. */
struct watching {
        size_t count;                   /* of its watches */
        uint64_t last_event;            /* number of the event it was told last */
        uint64_t events_dropped;        /* as it does not read; not told yet */
};

/* Received, not yet claimed: a ring. TRANSPORT_FD_HOLE: lost on the way. */
struct fd_ring {
        size_t first;                   /* the oldest */
        int fds[PL_FDS_UNCLAIMED_MAX];
};

/* There may be ten thousand of them, most of them idle: what few of them have stands beside, and is there while they have it. */
struct client {
        uint64_t id;                    /* the session's id on the wire and in the table */
        struct session *session;        /* where its bytes go */
        struct peer peer;
        struct account *account;        /* NULL: it counts for nobody */
        int64_t command_at_ms;          /* when the command of `peer` was looked up last; 0: not yet, or when it connected */
        uint64_t claimed_parent;        /* it has said that this is its parent; 0: none */
        struct client *parent;          /* that one; NULL: not there, or another user's */
        LIST_HEAD(, client) children;
        LIST_ENTRY(client) of_parent;   /* of its parent's children, or of the orphans if it has a claimed_parent alone */
        bool spoke, concurrent;
        bool held_up;                   /* a path of an earlier request is being looked up off the loop: later ones wait in `deferred` */
        bool releasing;                 /* nothing is looked up any more, but not all that was deferred is carried out yet */
        bool gone;                      /* nobody reads its replies */
        bool ending;                    /* its session is over, but for its locks */
        struct kept *looked_up;         /* that one, if it is an unlock, a list or a watch */
        struct kept *list_waits;        /* a list that waits for a look at outsiders */
        struct kept_list deferred;      /* by age */
        LIST_ENTRY(client) deferring;   /* of those that have deferred ones */
        char *name;                     /* as it said in hello; NULL if it did not */
        struct fd_ring *fds;            /* NULL while there is none */
        struct request *waiting;        /* list of all that wait, those without id too */
        struct given_back *given_back;  /* its last one, until its next lock request; NULL: none */
        uint32_t fd_count, deferred_count, deferred_fds, request_count, grant_count;
        struct watching *watching;      /* NULL: it does not */
        struct link by_session;
};

/* All that one user holds and waits for in one file. Exists as long as there is any of it. */
struct stake_key {
        uint64_t who;                   /* the uid; of one who is nobody the session's id, which is larger than any */
        struct table_key file;
};
struct stake {
        struct stake_key key;
        LIST_HEAD(, part) grants, requests;
        UT_hash_handle hh;
};

/* A request's or a grant's part of one. */
struct part {
        struct stake *stake;            /* NULL: none yet */
        LIST_ENTRY(part) entry;
        void *of;
};

enum request_place {
        REQUEST_IN_TABLE,
        REQUEST_OPENING,                /* its path is being opened off the loop; then it enters the table */
        REQUEST_CHECKING                /* `lock` was granted; whether it is still the file of that path is being looked up off the loop */
};

/* A lock request from its arrival to its answer. There may be hundreds of thousands. */
struct request {
        uint64_t cookie;
        struct client *client;
        struct pl_id id;                /* its text is its own */
        const char *label;              /* labels.h; "" when none was given */
        uint64_t bearer;                /* what it waits on or was granted */
        union {
                table_id table_request; /* 0 until it waits */
                table_id lock;          /* while it is checked */
        };
        struct table_key key;
        int64_t since_ms;
        union {
                int64_t deadline_ms;
                uint64_t claimed_token; /* of a claim, which never waits */
        };
        struct listener *listener;      /* for `notify`; NULL until it waits. notices.c */
        struct request *older, *newer;  /* all waiting requests by arrival */
        struct request *prev, *next;    /* of its client */
        struct link by_id;
        int32_t handle;
        uint16_t reopened;              /* how often its file was replaced meanwhile */
        enum table_mode mode : 2, claims : 2;   /* claims: a lock from before, with claimed_token; else NONE */
        enum request_place place : 2;
        bool by_path : 1, create : 1, notify : 1, nonblock : 1, detach : 1;
        bool logged : 1;                /* the log says that it waits long */
        bool waits : 1;                 /* it was queued once */
        bool holds_up : 1;              /* while it is opened, later requests of its session wait */
        bool recalled : 1;              /* its path has not been looked at since it came: files_recall() */
        bool misled : 1;                /* it leads elsewhere: this one leaves the queue that it joined */
        struct part part[];           /* one for `everybody`, else none */
};

/*
 * A lock held, under the name it was asked for. What else there is to say of it the table knows, by `lock`. What a look for it compares stands together: of
 * 100,000 none is in the processor's cache.
 */
struct grant {
        table_id lock;
        struct client *client;
        const char *label;              /* labels.h; "" when none was given */
        struct link by_lock;
        union {                         /* of those with the same label, session and handle */
                struct link by_label;   /* the newest alone is in the index */
                struct grant *same_newer;
        };
        struct grant *same_older;
        uint32_t handle : 31, by_path : 1;
        uint32_t waited_ms : 31, is_newest : 1; /* waited: until the table's since_ms of it; more than 24 days count as 24 days */
        struct part part[];           /* one for `everybody`, else none */
};

struct registry {
        struct chains clients;          /* by id */
        struct pool requests;           /* by cookie */
        struct chains ids;              /* of requests that have one, by client and JSON-RPC id */
        struct request *oldest, *newest;
        struct request *unlogged;       /* the oldest of which the log does not say yet that it waits long; NULL: none */
        struct pool grant_pool;
        struct chains grants;           /* by lock id */
        struct labels texts;
        struct chains labels;           /* the newest of each session, handle and label: unlock by path finds it so; those without label are not in it */
        struct stake *stakes;           /* only for `everybody` */
        bool everybody;                 /* every user is served */
};

/* Zeroed before. False: no memory; it is to be cleared all the same. */
bool registry_init(struct registry *r, bool everybody);
void registry_clear(struct registry *r);

struct client *registry_client(const struct registry *r, uint64_t id);
size_t registry_clients(const struct registry *r);
/* NULL when out of memory. `account` has this session counted already, until it is removed. */
struct client *registry_client_add(struct registry *r, uint64_t id, struct session *session, const struct peer *peer, struct account *account);
/* It has neither requests nor grants yet. */
void registry_client_rename(struct registry *r, struct client *c, uint64_t id);
/* Its requests and grants must be gone. Closes nothing: its descriptors were taken out before. */
void registry_client_remove(struct registry *r, struct client *c);

/* A request with a new cookie, without one if `id` is of kind NONE in the client's index. NULL when out of memory. */
struct request *registry_request_add(struct registry *r, struct client *c, const struct pl_id *id, const char *label);
struct request *registry_request(const struct registry *r, uint64_t cookie);
struct request *registry_request_by_id(const struct registry *r, const struct client *c, const struct pl_id *id);
void registry_request_remove(struct registry *r, struct request *q);
/* Its file (q->key) is known, or is another one now. False when out of memory: then it must not wait. */
bool registry_request_stake(struct registry *r, struct request *q);

/* What the client's user has to do with that file; NULL: nothing, or it is not kept. */
const struct stake *registry_stake(const struct registry *r, const struct client *c, struct table_key file);

/* A lock that the request was granted; `waited_ms`: from the request to the table's since_ms of the lock, not negative. NULL when out of memory. */
struct grant *registry_grant_add(struct registry *r, const struct request *q, table_id lock, int64_t waited_ms);
struct grant *registry_grant(const struct registry *r, table_id lock);
/* The newest lock of this session and handle with exactly this label, or NULL. */
struct grant *registry_grant_by_label(const struct registry *r, const struct client *c, int64_t handle, const char *label);
void registry_grant_remove(struct registry *r, struct grant *g);

/* Remember a lock that is being given back, as the table knows it; forget what was. (Out of memory: nothing is remembered.) */
void registry_give_back(struct client *c, const struct grant *g, struct table_key key, const struct table_holder *h, int64_t now_ms);
void registry_forget_given_back(struct client *c);

#endif
