/*
 * Starting the daemon: without a console, nobody's child in any way that Windows knows of (outside the job of its starter, if that allows it; in the
 * system's folder, so that it keeps no other), and with nothing inherited but where it is to tell that it listens.
 */
#include "internal.h"
#include "names.h"
#include "pipe.h"
#include "security.h"
#include "text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_UNITS 32768
#define REPORT_BYTES 4096

/* ---- where it is ---- */

static bool is_program(const wchar_t *path)
{
        DWORD attributes = GetFileAttributesW(path);

        return attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY) == 0;
}

/* Beside `module` (NULL: the program), or where a build or an installation has it. */
static bool find_beside(HMODULE module, wchar_t *out)
{
        static const wchar_t *const places[] = {L"portalockd.exe", L"..\\daemon\\portalockd.exe", L"..\\bin\\portalockd.exe", L"..\\sbin\\portalockd.exe"};
        DWORD len = GetModuleFileNameW(module, out, PATH_UNITS);
        wchar_t *name;
        size_t i;

        name = len > 0 && len < PATH_UNITS ? wcsrchr(out, L'\\') : NULL;
        if (name == NULL)
                return false;
        name++;
        for (i = 0; i < sizeof places / sizeof places[0]; i++) {
                if ((size_t)(name - out) + wcslen(places[i]) >= PATH_UNITS)
                        continue;
                wcscpy(name, places[i]);
                if (is_program(out))
                        return true;
        }
        return false;
}

/* With a drive or a share: what PATH has beside such folders ("", ".", names) leads to wherever the program stands, where anybody may have put something. */
static bool is_absolute(const wchar_t *folder, size_t len)
{
        bool has_drive = len >= 3 && folder[1] == L':' && (folder[2] == L'\\' || folder[2] == L'/');

        return has_drive || (len >= 3 && (folder[0] == L'\\' || folder[0] == L'/') && folder[1] == folder[0]);
}

/* In one folder of PATH; it may stand in quotes. */
static bool find_in(const wchar_t *folder, size_t len, wchar_t *out)
{
        static const wchar_t name[] = L"\\portalockd.exe";

        if (len >= 2 && folder[0] == L'"' && folder[len - 1] == L'"') {
                folder++;
                len -= 2;
        }
        if (!is_absolute(folder, len) || len + sizeof name / sizeof name[0] > PATH_UNITS)
                return false;
        wmemcpy(out, folder, len);
        wcscpy(out + len, name);
        return is_program(out);
}

static bool find_by_path(wchar_t *out)
{
        wchar_t *path = malloc(PATH_UNITS * sizeof *path);
        DWORD size = path != NULL ? GetEnvironmentVariableW(L"PATH", path, PATH_UNITS) : 0;
        const wchar_t *at = path;
        bool found = false;
        size_t len;

        while (size > 0 && size < PATH_UNITS && !found) {
                len = wcscspn(at, L";");
                found = find_in(at, len, out);
                if (at[len] == L'\0')
                        break;
                at += len + 1;
        }
        free(path);
        return found;
}

/* PORTALOCKD; beside this DLL, beside the program; by PATH. */
static bool find_program(wchar_t *out)
{
        static const wchar_t of_ours = L'\0';
        DWORD len = GetEnvironmentVariableW(L"PORTALOCKD", out, PATH_UNITS);
        HMODULE self = NULL;

        if (len > 0)
                return len < PATH_UNITS;
        GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT, (LPCWSTR)&of_ours, &self);
        return find_beside(self, out) || find_beside(NULL, out) || find_by_path(out);
}

/* ---- what it is given ---- */

/* *ours: its end for reading, overlapped, which a pipe of CreatePipe() is not; *theirs: the other one. */
static bool make_report(HANDLE *ours, HANDLE *theirs)
{
        PSECURITY_DESCRIPTOR sd = pl_owner_only();
        SECURITY_ATTRIBUTES mine = {.nLength = sizeof mine, .lpSecurityDescriptor = sd};
        LARGE_INTEGER now;
        wchar_t name[80];

        if (sd == NULL)
                return false;
        QueryPerformanceCounter(&now);
        swprintf(name, sizeof name / sizeof name[0], L"\\\\.\\pipe\\portalock-start-%lu-%lu-%llx", GetCurrentProcessId(), GetCurrentThreadId(),
                 (unsigned long long)now.QuadPart);
        *ours = CreateNamedPipeW(name, PIPE_ACCESS_INBOUND | FILE_FLAG_OVERLAPPED | FILE_FLAG_FIRST_PIPE_INSTANCE,
                                 PIPE_TYPE_BYTE | PIPE_READMODE_BYTE | PIPE_WAIT | PIPE_REJECT_REMOTE_CLIENTS, 1, 0, REPORT_BYTES, 0, &mine);
        LocalFree(sd);
        if (*ours == INVALID_HANDLE_VALUE)
                return false;
        *theirs = CreateFileW(name, GENERIC_WRITE, 0, NULL, OPEN_EXISTING, SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION, NULL);
        if (*theirs != INVALID_HANDLE_VALUE)
                return true;
        CloseHandle(*ours);
        return false;
}

static wchar_t *command_line(const wchar_t *program, const char *address, HANDLE report)
{
        struct pl_command c = {0};
        wchar_t *socket = pl_wide(address), number[24];

        if (socket == NULL)
                return NULL;
        swprintf(number, sizeof number / sizeof number[0], L"%d", pl_handle_int(report));
        pl_command_argument(&c, program);
        pl_command_append(&c, L" --socket");
        pl_command_argument(&c, socket);
        pl_command_append(&c, L" --idle-exit 60 --ready-fd");
        pl_command_argument(&c, number);
        free(socket);
        if (!c.failed)
                return c.text;
        free(c.text);
        return NULL;
}

/*
 * They must be inheritable, but for no longer than this takes: any other thread may start a program meanwhile, to which they are not ours to give. (Should it do so all
 * the same, and inherit everything, an end of the report comes when that program has ended, or the client's patience.)
 */
static void set_inherited(const HANDLE handles[2], bool inherited)
{
        size_t i;

        for (i = 0; i < 2; i++)
                SetHandleInformation(handles[i], HANDLE_FLAG_INHERIT, inherited ? HANDLE_FLAG_INHERIT : 0);
}

static BOOL create(const wchar_t *program, wchar_t *line, STARTUPINFOEXW *startup, const wchar_t *folder, PROCESS_INFORMATION *process)
{
        DWORD flags = EXTENDED_STARTUPINFO_PRESENT | DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP;
        BOOL ok = CreateProcessW(program, line, NULL, NULL, TRUE, flags | CREATE_BREAKAWAY_FROM_JOB, NULL, folder, &startup->StartupInfo, process);

        /* A job that lets nobody go: then the daemon ends with it. */
        if (!ok && GetLastError() == ERROR_ACCESS_DENIED)
                ok = CreateProcessW(program, line, NULL, NULL, TRUE, flags, NULL, folder, &startup->StartupInfo, process);
        return ok;
}

/* With the two handles as its only ones. 0 or GetLastError(). */
static DWORD run(const wchar_t *program, wchar_t *line, HANDLE null, HANDLE report)
{
        STARTUPINFOEXW startup = {
                .StartupInfo = {.cb = sizeof startup, .dwFlags = STARTF_USESTDHANDLES, .hStdInput = null, .hStdOutput = null, .hStdError = report}};
        HANDLE inherited[] = {null, report};
        wchar_t folder[MAX_PATH];
        PROCESS_INFORMATION process;
        DWORD error = ERROR_OUTOFMEMORY;
        SIZE_T size = 0;

        if (GetSystemDirectoryW(folder, MAX_PATH) == 0)
                return GetLastError();
        InitializeProcThreadAttributeList(NULL, 1, 0, &size);
        startup.lpAttributeList = malloc(size);
        if (startup.lpAttributeList == NULL || !InitializeProcThreadAttributeList(startup.lpAttributeList, 1, 0, &size))
                goto out;
        set_inherited(inherited, true);
        if (UpdateProcThreadAttribute(startup.lpAttributeList, 0, PROC_THREAD_ATTRIBUTE_HANDLE_LIST, inherited, sizeof inherited, NULL, NULL) &&
            create(program, line, &startup, folder, &process)) {
                CloseHandle(process.hThread);
                CloseHandle(process.hProcess);
                error = ERROR_SUCCESS;
        } else {
                error = GetLastError();
        }
        set_inherited(inherited, false);
        DeleteProcThreadAttributeList(startup.lpAttributeList);
out:
        free(startup.lpAttributeList);
        return error;
}

static DWORD start(const struct portalock_session *s, const wchar_t *program, HANDLE report)
{
        wchar_t *line = command_line(program, s->address.path, report);
        DWORD error;
        HANDLE null;

        if (line == NULL)
                return ERROR_OUTOFMEMORY;
        null = CreateFileW(L"NUL", GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, OPEN_EXISTING, 0, NULL);
        error = null != INVALID_HANDLE_VALUE ? run(program, line, null, report) : GetLastError();
        if (null != INVALID_HANDLE_VALUE)
                CloseHandle(null);
        free(line);
        return error;
}

int os_spawn_daemon(struct portalock_session *s)
{
        wchar_t *program = malloc(PATH_UNITS * sizeof *program);
        HANDLE ours, theirs;
        DWORD error;

        if (program == NULL)
                return client_no_memory(s);
        if (!find_program(program)) {
                free(program);
                return client_fail(s, PORTALOCK_E_NO_DAEMON, "the daemon did not start: portalockd.exe is neither beside this program nor in PATH");
        }
        if (!make_report(&ours, &theirs)) {
                error = GetLastError();
                free(program);
                return client_fail_os(s, pl_errno_of(error), "CreateNamedPipeW", s->address.path);
        }
        error = start(s, program, theirs);
        free(program);
        CloseHandle(theirs);    /* so that its end is the end of the pipe */
        if (error == ERROR_SUCCESS)
                return pl_handle_int(ours);
        CloseHandle(ours);
        return client_fail(s, PORTALOCK_E_NO_DAEMON, "the daemon did not start: %s", strerror(pl_errno_of(error)));
}
