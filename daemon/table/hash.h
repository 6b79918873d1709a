/* uthash as the daemon uses it, and fresh records for its tables. */
#ifndef HASH_H
#define HASH_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

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

/* As calloc(3), which does not ask glibc's cache of what the thread has freed just now and so takes ten times as long for a record that comes and goes. */
static inline void *zeroed(size_t size)
{
        volatile size_t all = size;     /* or the compiler makes a calloc(3) of it again */
        void *p = malloc(size);

        if (p != NULL)
                memset(p, 0, all);
        return p;
}

#define HASH_FUNCTION(key, len, hash) ((hash) = hash_bytes(key, len))
#define HASH_NONFATAL_OOM 1     /* who adds looks whether hh.tbl is still NULL */
#define uthash_malloc(size) zeroed(size)
#define uthash_bzero(at, size) ((void)(at), (void)(size)) /* only what was allocated just now */
#include <uthash.h>

#endif
