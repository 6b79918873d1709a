/*
 * Records of one size, of which there may be hundreds of thousands: in blocks, without malloc(3)'s header and rounding for each. What is taken stays where it
 * is; a block that is empty is given back.
 *
 * Records may have ids that are never used again: the number of a place, and how often it was taken. Below 2^53, so that JSON carries them whole.
 */
#ifndef POOL_H
#define POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct pool_block;

/* A number that a block can have. */
struct pool_place {
        struct pool_block *block;       /* NULL: none has it now */
        uint32_t taken;                 /* no record of it was taken more often when the last block went */
};

struct pool {
        size_t size;                    /* of a record */
        size_t begin;                   /* of the first in its block */
        uint32_t per_block;
        bool has_ids;
        struct pool_place *places;
        struct pool_block **by_address; /* all that are there, sorted */
        uint32_t place_count, place_cap, block_count;
        uint32_t first_free;            /* below it none is free */
        LIST_HEAD(, pool_block) roomy;  /* blocks with room */
        size_t used, room;              /* records taken, and how many more the blocks have room for */
        size_t kept;                    /* so much room stays */
};

/* `size`: sizeof a struct with a pointer or a number of eight bytes in it; at most POOL_RECORD_MAX. */
void pool_init(struct pool *p, size_t size, bool has_ids);
void pool_clear(struct pool *p);        /* with all records in it; zeroed and never begun it may be as well */
#define POOL_RECORD_MAX 1024

/* Room for so many: pool_take() does not fail until they are taken. False: no memory. What is not written to yet costs addresses, not memory. */
bool pool_reserve(struct pool *p, size_t count);
/* A record full of zeros; NULL: no memory. */
void *pool_take(struct pool *p);
void pool_give(struct pool *p, void *record);

/* ---- with ids ---- */
uint64_t pool_id(const struct pool *p, const void *record);     /* not 0 */
void *pool_find(const struct pool *p, uint64_t id);             /* NULL: it has been given back */
/* A record has its place, below POOL_INDEX_MAX, for as long as it is taken. The first at or behind place *index, which it then is; NULL: none. */
#define POOL_INDEX_MAX (UINT32_C(1) << 24)
void *pool_next(const struct pool *p, uint64_t *index);

#endif
