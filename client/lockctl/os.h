/* What lockctl needs of the system; a folder for each below. */
#ifndef LOCKCTL_OS_H
#define LOCKCTL_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Run argv[0] (by PATH) as a child that inherits descriptor `keep`, pass signals on to it, and wait for its end. Returns its exit code, or
 * 128+N when signal N killed it; -errno when it could not be started.
 */
int os_run(char **argv, int keep);

/* The lock without a daemon: opens `path`, takes flock(2). flags and timeout_ms as portalock_lock(). */
enum os_direct { OS_DIRECT_OK, OS_DIRECT_BUSY, OS_DIRECT_TIMED_OUT, OS_DIRECT_NO_FILE, OS_DIRECT_FAILED };
/* *fd with OK; *error (errno) with NO_FILE and FAILED. */
enum os_direct os_lock_direct(const char *path, int flags, int64_t timeout_ms, int *fd, int *error);

/* The user's name, or the number. */
void os_user_name(int64_t uid, char *out, size_t size);

bool os_is_terminal(int fd);

#endif
