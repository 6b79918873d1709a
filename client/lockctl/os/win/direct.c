/*
 * LockFileEx without a daemon, on the byte that the daemon locks: far behind any data, so that the lock keeps nobody from reading and writing, and within
 * the range of those who lock the whole file. It is tried again and again: a wait for it could not be ended by a time or a key.
 */
#include "internal.h"
#include "names.h"
#include "pipe.h"
#include "text.h"

#include "../../os.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BYTE_LOW 0xfffffffeu    /* 0x7ffffffffffffffe, the last but one that a lock can have */
#define BYTE_HIGH 0x7fffffffu
#define PAUSE_MAX_MS 16

const char os_lock_call[] = "LockFileEx";

/* 0; EAGAIN: somebody else has it; or another errno. */
static int try_lock(HANDLE h, int flags)
{
        DWORD how = LOCKFILE_FAIL_IMMEDIATELY | ((flags & PORTALOCK_SH) != 0 ? 0 : LOCKFILE_EXCLUSIVE_LOCK);
        OVERLAPPED at = {.Offset = BYTE_LOW, .OffsetHigh = BYTE_HIGH};
        DWORD error;

        if (LockFileEx(h, how, 0, 1, 0, &at))
                return 0;
        error = GetLastError();
        if (error == ERROR_LOCK_VIOLATION || error == ERROR_IO_PENDING)
                return EAGAIN;
        /* The handle is ours and the range is right: then the system locks no such thing, a folder. */
        return error == ERROR_INVALID_HANDLE || error == ERROR_INVALID_PARAMETER || error == ERROR_INVALID_FUNCTION ? ENOTSUP : pl_errno_of(error);
}

/* Until the lock is ours or `until_ms` (-1: never) is over. */
static int lock_until(HANDLE h, int flags, int64_t until_ms)
{
        DWORD pause = 1;
        int64_t left;
        int error;

        for (;;) {
                error = try_lock(h, flags);
                if (error != EAGAIN || (flags & PORTALOCK_NB) != 0)
                        return error;
                left = until_ms < 0 ? PAUSE_MAX_MS : until_ms - os_now_ms();
                if (left <= 0)
                        return ETIMEDOUT;
                sleep_unless_signalled(left < pause ? (DWORD)left : pause);
                if (pause < PAUSE_MAX_MS)
                        pause *= 2;
        }
}

/* Somebody may have replaced the file while we waited. */
static bool is_current(HANDLE h, const char *path)
{
        HANDLE now = pl_open_lock_file(path);
        bool same = now != INVALID_HANDLE_VALUE && pl_same_file(h, now);

        if (now != INVALID_HANDLE_VALUE)
                CloseHandle(now);
        return same;
}

static enum os_direct lock_path(const char *path, int flags, int64_t until_ms, int *fd, int *error)
{
        HANDLE h;

        for (;;) {
                h = pl_open_lock_file(path);
                *error = errno;
                if (h == INVALID_HANDLE_VALUE)
                        return OS_DIRECT_NO_FILE;
                *error = lock_until(h, flags, until_ms);
                if (*error == 0 && is_current(h, path)) {
                        *fd = pl_handle_int(h);
                        return OS_DIRECT_OK;
                }
                CloseHandle(h);
                if (*error != 0)
                        return *error == EAGAIN ? OS_DIRECT_BUSY : *error == ETIMEDOUT ? OS_DIRECT_TIMED_OUT : OS_DIRECT_FAILED;
        }
}

enum os_direct os_lock_direct(const char *path, int flags, int64_t timeout_ms, int *fd, int *error)
{
        char *full = path != NULL ? pl_full_path(path) : NULL;
        enum os_direct r;

        if (full == NULL) {
                *error = path != NULL ? errno : ENOTSUP;
                return OS_DIRECT_NO_FILE;
        }
        if (timeout_ms == 0)
                flags |= PORTALOCK_NB;
        r = lock_path(full, flags, timeout_ms > 0 ? os_now_ms() + timeout_ms : -1, fd, error);
        free(full);
        return r;
}

void os_close_file(int fd)
{
        OVERLAPPED at = {.Offset = BYTE_LOW, .OffsetHigh = BYTE_HIGH};

        /* To close it unlocks it as well, but only "when resources permit". */
        (void)UnlockFileEx(pl_int_handle(fd), 0, 1, 0, &at);
        CloseHandle(pl_int_handle(fd));
}

char *os_absolute(const char *path)
{
        return pl_full_path(path);
}

/* The daemon says which of the system's calls failed, the library which of the C library's. */
bool os_is_open_call(const char *syscall)
{
        return strcmp(syscall, "open") == 0 || strcmp(syscall, "CreateFileW") == 0;
}

/* The old C library has no words for most of POSIX' errors. This is the one that users meet: for folders, devices and streams. */
const char *os_error_text(int error)
{
        return error == ENOTSUP ? "not a file that can be locked" : strerror(error);
}

/* ---- never asked: run refuses -u and --remove ---- */

int os_unlock(int fd)
{
        (void)fd;
        return ENOTSUP;
}

const char *os_kept_kind(const char *path)
{
        (void)path;
        return NULL;
}

enum os_removal os_remove_locked(const char *path, int fd, bool shared, const char **why)
{
        (void)path;
        (void)fd;
        (void)shared;
        *why = "not possible here";
        return OS_REMOVAL_FAILED;
}

int os_open_file(const char *path, int *fd)
{
        (void)path;
        *fd = -1;
        return ENOTSUP;
}
