/* Which program a word means, as cmd.exe finds it, and the line that starts it. */
#ifndef LOCKCTL_WIN_LOOKUP_H
#define LOCKCTL_WIN_LOOKUP_H

#include <wchar.h>

struct launch {
        wchar_t *program;       /* free() both */
        wchar_t *line;
};

/*
 * argv[0] as a path, else in the current folder (unless NoDefaultCurrentDirectoryInExePath forbids it) and then in the folders of PATH; with the endings of
 * PATHEXT where it has none or is not there as it is. What is no .exe or .com is given to %COMSPEC%. 0 or errno.
 */
int find_command_line(char *const *argv, struct launch *out);
/* A line for the shell: %COMSPEC% /d /s /c "LINE". 0 or errno. */
int find_shell_line(const char *line, struct launch *out);

#endif
