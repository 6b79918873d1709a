/*
 * A request is parsed, carried out and forgotten. So its nodes are cut from one block, from the front on, and not freed one by one: when the last
 * document goes, the whole block is free again. What does not fit comes from the heap, and then the documents are freed node by node until the block is
 * empty again. A request that is kept (one that waits for a look-up) keeps the block from being emptied; that costs the others speed, nothing else.
 */
#include "json_arena.h"

#include <stdint.h>
#include <stdlib.h>

/* Who reads what is gone is found. */
#if defined __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#endif
#endif
#ifndef ASAN_POISON_MEMORY_REGION
#define ASAN_POISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

#define BLOCK_BYTES 16384u      /* a usual request takes less than 2,000 */
#define ALIGNMENT 16u

static union {
        char bytes[BLOCK_BYTES];
        double aligned;
} block;
static size_t used;
static size_t documents;        /* parsed and not freed yet */
static bool spilled;            /* something of theirs is in the heap */

void *json_arena_take(size_t size)
{
        size_t rounded = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        void *p = block.bytes + used;

        if (size > BLOCK_BYTES || rounded > BLOCK_BYTES - used) {
                spilled = true;
                return malloc(size);
        }
        used += rounded;
        ASAN_UNPOISON_MEMORY_REGION(p, size);
        return p;
}

void json_arena_give(void *p)
{
        uintptr_t at = (uintptr_t)p, begin = (uintptr_t)block.bytes;

        if (at < begin || at >= begin + BLOCK_BYTES)
                free(p);
}

void json_arena_open(void)
{
        documents++;
}

bool json_arena_spilled(void)
{
        return spilled;
}

void json_arena_close(bool opened)
{
        documents -= opened;
        if (documents > 0)
                return;
        ASAN_POISON_MEMORY_REGION(block.bytes, used);
        used = 0;
        spilled = false;
}
