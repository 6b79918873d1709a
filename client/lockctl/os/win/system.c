/* The program's beginning, consoles, people. */
#include "internal.h"
#include "security.h"
#include "text.h"

#include "../../lockctl.h"
#include "../../os.h"

#include <fcntl.h>
#include <inttypes.h>
#include <io.h>
#include <lmcons.h>
#include <stdlib.h>
#include <string.h>

const char os_help_run[] =
        "\n"
        "On Windows the lock belongs to lockctl alone: there is no NUMBER, no --fd, -u, -F and --remove. lockctl waits for all that the command has\n"
        "started, and ends it all when the lock is lost, also because the daemon ended; with -o it waits for the command only. A second Ctrl-C ends\n"
        "everything at once. -c STRING is given to %COMSPEC%. COMMAND is found as cmd.exe finds it, by PATH and PATHEXT; what only cmd.exe knows\n"
        "(echo, dir) needs -c, and so do quotes within a line for cmd.exe.\n";

/* ---- consoles ---- */

static UINT shown_before;       /* the console's encoding when we came; 0: no console */

void console_is_ours(bool ours)
{
        if (shown_before != 0)
                SetConsoleOutputCP(ours ? CP_UTF8 : shown_before);
}

static void give_back(void)
{
        console_is_ours(false);
}

static bool console_mode(int fd, HANDLE *console, DWORD *mode)
{
        *console = GetStdHandle(fd == 0 ? STD_INPUT_HANDLE : fd == 1 ? STD_OUTPUT_HANDLE : STD_ERROR_HANDLE);
        return *console != NULL && *console != INVALID_HANDLE_VALUE && GetConsoleMode(*console, mode);
}

/* What is shown in place needs a console that knows the usual sequences. */
bool os_is_terminal(int fd)
{
        HANDLE console;
        DWORD mode;

        if (!console_mode(fd, &console, &mode))
                return false;
        return fd == 0 || (mode & ENABLE_VIRTUAL_TERMINAL_PROCESSING) != 0 || SetConsoleMode(console, mode | ENABLE_VIRTUAL_TERMINAL_PROCESSING);
}

int os_terminal_width(void)
{
        CONSOLE_SCREEN_BUFFER_INFO info;
        HANDLE console;
        DWORD mode;

        return console_mode(2, &console, &mode) && GetConsoleScreenBufferInfo(console, &info) ? info.srWindow.Right - info.srWindow.Left + 1 : 80;
}

/* ---- the program ---- */

/* flock.exe, Flock and C:\Tools\flock are flock; what else we are called is lockctl. */
static char *called(const wchar_t *argv0)
{
        static char lockctl[] = "lockctl", flock[] = "flock";
        const wchar_t *base = argv0, *c;
        size_t len;

        for (c = argv0; *c != L'\0'; c++)
                if (*c == L'\\' || *c == L'/' || *c == L':')
                        base = c + 1;
        len = wcslen(base);
        if (len > 4 && _wcsicmp(base + len - 4, L".exe") == 0)
                len -= 4;
        return len == 5 && _wcsnicmp(base, L"flock", 5) == 0 ? flock : lockctl;
}

int wmain(int argc, wchar_t **wide);     /* no header of the system has it */

int wmain(int argc, wchar_t **wide)
{
        char **argv = calloc((size_t)argc + 2, sizeof *argv);
        int i;

        if (argv == NULL)
                return EXIT_SYSTEM;
        argv[0] = called(argc > 0 ? wide[0] : L"");
        for (i = 1; i < argc; i++) {
                argv[i] = pl_narrow(wide[i]);
                if (argv[i] == NULL) {
                        fprintf(stderr, "lockctl: argument %d is not Unicode\n", i);
                        return EXIT_BAD_USAGE;
                }
        }
        _setmode(1, _O_BINARY); /* lines end as everywhere: what reads them may be no program of Windows */
        _setmode(2, _O_BINARY);
        shown_before = GetConsoleOutputCP();
        atexit(give_back);
        console_is_ours(true);
        return lockctl_main(argc < 1 ? 1 : argc, argv);
}

bool os_has_descriptors(void)
{
        return false;
}

const char *os_base_name(const char *path)
{
        const char *base = path, *c;

        for (c = path; *c != '\0'; c++)
                if ((*c == '\\' || *c == '/' || *c == ':') && c[1] != '\0')
                        base = c + 1;
        return base;
}

/* A uid is the last number of a user's SID, by which nobody but the user himself can be found. */
static bool is_own(int64_t uid)
{
        union pl_sid own;

        return pl_user_of(GetCurrentProcess(), &own) && uid == *GetSidSubAuthority(&own.sid, (DWORD)(*GetSidSubAuthorityCount(&own.sid) - 1));
}

static bool own_name(char *out, size_t size)
{
        wchar_t wide[UNLEN + 1];
        DWORD len = UNLEN + 1;
        char *narrow = GetUserNameW(wide, &len) ? pl_narrow(wide) : NULL;

        if (narrow == NULL)
                return false;
        snprintf(out, size, "%s", narrow);
        free(narrow);
        return true;
}

void os_user_name(int64_t uid, char *out, size_t size)
{
        if (uid >= 0 && is_own(uid) && own_name(out, size))
                return;
        if (uid == 0)
                snprintf(out, size, "SYSTEM");
        else if (uid > 0)
                snprintf(out, size, "%" PRId64, uid);
        else
                snprintf(out, size, "-");
}

void os_guard_stdio(void)
{
        /* Handles are not numbered: none of ours can take the place of a closed one. */
}
