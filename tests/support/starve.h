/*
 * Out of memory on demand, for the allocations of our own code and of cJSON. A test that uses it is linked with
 * -Wl,--wrap=malloc,--wrap=realloc,--wrap=calloc (see tests/CMakeLists.txt).
 */
#ifndef STARVE_H
#define STARVE_H

#include <stdbool.h>

/* The n-th allocation from now on fails (1: the next). `for_good`: all that follow it too. */
void starve_at(long n, bool for_good);

/* Memory is back. True: an allocation has failed, so there may be an n+1st to try. */
bool starve_end(void);

#endif
