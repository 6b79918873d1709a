/*
 * An index in ten bytes for each member: lists of sys/queue.h, hung up by hash. (A handle of uthash takes 56, and a held lock is a member of several.)
 *
 * A member embeds a `struct link` and stays where it is. Adding cannot fail: room for more lists comes with chains_reserve(), and without it they only get
 * longer. They get more one at a time, with each member that is added, so that no single one pays for all.
 */
#ifndef CHAINS_H
#define CHAINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct link {
        SLIST_ENTRY(link) next;
};
SLIST_HEAD(chain, link);

typedef uint64_t chains_hash_fn(const struct link *member);

struct chains {
        struct chain *lists;
        size_t count, cap, base;        /* lists in use: base <= count < 2 * base, a power of two */
        size_t members;
        chains_hash_fn *hash;
};

/*
 * Linear hashing (Litwin, 1980): with `base` a power of two, the lists [0, count - base) have been split in two, the second half being list base + i. A
 * member's list is found by its hash modulo 2 * base; if that is not there yet, modulo base.
 */
static inline struct chain *chains_list_of(const struct chains *c, uint64_t hash)
{
        size_t i = hash & (2 * c->base - 1);

        return &c->lists[i < c->count ? i : hash & (c->base - 1)];
}

/* False: no memory. */
bool chains_init(struct chains *c, chains_hash_fn *hash);
void chains_clear(struct chains *c);            /* its members are the caller's */

bool chains_grow(struct chains *c, size_t more);       /* for chains_reserve() */
#define CHAINS_PER_LIST 5       /* members: more lists come when there are more */

/* Room for the lists of so many more members. False: no memory; nothing is lost by that but speed. */
static inline bool chains_reserve(struct chains *c, size_t more)
{
        return (c->members + more) / CHAINS_PER_LIST < c->cap || chains_grow(c, more);
}
/* Before all others of the same hash. */
void chains_add(struct chains *c, struct link *member);
void chains_remove(struct chains *c, struct link *member);

/* Those that may be meant by that hash, newest first: the caller compares. NULL at the end. */
static inline struct link *chains_first(const struct chains *c, uint64_t hash)
{
        return SLIST_FIRST(chains_list_of(c, hash));
}
#define chains_next(member) SLIST_NEXT(member, next)

/* To walk over all: the members of list i, up to c->count. */
static inline struct link *chains_list(const struct chains *c, size_t i)
{
        return SLIST_FIRST(&c->lists[i]);
}

/* Over all members: `var` is a pointer to `type`, none may be removed. `i` is a size_t, `l` a struct link *. */
#define CHAINS_FOREACH(var, c, i, l, type, field) \
        for ((i) = 0; (i) < (c)->count; (i)++) \
                for ((l) = chains_list((c), (i)); (l) != NULL && ((var) = chains_owner((l), type, field), true); (l) = chains_next(l))

/* Spreads what grows by small steps over all bits; `chains_mix(chains_mix(a) ^ b)` for two values. */
static inline uint64_t chains_mix(uint64_t value)
{
        value = (value ^ (value >> 32)) * UINT64_C(0xd6e8feb86659fd93);
        return value ^ (value >> 32);
}

#define chains_owner(member, type, field) ((type *)((char *)(member) - offsetof(type, field)))

#endif
