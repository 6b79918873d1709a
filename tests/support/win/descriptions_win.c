#include "descriptions.h"

#include "oslock.h"

#include <stdint.h>
#include <stdio.h>
#include <windows.h>

static wchar_t path[MAX_PATH];

void descriptions_begin(void)
{
        wchar_t folder[MAX_PATH - 14];

        GetTempPathW(MAX_PATH - 14, folder);
        GetTempFileNameW(folder, L"plk", 0, path);
}

void descriptions_end(void)
{
        DeleteFileW(path);
}

int description_open(void)
{
        HANDLE h = CreateFileW(path, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL, OPEN_EXISTING, 0, NULL);

        return (int)(intptr_t)h;
}

int description_dup(int fd)
{
        (void)fd;
        return -1;
}

void description_close(int fd)
{
        oslock_unlock(fd);      /* as file_close() does */
        CloseHandle((HANDLE)(intptr_t)fd);
}

/* Nobody passes handles to the daemon, and it duplicates none: so what a duplicate bears is not kept. Waits have no threads. */
const struct description_system description_system = {.duplicates = false, .threads = false, .retry_max_ms = 16};
