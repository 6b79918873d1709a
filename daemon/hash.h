/* uthash as the daemon uses it. */
#ifndef HASH_H
#define HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "zeroed.h"

/*
 * Eight bytes at a time: most keys are numbers or a few of them, for which uthash's own function takes five times as long.
 */
static inline unsigned hash_bytes(const void *key, size_t len)
{
        const uint64_t factor = UINT64_C(0x9e3779b97f4a7c15);   /* 2^64 divided by the golden ratio */
        const char *p = key;
        uint64_t hash = len, word;

        for (; len >= sizeof word; p += sizeof word, len -= sizeof word) {
                memcpy(&word, p, sizeof word);
                hash = (hash ^ word) * factor;
                hash ^= hash >> 32;
        }
        if (len > 0) {
                word = 0;
                memcpy(&word, p, len);
                hash = (hash ^ word) * factor;
                hash ^= hash >> 32;
        }
        return (unsigned)(hash ^ (hash >> 16));
}

#define HASH_FUNCTION(key, len, hash) ((hash) = hash_bytes(key, len))
#define HASH_NONFATAL_OOM 1     /* who adds looks whether hh.tbl is still NULL */
#define uthash_malloc(size) zeroed(size)
#define uthash_bzero(at, size) ((void)(at), (void)(size)) /* only what was allocated just now */
#include <uthash.h>

#endif
