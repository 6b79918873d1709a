/* What the fuzz targets share. libFuzzer calls the one function again and again; whatever it finds must be the end of the process. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void fuzz_check(int holds, const char *what)
{
        if (holds)
                return;
        fprintf(stderr, "fuzz: %s\n", what);
        abort();
}

/* A copy of just that size, so that AddressSanitizer sees each byte read beyond it. Freed by the caller. */
static inline char *fuzz_copy(const uint8_t *data, size_t size)
{
        char *copy = malloc(size > 0 ? size : 1);

        fuzz_check(copy != NULL, "no memory for a copy");
        if (size > 0)
                memcpy(copy, data, size);
        return copy;
}

#endif
