/*
 * Linear hashing (Litwin, 1980): with `base` a power of two, the lists [0, count - base) have been split in two, the second half being list base + i. A
 * member's list is found by its hash modulo 2 * base; if that is not there yet, modulo base.
 */
#include "chains.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_LISTS 16
#define MEMBERS_PER_LIST 5

static struct chain *list_of(const struct chains *c, uint64_t hash)
{
        size_t i = hash & (2 * c->base - 1);

        return &c->lists[i < c->count ? i : hash & (c->base - 1)];
}

bool chains_init(struct chains *c, chains_hash_fn *hash)
{
        struct chain *lists = calloc(FIRST_LISTS, sizeof *lists);

        if (lists == NULL)
                return false;
        *c = (struct chains){.lists = lists, .count = FIRST_LISTS, .cap = FIRST_LISTS, .base = FIRST_LISTS, .hash = hash};
        return true;
}

void chains_clear(struct chains *c)
{
        free(c->lists);
        *c = (struct chains){0};
}

static bool is_crowded(const struct chains *c)
{
        return c->members >= c->count * MEMBERS_PER_LIST;
}

bool chains_reserve(struct chains *c, size_t more)
{
        struct chain *grown;
        size_t cap = c->cap;

        while ((c->members + more) / MEMBERS_PER_LIST >= cap)
                cap *= 2;
        if (cap == c->cap)
                return true;
        grown = malloc(cap * sizeof *grown);    /* realloc(3) would copy, and so take memory for, what is not in use yet */
        if (grown == NULL)
                return false;
        memcpy(grown, c->lists, c->count * sizeof *grown);
        free(c->lists);
        c->lists = grown;
        c->cap = cap;
        return true;
}

/* One list more: it takes its members from the next one to be split. Their order stays. */
static void split(struct chains *c)
{
        struct link **from = &SLIST_FIRST(&c->lists[c->count - c->base]), **to = &SLIST_FIRST(&c->lists[c->count]), *l;
        size_t bit = c->base;

        while ((l = *from) != NULL) {
                if ((c->hash(l) & bit) == 0) {
                        from = &SLIST_NEXT(l, next);
                        continue;
                }
                *from = SLIST_NEXT(l, next);
                *to = l;
                to = &SLIST_NEXT(l, next);
        }
        *to = NULL;
        if (++c->count == 2 * c->base)
                c->base *= 2;
}

void chains_add(struct chains *c, struct link *member)
{
        if (is_crowded(c) && c->count < c->cap)
                split(c);
        SLIST_INSERT_HEAD(list_of(c, c->hash(member)), member, next);
        c->members++;
}

void chains_remove(struct chains *c, struct link *member)
{
        SLIST_REMOVE(list_of(c, c->hash(member)), member, link, next);
        c->members--;
}

struct link *chains_first(const struct chains *c, uint64_t hash)
{
        return SLIST_FIRST(list_of(c, hash));
}
