/* Files as clients name them, and command lines as programs are given them. Linked by the library, the tool and the daemon. */
#ifndef PL_WIN_NAMES_H
#define PL_WIN_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <wchar.h>
#include <windows.h>

/*
 * The path from its drive or share on, as UTF-8, to be freed: relative ones, C:name and \name are completed from the current folders; one too long for
 * programs of old comes as \\?\..., which is otherwise left as it is. NULL with errno.
 */
char *pl_full_path(const char *path);

/*
 * Open a file or folder for locking, as the daemon does: for reading, all sharing allowed, made when missing. Names of devices and of streams within a file
 * are refused. `path`: from pl_full_path(). INVALID_HANDLE_VALUE with errno.
 */
HANDLE pl_open_lock_file(const char *path);

/* Do both stand for the same file? */
bool pl_same_file(HANDLE a, HANDLE b);

/* A command line that grows. */
struct pl_command {
        wchar_t *text;          /* free() it */
        size_t len, room;
        bool failed;            /* out of memory, or longer than the system takes */
};
void pl_command_append(struct pl_command *c, const wchar_t *text);
/* One more argument, quoted so that the C library of the program reads it as it is. */
void pl_command_argument(struct pl_command *c, const wchar_t *argument);

#endif
