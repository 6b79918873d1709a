/*
 * LockFileEx, without waiting. The waits are in oslock_wait.c.
 *
 * Locks are mandatory here: whoever locks a file's bytes forbids everybody else, his own clients too, to read and write them. So one byte is locked that no
 * file has, the last but one that there can be: it is within every lock of a whole file and within the portalocker recipe's (offset 0, length -0x10000), so
 * that each excludes the other, and the data stay free.
 *
 * A handle conflicts with itself, stacks shared locks and unlocks an exclusive one before a shared one. So what each handle bears is kept here, nothing is
 * locked twice, and conversions are made of the steps that the system has:
 *
 *      SH -> EX        unlock, then lock: with a gap, in which somebody else may come
 *      EX -> SH        the shared lock on top of the exclusive one, then one unlock, which takes the exclusive: without a gap
 *
 * Nobody works on one handle at the same time as somebody else (lane.h), so the mutex guards the records alone and is never held over a call of the system's.
 */
#include "oslock.h"

#include "pipe.h"
#include "text.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <uv.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define SENTINEL_LOW 0xfffffffeu
#define SENTINEL_HIGH 0x7fffffffu

const char oslock_call[] = "LockFileEx";

struct borne {
        int fd;
        enum oslock_mode mode;
        UT_hash_handle hh;
};

static struct borne *all_borne;         /* by handle, under the mutex; who bears nothing is not here */
static uv_mutex_t mutex;
static uv_once_t once = UV_ONCE_INIT;

static void init(void)
{
        if (uv_mutex_init(&mutex) != 0)
                abort();
}

static enum oslock_mode bears(int fd)
{
        enum oslock_mode mode;
        struct borne *b;

        uv_once(&once, init);
        uv_mutex_lock(&mutex);
        HASH_FIND_INT(all_borne, &fd, b);
        mode = b != NULL ? b->mode : OSLOCK_NONE;
        uv_mutex_unlock(&mutex);
        return mode;
}

/* False when out of memory; never for a handle that has a record. NONE makes one: room for what comes next. */
static bool remember(int fd, enum oslock_mode mode)
{
        struct borne *b;

        uv_mutex_lock(&mutex);
        HASH_FIND_INT(all_borne, &fd, b);
        if (b == NULL && (b = calloc(1, sizeof *b)) != NULL) {
                b->fd = fd;
                HASH_ADD_INT(all_borne, fd, b);
                if (b->hh.tbl == NULL) {        /* uthash ran out of memory */
                        free(b);
                        b = NULL;
                }
        }
        if (b != NULL)
                b->mode = mode;
        uv_mutex_unlock(&mutex);
        return b != NULL;
}

static void forget(int fd)
{
        struct borne *b;

        uv_mutex_lock(&mutex);
        HASH_FIND_INT(all_borne, &fd, b);
        if (b != NULL)
                HASH_DEL(all_borne, b);
        uv_mutex_unlock(&mutex);
        free(b);
}

/* 0, or what GetLastError() said. */
static DWORD lock(int fd, enum oslock_mode mode)
{
        OVERLAPPED where = {.Offset = SENTINEL_LOW, .OffsetHigh = SENTINEL_HIGH};
        DWORD flags = LOCKFILE_FAIL_IMMEDIATELY | (mode == OSLOCK_EX ? LOCKFILE_EXCLUSIVE_LOCK : 0);

        return LockFileEx(pl_int_handle(fd), flags, 0, 1, 0, &where) ? 0 : GetLastError();
}

static void unlock(int fd)
{
        OVERLAPPED where = {.Offset = SENTINEL_LOW, .OffsetHigh = SENTINEL_HIGH};

        (void)UnlockFileEx(pl_int_handle(fd), 0, 1, 0, &where);
}

/* Handles are ours and open for reading, the range is right: what these say then is that the system locks no such thing, a folder. */
static int errno_of(DWORD error)
{
        return error == ERROR_INVALID_HANDLE || error == ERROR_INVALID_PARAMETER || error == ERROR_INVALID_FUNCTION ? ENOTSUP : pl_errno_of(error);
}

static bool is_busy(DWORD error)
{
        return error == ERROR_LOCK_VIOLATION;
}

enum oslock_result oslock_try(int fd, enum oslock_mode mode, int *error)
{
        DWORD r;

        if (bears(fd) == mode)
                return OSLOCK_TAKEN;
        assert(bears(fd) == OSLOCK_NONE);
        if (!remember(fd, OSLOCK_NONE)) {
                *error = ENOMEM;
                return OSLOCK_FAILED;
        }
        r = lock(fd, mode);
        if (r == 0) {
                remember(fd, mode);
                return OSLOCK_TAKEN;
        }
        forget(fd);
        *error = errno_of(r);
        return is_busy(r) ? OSLOCK_BUSY : OSLOCK_FAILED;
}

enum oslock_result oslock_upgrade(int fd, int *error)
{
        DWORD r;

        if (bears(fd) != OSLOCK_SH)
                return oslock_try(fd, OSLOCK_EX, error);
        unlock(fd);
        r = lock(fd, OSLOCK_EX);
        if (r == 0) {
                remember(fd, OSLOCK_EX);
                return OSLOCK_TAKEN;
        }
        *error = errno_of(r);
        /* Take the SH back before anybody notices. */
        if (lock(fd, OSLOCK_SH) == 0)
                return is_busy(r) ? OSLOCK_BUSY : OSLOCK_FAILED;
        forget(fd);
        return OSLOCK_LOST;
}

void oslock_downgrade(int fd)
{
        if (bears(fd) != OSLOCK_EX)
                return;
        /* Should the system ever refuse it, the exclusive lock stays: too much keeps some out who might come in, a gap would let in who must not. */
        if (lock(fd, OSLOCK_SH) == 0)
                unlock(fd);
        remember(fd, OSLOCK_SH);
}

void oslock_unlock(int fd)
{
        if (bears(fd) == OSLOCK_NONE)
                return;
        unlock(fd);
        forget(fd);
}

enum oslock_mode oslock_bears(int fd)
{
        return bears(fd);
}
