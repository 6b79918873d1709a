/* Pipes and handles as the parts that know Windows share them. */
#ifndef PL_WIN_PIPE_H
#define PL_WIN_PIPE_H

#include <stdbool.h>
#include <stdint.h>
#include <windows.h>

#define PL_PIPE_BUFFER (64 * 1024)

/* Handles travel as int, like descriptors: Windows promises that they fit into 32 bits (sign-extended), and only INVALID_HANDLE_VALUE is negative. */
static inline int pl_handle_int(HANDLE h)
{
        return (int)(intptr_t)h;
}

static inline HANDLE pl_int_handle(int fd)
{
        return (HANDLE)(intptr_t)fd;
}

/* An instance of the daemon's pipe, with the security it must have, for one client; `first`: fails when the name is taken. INVALID_HANDLE_VALUE with GetLastError(). */
HANDLE pl_pipe_instance(const wchar_t *name, bool first);

#endif
