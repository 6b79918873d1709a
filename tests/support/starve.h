/*
 * Out of memory on demand, for the allocations of our own code and of cJSON. A program that uses it is linked with
 * -Wl,--wrap=malloc,--wrap=realloc,--wrap=calloc (see tests/CMakeLists.txt).
 */
#ifndef STARVE_H
#define STARVE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whose turn it is to fail. Another process may write it too: see fault/faults.h. */
struct starvation {
        _Atomic int64_t left;           /* the left-th allocation from now on fails; 0: memory is not short */
        _Atomic int64_t for_good;       /* and all that follow it */
        _Atomic int64_t failed;         /* how many have */
        _Atomic int64_t least;          /* of so many bytes or more; smaller ones are not counted */
};

/* The n-th allocation from now on fails (1: the next). `for_good`: all that follow it too. */
void starve_at(long n, bool for_good);

/* Memory is back. True: an allocation has failed, so there may be an n+1st to try. */
bool starve_end(void);

/* From now on this says it; not ours. */
void starve_by(struct starvation *s);

/* Counts an allocation that --wrap does not see. True: it is to fail. */
bool starve_fails(size_t size);

#endif
