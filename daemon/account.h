/*
 * What each user takes of a daemon that serves all of them (--system), so that none can use it up. Only there: in a daemon of one user, and for root,
 * who could end the daemon anyway, there is no account, and every function here takes NULL for that.
 *
 * An account lives while anything is counted on it, which may be longer than the last session: a descriptor that is still being closed counts.
 */
#ifndef ACCOUNT_H
#define ACCOUNT_H

#include "turns.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hash.h"

enum account_item {
        ACCOUNT_SESSIONS,
        ACCOUNT_WAITING,        /* lock requests without answer */
        ACCOUNT_LOCKS,
        ACCOUNT_WATCHES,        /* each costs a look at every event */
        ACCOUNT_DESCRIPTORS,    /* received, bearing locks, or being closed */
        ACCOUNT_ITEMS
};

/* At most so many for each user; of sessions and descriptors also no more than a quarter of those that the daemon can have. */
#define ACCOUNT_SESSIONS_MAX 2000
#define ACCOUNT_WAITING_MAX 4000
#define ACCOUNT_LOCKS_MAX 20000
#define ACCOUNT_WATCHES_MAX 256
#define ACCOUNT_BACKLOG_BYTES_MAX (8u * 1024u * 1024u)  /* unsent replies of all sessions together */
#define ACCOUNT_SHARES 8        /* all sessions together get so many shares of a turn of the loop (turns.h) */

struct accounts;

struct account {
        struct accounts *accounts;
        int64_t uid;
        size_t used[ACCOUNT_ITEMS], total;      /* total: of all of these */
        size_t backlog;
        struct share share;
        UT_hash_handle hh;
};

struct accounts {
        struct account *by_uid;
        size_t limit[ACCOUNT_ITEMS];
        void (*freed)(void *arg);       /* one that had all its descriptors has one less; must not call back. NULL: nobody */
        void *arg;
};

/* `descriptors`: so many may be used for clients. */
void accounts_init(struct accounts *a, size_t descriptors);
void accounts_watch(struct accounts *a, void (*freed)(void *arg), void *arg);

/* One session more for that uid, perhaps its first: NULL when out of memory. */
struct account *account_open(struct accounts *a, int64_t uid);
/* Has it reached its limit? An account that does not exist yet has not. */
bool accounts_full(const struct accounts *a, int64_t uid, enum account_item item);

bool account_full(const struct account *u, enum account_item item);
/* Does it have twice what it may have? */
bool account_full_twice(const struct account *u, enum account_item item);
void account_add(struct account *u, enum account_item item);
/* Frees the account with its last item. */
void account_remove(struct account *u, enum account_item item);

/* Unsent bytes of one of its sessions: were `before`, are `now`. */
void account_backlog(struct account *u, size_t before, size_t now);
bool account_clogged(const struct account *u);

/* The user whose share of helper threads something counts for; 0 without an account: then it counts for nobody. */
uint64_t account_user(const struct account *u);

#endif
