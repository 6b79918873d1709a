/*
 * A pipe knows the number of the client's process; whose it is stands in that process's token. The pipe's own security lets nobody in but its owner and
 * SYSTEM, so this is the second look.
 *
 * `uid` is the last number of the user's SID, as tools show it; SYSTEM is 0, as root is on Unix.
 */
#include "peer.h"

#include "pipe.h"
#include "security.h"
#include "text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FULL_NAME 32768         /* UTF-16 units: as long as a path may be */

static int64_t uid_of(const union pl_sid *sid)
{
        PSID s = (PSID)&sid->sid;

        if (IsWellKnownSid(s, WinLocalSystemSid))
                return 0;
        return (int64_t)*GetSidSubAuthority(s, (DWORD)*GetSidSubAuthorityCount(s) - 1);
}

int64_t peer_own_uid(void)
{
        union pl_sid own;

        return pl_user_of(GetCurrentProcess(), &own) ? uid_of(&own) : -1;
}

/* The program's file, without its folder. */
static void command_of(HANDLE process, char *command)
{
        static wchar_t wide[FULL_NAME];         /* on the loop's thread alone */
        DWORD len = FULL_NAME;
        wchar_t *base;
        char *narrow;

        command[0] = '\0';
        if (!QueryFullProcessImageNameW(process, 0, wide, &len))
                return;
        base = wcsrchr(wide, L'\\');
        narrow = pl_narrow(base != NULL ? base + 1 : wide);
        if (narrow == NULL)
                return;
        len = (DWORD)strlen(narrow);
        if (len >= PEER_COMMAND_BYTES) {
                len = PEER_COMMAND_BYTES - 1;
                while (len > 0 && ((unsigned char)narrow[len] & 0xc0) == 0x80)
                        len--;          /* not within a character */
        }
        memcpy(command, narrow, len);
        command[len] = '\0';
        free(narrow);
}

static uint64_t start_of(HANDLE process)
{
        FILETIME created, ended, kernel, user;

        if (!GetProcessTimes(process, &created, &ended, &kernel, &user))
                return 0;
        return (uint64_t)created.dwHighDateTime << 32 | created.dwLowDateTime;
}

static HANDLE open_process(int64_t pid)
{
        return OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, FALSE, (DWORD)pid);
}

bool peer_process(int64_t pid, char *command, uint64_t *started)
{
        HANDLE process = open_process(pid);

        if (process == NULL)
                return false;
        command_of(process, command);
        *started = start_of(process);
        CloseHandle(process);
        return true;
}

int peer_identify(int fd, struct peer *out)
{
        union pl_sid own, sid;
        HANDLE process;
        ULONG pid;
        bool known;

        memset(out, 0, sizeof *out);
        out->connection = -1;
        if (!GetNamedPipeClientProcessId(pl_int_handle(fd), &pid) || !pl_user_of(GetCurrentProcess(), &own))
                return -pl_errno_of(GetLastError());
        out->pid = (int64_t)pid;
        out->uid = uid_of(&own);
        process = open_process(out->pid);
        if (process == NULL)
                return 0;       /* more privileged than we are, or gone already: the pipe's security has let it in */
        known = pl_user_of(process, &sid);
        command_of(process, out->command);
        out->started = start_of(process);
        CloseHandle(process);
        if (known)
                out->uid = uid_of(&sid);
        /* Last numbers are equal in different domains. */
        return !known || EqualSid(&sid.sid, &own.sid) || pl_is_trusted(&sid) ? 0 : -EACCES;
}

const char *peer_command(struct peer *p)
{
        return p->command;
}

void peer_refresh(struct peer *p)
{
        (void)p;        /* a process keeps its program for life */
}

bool peer_allowed(const struct peer *p, int64_t uid)
{
        return p->uid == 0 || p->uid == uid;
}

bool peer_is_known(const struct peer *p)
{
        (void)p;        /* whom the system does not know does not get in */
        return true;
}

bool peer_same_user(const struct peer *a, const struct peer *b)
{
        return a->uid == b->uid;
}
