/* What the parts of lockctl that know Windows share. */
#ifndef LOCKCTL_WIN_INTERNAL_H
#define LOCKCTL_WIN_INTERNAL_H

#include <stdbool.h>
#include <windows.h>

/* ---- events.c ---- */
/* Set when a key or the end of the session is to be told as a signal; see take_signal() there. */
HANDLE signal_event(void);
/* Wait `ms` and end as one whom the signal killed, if one comes. */
void sleep_unless_signalled(DWORD ms);

/* ---- child.c ---- */
/* The command's process; NULL: none. */
HANDLE command_process(void);
/* Has all of it ended, with what it has started? Then *code is the command's exit code. If `interrupted`, what it left behind is ended. */
bool command_has_ended(bool interrupted, int *code);
/* The command has ended, but something that it started has not. */
bool command_left_something(void);

/* ---- system.c ---- */
/* Does the console show UTF-8, as we write it, or what it showed before, which is what a command expects? */
void console_is_ours(bool ours);

#endif
