#include "starve.h"

#include <cjson/cJSON.h>

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

void *__real_malloc(size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_calloc(size_t count, size_t size);

static struct starvation own, *now = &own;

bool starve_fails(size_t size)
{
        int64_t left = atomic_load(&now->left);

        do {
                if (left == 0 || size < (uint64_t)now->least)
                        return false;
        } while (!atomic_compare_exchange_weak(&now->left, &left, left == 1 && now->for_good ? 1 : left - 1));
        if (left > 1)
                return false;
        now->failed++;
        errno = ENOMEM;
        return true;
}

void starve_by(struct starvation *s)
{
        now = s;
}

void *__wrap_malloc(size_t size)
{
        return starve_fails(size) ? NULL : __real_malloc(size);
}

void *__wrap_realloc(void *old, size_t size)
{
        return starve_fails(size) ? NULL : __real_realloc(old, size);
}

void *__wrap_calloc(size_t count, size_t size)
{
        return starve_fails(count * size) ? NULL : __real_calloc(count, size);
}

void starve_at(long n, bool for_good)
{
        cJSON_Hooks hooks = {.malloc_fn = __wrap_malloc, .free_fn = free};

        cJSON_InitHooks(&hooks);        /* a shared library: the linker does not wrap its calls */
        now->failed = 0;
        now->for_good = for_good;
        now->left = n;
}

bool starve_end(void)
{
        cJSON_InitHooks(NULL);
        now->left = 0;
        return now->failed > 0;
}
