/*
 * The daemon without memory. What our own objects allocate comes through --wrap (support/starve.c). What libraries allocate on our behalf (cJSON, strdup(3),
 * tsearch(3), threads) comes through the functions below, which stand in for the C library's in this program. libuv is let alone: it calls abort(3)
 * itself when it cannot grow its list of watched descriptors, so its failures teach nothing about us.
 */
#include "starve.h"

#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

__attribute__((constructor)) static void read_starvation(void)
{
        const char *path = getenv("PORTALOCK_STARVE");
        void *shared;
        int fd;

        if (path == NULL)
                return;
        fd = open(path, O_RDWR | O_CLOEXEC);
        shared = fd >= 0 ? mmap(NULL, sizeof(struct starvation), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
        if (shared == MAP_FAILED) {
                fprintf(stderr, "portalockd_fault: PORTALOCK_STARVE: %s cannot be mapped\n", path);
                _exit(64);
        }
        close(fd);
        starve_by(shared);
}

#if !defined FAULT_SANITIZED && defined __GLIBC__

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

/* Where libuv and this program's own code (counted already) lie. */
static struct {
        uintptr_t begin, end;
} exempt[2];

static int find(struct dl_phdr_info *info, size_t size, void *arg)
{
        bool own = info->dlpi_name[0] == '\0';
        int i;

        (void)size;
        (void)arg;
        if (!own && strstr(info->dlpi_name, "/libuv.") == NULL)
                return 0;
        for (i = 0; i < info->dlpi_phnum; i++) {
                if (info->dlpi_phdr[i].p_type != PT_LOAD || (info->dlpi_phdr[i].p_flags & PF_X) == 0)
                        continue;
                exempt[own].begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
                exempt[own].end = exempt[own].begin + info->dlpi_phdr[i].p_memsz;
        }
        return 0;
}

__attribute__((constructor)) static void find_exempt(void)
{
        dl_iterate_phdr(find, NULL);
}

static bool fails(const void *caller, size_t size)
{
        uintptr_t at = (uintptr_t)caller;

        if ((at >= exempt[0].begin && at < exempt[0].end) || (at >= exempt[1].begin && at < exempt[1].end))
                return false;
        return starve_fails(size);
}

void *malloc(size_t size)
{
        return fails(__builtin_return_address(0), size) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
        return fails(__builtin_return_address(0), count * size) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
        return fails(__builtin_return_address(0), size) ? NULL : __libc_realloc(old, size);
}
#endif
