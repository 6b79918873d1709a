/*
 * A record's block is found by the record's address, among the blocks sorted by theirs: there is one for hundreds of records. What has never been taken is
 * behind what has: a block that is there for a promise alone has not been written to.
 */
#include "pool.h"

#include <stdlib.h>
#include <string.h>

/* A block for each record where AddressSanitizer looks on: so it sees all that it sees of malloc(3), and each record may be the one for which there is no memory. */
#if defined(__SANITIZE_ADDRESS__)
#define ONE_IN_A_BLOCK 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ONE_IN_A_BLOCK 1
#endif
#endif
#ifndef ONE_IN_A_BLOCK
#define ONE_IN_A_BLOCK 0
#endif

#define BLOCK_BYTES ((size_t)65536 - 2 * sizeof(void *)) /* with malloc(3)'s header it is whole pages */
#define INDEX_BITS 24
#define TAKEN_MASK 0x1fffffffu  /* 29 bits */
#define NONE UINT32_MAX

struct pool_block {
        LIST_ENTRY(pool_block) entry;   /* of pool.roomy, unless it is full */
        uint32_t number;                /* its place in pool.places */
        uint32_t used;
        uint32_t fresh;                 /* from here on nothing has been taken yet */
        uint32_t given;                 /* the first that was given back; each has the number of the next one in its first bytes */
        uint32_t first_taken;
        uint32_t taken[];               /* with ids: how often each was; odd while it is */
};

static char *item(const struct pool *p, const struct pool_block *b, uint32_t i)
{
        return (char *)b + p->begin + i * p->size;
}

/* How many blocks lie at that address or below. */
static uint32_t blocks_up_to(const struct pool *p, const void *at)
{
        uint32_t low = 0, high = p->block_count, middle;

        while (low < high) {
                middle = (low + high) / 2;
                if ((uintptr_t)p->by_address[middle] <= (uintptr_t)at)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static struct pool_block *block_of(const struct pool *p, const void *record)
{
        return p->by_address[blocks_up_to(p, record) - 1];
}

static uint32_t item_number(const struct pool *p, const struct pool_block *b, const void *record)
{
        return (uint32_t)(((uintptr_t)record - (uintptr_t)b - p->begin) / p->size);
}

void pool_init(struct pool *p, size_t size, bool has_ids)
{
        size_t with_id = size + (has_ids ? sizeof(uint32_t) : 0);

        *p = (struct pool){.size = size, .has_ids = has_ids};
        p->per_block = ONE_IN_A_BLOCK ? 1 : (uint32_t)((BLOCK_BYTES - sizeof(struct pool_block) - sizeof(uint32_t)) / with_id);
        p->begin = sizeof(struct pool_block) + (with_id - size) * p->per_block;
        p->begin = (p->begin + 7) & ~(size_t)7;
        LIST_INIT(&p->roomy);
}

void pool_clear(struct pool *p)
{
        uint32_t i;

        for (i = 0; i < p->place_count; i++)
                free(p->places[i].block);
        free(p->places);
        free(p->by_address);
        if (p->size > 0)
                pool_init(p, p->size, p->has_ids);
}

/* A number for a block more: NONE when there is none, or no memory. */
static uint32_t free_place(struct pool *p)
{
        struct pool_block **sorted;
        struct pool_place *places;
        uint32_t i, cap;

        for (i = p->first_free; i < p->place_count; i++)
                if (p->places[i].block == NULL)
                        return p->first_free = i;
        if ((p->place_count + 1) * (uint64_t)p->per_block > POOL_INDEX_MAX)
                return NONE;
        if (p->place_count == p->place_cap) {
                cap = p->place_cap == 0 ? 4 : p->place_cap * 2;
                places = realloc(p->places, cap * sizeof *places);
                if (places == NULL)
                        return NONE;
                p->places = places;
                sorted = realloc(p->by_address, cap * sizeof *sorted);
                if (sorted == NULL)
                        return NONE;
                p->by_address = sorted;
                p->place_cap = cap;
        }
        p->places[p->place_count] = (struct pool_place){0};
        return p->first_free = p->place_count++;
}

static bool add_block(struct pool *p)
{
        uint32_t number = free_place(p), at;
        struct pool_block *b = number != NONE ? malloc(p->begin + p->per_block * p->size) : NULL;

        if (b == NULL)
                return false;
        at = blocks_up_to(p, b);
        memmove(&p->by_address[at + 1], &p->by_address[at], (p->block_count++ - at) * sizeof(struct pool_block *));
        p->by_address[at] = b;
        *b = (struct pool_block){.number = number, .given = NONE, .first_taken = p->places[number].taken};
        p->places[number].block = b;
        LIST_INSERT_HEAD(&p->roomy, b, entry);
        p->room += p->per_block;
        return true;
}

static void remove_block(struct pool *p, struct pool_block *b)
{
        struct pool_place *place = &p->places[b->number];
        uint32_t i, at = blocks_up_to(p, b);

        for (i = 0; p->has_ids && i < b->fresh; i++)
                if (b->taken[i] > place->taken)
                        place->taken = b->taken[i];
        memmove(&p->by_address[at - 1], &p->by_address[at], (p->block_count-- - at) * sizeof(struct pool_block *));
        LIST_REMOVE(b, entry);
        place->block = NULL;
        if (b->number < p->first_free)
                p->first_free = b->number;
        p->room -= p->per_block;
        free(b);
}

bool pool_reserve(struct pool *p, size_t count)
{
        while (p->room < count)
                if (!add_block(p))
                        return false;
        p->kept = count;
        return true;
}

/* The next time that it is taken, or given back. */
static void count_taken(uint32_t *taken)
{
        *taken = (*taken + 1) & TAKEN_MASK;
}

void *pool_take(struct pool *p)
{
        struct pool_block *b;
        uint32_t i;
        char *record;

        if (p->room == 0 && !add_block(p))
                return NULL;
        b = LIST_FIRST(&p->roomy);
        i = b->given != NONE ? b->given : b->fresh;
        record = item(p, b, i);
        if (i == b->fresh) {
                b->fresh++;
                if (p->has_ids)
                        b->taken[i] = b->first_taken;
        } else {
                memcpy(&b->given, record, sizeof b->given);
        }
        if (p->has_ids)
                count_taken(&b->taken[i]);
        if (++b->used == p->per_block)
                LIST_REMOVE(b, entry);
        p->used++;
        p->room--;
        if (p->kept > 0)
                p->kept--;
        return memset(record, 0, p->size);
}

void pool_give(struct pool *p, void *record)
{
        struct pool_block *b = block_of(p, record);
        uint32_t i = item_number(p, b, record);

        if (b->used-- == p->per_block)
                LIST_INSERT_HEAD(&p->roomy, b, entry);
        if (p->has_ids)
                count_taken(&b->taken[i]);
        memcpy(record, &b->given, sizeof b->given);
        b->given = i;
        p->used--;
        p->room++;
        /* Not the last room: with one client records come and go all the time. */
        if (b->used == 0 && p->room - p->per_block >= p->per_block / 2 && p->room - p->per_block >= p->kept)
                remove_block(p, b);
}

/* ---- with ids ---- */

uint64_t pool_id(const struct pool *p, const void *record)
{
        const struct pool_block *b = block_of(p, record);
        uint32_t i = item_number(p, b, record);

        return (uint64_t)b->taken[i] << INDEX_BITS | (b->number * p->per_block + i);
}

void *pool_find(const struct pool *p, uint64_t id)
{
        uint32_t index = (uint32_t)(id & (POOL_INDEX_MAX - 1)), number = index / p->per_block, i = index % p->per_block;
        const struct pool_block *b = number < p->place_count ? p->places[number].block : NULL;

        if (b == NULL || i >= b->fresh || b->taken[i] != id >> INDEX_BITS || (b->taken[i] & 1) == 0)
                return NULL;
        return item(p, b, i);
}

void *pool_next(const struct pool *p, uint64_t *index)
{
        uint64_t number;

        for (number = *index / p->per_block; number < p->place_count; *index = ++number * p->per_block) {
                const struct pool_block *b = p->places[number].block;
                uint32_t i = (uint32_t)(*index % p->per_block);

                for (; b != NULL && i < b->fresh; i++, ++*index)
                        if (b->taken[i] & 1)
                                return item(p, b, i);
        }
        return NULL;
}
