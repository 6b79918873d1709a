#include "starve.h"

#include <cjson/cJSON.h>

#include <stddef.h>
#include <stdlib.h>

void *__real_malloc(size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_calloc(size_t count, size_t size);

static long left;       /* 0: memory is not short */
static bool for_ever, failed;

static bool fails(void)
{
        if (left == 0 || (left > 1 && --left > 0))
                return false;
        left = for_ever ? 1 : 0;
        failed = true;
        return true;
}

void *__wrap_malloc(size_t size)
{
        return fails() ? NULL : __real_malloc(size);
}

void *__wrap_realloc(void *old, size_t size)
{
        return fails() ? NULL : __real_realloc(old, size);
}

void *__wrap_calloc(size_t count, size_t size)
{
        return fails() ? NULL : __real_calloc(count, size);
}

void starve_at(long n, bool for_good)
{
        cJSON_Hooks hooks = {.malloc_fn = __wrap_malloc, .free_fn = free};

        cJSON_InitHooks(&hooks);        /* a shared library: the linker does not wrap its calls */
        left = n;
        for_ever = for_good;
        failed = false;
}

bool starve_end(void)
{
        cJSON_InitHooks(NULL);
        left = 0;
        return failed;
}
