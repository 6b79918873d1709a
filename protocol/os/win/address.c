/*
 * Named pipes. Their names are one space for the whole machine, so whoever comes first has one: the daemon's mutex makes it the only one of its user,
 * a name that a stranger took before is refused (first_instance()), and the client asks who serves it before it says anything.
 *
 * A handle travels as int: Windows promises that handles fit into 32 bits, and none is negative but INVALID_HANDLE_VALUE.
 */
#include "../address.h"

#include "pipe.h"
#include "security.h"
#include "text.h"

#include <aclapi.h>
#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "\\\\.\\pipe\\"
#define NAME_MAX_BYTES 256      /* of a pipe's name, prefix and all: Windows' own limit */
#define BUSY_MS 20              /* until an instance is free again */
#define BUSY_TRIES 5

static int fail(struct pl_address *a, int error, const char *path, const char *why)
{
        snprintf(a->text, sizeof a->text, "%.150s: %s", path, why);
        return -error;
}

static int set_named(struct pl_address *a, const char *given);

int pl_address_find(struct pl_address *a, const char *given)
{
        const wchar_t *environment = _wgetenv(L"PORTALOCK_SOCKET");
        char sid[PL_SID_TEXT];
        char *narrow;
        int r;

        memset(a, 0, sizeof *a);
        if (given != NULL && given[0] != '\0')
                return set_named(a, given);
        if (given == NULL && environment != NULL && environment[0] != L'\0') {
                narrow = pl_narrow(environment);
                r = narrow != NULL ? set_named(a, narrow) : fail(a, errno, "PORTALOCK_SOCKET", strerror(errno));
                free(narrow);
                return r;
        }
        if (!pl_own_sid_text(sid))
                return fail(a, EPERM, "portalock", "this process's user cannot be found out");
        snprintf(a->path, sizeof a->path, PREFIX "portalock-%s%s", sid, pl_is_elevated() ? "-elevated" : "");
        return 0;
}

/* NAME or \\.\pipe\NAME. */
static int set_named(struct pl_address *a, const char *given)
{
        const char *c;

        a->named = true;
        if ((given[0] == '\\' || given[0] == '/') && given[1] == given[0] && given[2] == '.' && (given[3] == '\\' || given[3] == '/') &&
            _strnicmp(given + 4, "pipe", 4) == 0 && (given[8] == '\\' || given[8] == '/'))
                given += strlen(PREFIX);
        for (c = given; *c != '\0'; c++) {
                if (*c == '\\' || *c == '/' || *c == ':')
                        return fail(a, EINVAL, given, "is not the name of a pipe (NAME or " PREFIX "NAME, without further \\ / or :)");
        }
        if (*given == '\0')
                return fail(a, EINVAL, PREFIX, "a pipe needs a name");
        if (strlen(given) + strlen(PREFIX) > NAME_MAX_BYTES)
                return fail(a, ENAMETOOLONG, given, "the pipe's name is longer than 256 bytes");
        snprintf(a->path, sizeof a->path, PREFIX "%s", given);
        return 0;
}

/* A pipe of the user's own, with his security, is what the rest of this relies on. */
int pl_address_find_system(struct pl_address *a, const char *given)
{
        memset(a, 0, sizeof *a);
        return fail(a, ENOTSUP, given != NULL ? given : "--system", "there is no daemon for all users on Windows");
}

int pl_address_check_system(struct pl_address *a)
{
        return pl_address_find_system(a, NULL);
}

int pl_address_check(struct pl_address *a, bool create)
{
        (void)a;
        (void)create;   /* a pipe needs no folder, and its security comes with it */
        return 0;
}

int pl_address_connect(const struct pl_address *a)
{
        wchar_t *name = pl_wide(a->path);
        HANDLE h = INVALID_HANDLE_VALUE;
        DWORD error = 0;
        int i;

        if (name == NULL)
                return -errno;
        for (i = 0; i < BUSY_TRIES; i++) {
                /* The server may learn who we are, and nothing beyond: it cannot act in our name. */
                h = CreateFileW(name, GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_EXISTING, FILE_FLAG_OVERLAPPED | SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION, NULL);
                if (h != INVALID_HANDLE_VALUE)
                        break;
                error = GetLastError();
                /* Every instance is taken until the daemon has made the next. A daemon that ends leaves none: the next try says so. */
                if (error != ERROR_PIPE_BUSY || (!WaitNamedPipeW(name, BUSY_MS) && GetLastError() != ERROR_SEM_TIMEOUT && GetLastError() != ERROR_FILE_NOT_FOUND))
                        break;
        }
        free(name);
        return h != INVALID_HANDLE_VALUE ? pl_handle_int(h) : -pl_errno_of(error);
}

/* Who made this pipe, as the system keeps it: what an unprivileged program can ask even of a service's. */
static bool owner_of(HANDLE pipe, union pl_sid *out)
{
        PSECURITY_DESCRIPTOR sd;
        PSID owner;
        bool ok;

        if (GetSecurityInfo(pipe, SE_KERNEL_OBJECT, OWNER_SECURITY_INFORMATION, &owner, NULL, NULL, NULL, &sd) != ERROR_SUCCESS)
                return false;
        ok = CopySid(sizeof *out, &out->sid, owner);
        LocalFree(sd);
        return ok;
}

int pl_address_check_server(struct pl_address *a, int fd, long long *pid)
{
        union pl_sid server, own;
        ULONG server_pid;
        HANDLE process;
        bool known;

        if (!GetNamedPipeServerProcessId(pl_int_handle(fd), &server_pid) || !pl_user_of(GetCurrentProcess(), &own))
                return fail(a, pl_errno_of(GetLastError()), a->path, "cannot tell who serves it");
        *pid = (long long)server_pid;
        process = OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, FALSE, server_pid);
        known = process != NULL && pl_user_of(process, &server);
        if (process != NULL)
                CloseHandle(process);
        /* Processes of SYSTEM and of administrators do not let themselves be asked by everybody. */
        if (!known)
                known = owner_of(pl_int_handle(fd), &server);
        if (known && (EqualSid(&server.sid, &own.sid) || pl_is_trusted(&server)))
                return 0;
        return fail(a, EPERM, a->path, "is served by another user, who is not trusted with our locks");
}

/* A further instance if `first` is false. */
HANDLE pl_pipe_instance(const wchar_t *name, bool first)
{
        PSECURITY_DESCRIPTOR sd = pl_owner_only();
        SECURITY_ATTRIBUTES sa = {.nLength = sizeof sa, .lpSecurityDescriptor = sd, .bInheritHandle = FALSE};
        DWORD flags = PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED | (first ? FILE_FLAG_FIRST_PIPE_INSTANCE : 0), error;
        HANDLE h;

        if (sd == NULL)
                return INVALID_HANDLE_VALUE;
        h = CreateNamedPipeW(name, flags, PIPE_TYPE_BYTE | PIPE_READMODE_BYTE | PIPE_WAIT | PIPE_REJECT_REMOTE_CLIENTS, PIPE_UNLIMITED_INSTANCES, PL_PIPE_BUFFER, PL_PIPE_BUFFER,
                             0, &sa);
        error = GetLastError();
        LocalFree(sd);
        SetLastError(error);
        return h;
}

/*
 * The name's, when nobody has it. A client that has not let go of a daemon which was killed keeps the name alive, and with it the security that this daemon gave
 * it: the security is the name's, not the instance's. Such a name is taken over, for our mutex says that its daemon is gone. A stranger's name has
 * the stranger's security, which is read back, whatever we asked for.
 *
 * What has our security was made by a program of this user (or by SYSTEM), who can make instances beside a living daemon's as well, and serve who comes
 * to them; he could also do to our clients what he wants without a pipe.
 */
static HANDLE first_instance(const wchar_t *name)
{
        HANDLE h = pl_pipe_instance(name, true);

        if (h == INVALID_HANDLE_VALUE && GetLastError() == ERROR_ACCESS_DENIED) {
                h = pl_pipe_instance(name, false);
                if (h == INVALID_HANDLE_VALUE)
                        SetLastError(ERROR_ACCESS_DENIED);      /* whatever its maker allows us, the name is his */
        }
        if (h == INVALID_HANDLE_VALUE || pl_is_owner_only(h))
                return h;
        CloseHandle(h);
        SetLastError(ERROR_ACCESS_DENIED);
        return INVALID_HANDLE_VALUE;
}

int pl_address_bind(const struct pl_address *a, bool everybody)
{
        wchar_t *name = pl_wide(a->path);
        DWORD error;
        HANDLE h;

        (void)everybody;        /* never here: pl_address_find_system() has none */
        if (name == NULL)
                return -errno;
        h = first_instance(name);
        error = GetLastError();
        free(name);
        if (h != INVALID_HANDLE_VALUE)
                return pl_handle_int(h);
        return error == ERROR_ACCESS_DENIED ? -EADDRINUSE : -pl_errno_of(error);
}

void pl_address_unbind(const struct pl_address *a)
{
        (void)a;        /* the name goes with the last instance */
}

int pl_address_start_lock(const struct pl_address *a)
{
        char text[NAME_MAX_BYTES + 32];
        PSECURITY_DESCRIPTOR sd = pl_owner_only();
        SECURITY_ATTRIBUTES sa = {.nLength = sizeof sa, .lpSecurityDescriptor = sd, .bInheritHandle = FALSE};
        wchar_t *name;
        size_t i, len;
        DWORD error;
        HANDLE h;

        if (sd == NULL)
                return -pl_errno_of(GetLastError());
        /* Pipes have one name in all sessions of the machine and regardless of case, and so must the mutex. */
        len = (size_t)snprintf(text, sizeof text, "Global\\portalock:%s", a->path + strlen(PREFIX));
        for (i = strlen("Global\\"); i < len; i++)
                text[i] = (char)tolower((unsigned char)text[i]);
        name = pl_wide(text);
        if (name == NULL) {
                LocalFree(sd);
                return -errno;
        }
        h = CreateMutexW(&sa, FALSE, name);
        error = GetLastError();
        free(name);
        LocalFree(sd);
        if (h == NULL)
                return -pl_errno_of(error);
        if (error != ERROR_ALREADY_EXISTS)
                return pl_handle_int(h);
        CloseHandle(h);
        return -EWOULDBLOCK;
}

/* Pipes' names are the same regardless of case. */
char *pl_address_canonical(const struct pl_address *a)
{
        char *name = malloc(strlen(a->path) + 1), *c;

        if (name == NULL)
                return NULL;
        strcpy(name, a->path);
        for (c = name; *c != '\0'; c++)
                *c = (char)tolower((unsigned char)*c);
        return name;
}

void pl_address_close(int fd)
{
        CloseHandle(pl_int_handle(fd));
}
