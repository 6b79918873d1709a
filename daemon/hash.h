/* uthash as the daemon uses it. */
#ifndef HASH_H
#define HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "zeroed.h"

/*
 * Eight bytes at a time, with what Firefox mixes them by: most keys are numbers or a few of them, for which uthash's own function takes five times as long.
 * The last eight may overlap those before them.
 */
static inline unsigned hash_bytes(const void *key, size_t len)
{
        const uint64_t factor = UINT64_C(0x9e3779b97f4a7c15);   /* 2^64 divided by the golden ratio */
        const char *p = key, *last;
        uint64_t hash = len, word = 0;

        if (len < sizeof word) {
                memcpy(&word, p, len);
        } else {
                for (last = p + len - sizeof word; p < last; p += sizeof word) {
                        memcpy(&word, p, sizeof word);
                        hash = ((hash << 5 | hash >> 59) ^ word) * factor;
                }
                memcpy(&word, last, sizeof word);
        }
        hash = ((hash << 5 | hash >> 59) ^ word) * factor;
        hash ^= hash >> 32;
        return (unsigned)(hash ^ (hash >> 16));
}

#define HASH_FUNCTION(key, len, hash) ((hash) = hash_bytes(key, len))
#define HASH_NONFATAL_OOM 1     /* who adds looks whether hh.tbl is still NULL */
#define uthash_malloc(size) zeroed(size)
#define uthash_bzero(at, size) ((void)(at), (void)(size)) /* only what was allocated just now */
#include <uthash.h>

#endif
