/*
 * Under %LOCALAPPDATA%, which is the user's own and not carried from one machine to another; what is made there inherits its security. Who names another
 * folder answers for who may write there: only the file's own owner is looked at.
 */
#include "statefile.h"

#include "security.h"
#include "text.h"

#include <aclapi.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#define FULL_BYTES (STATEFILE_PATH_MAX + 80)

static bool is_separator(char c)
{
        return c == '\\' || c == '/';
}

/* So much of a path as its parent is, with what separates it. */
static size_t parent_of(const char *path)
{
        size_t len = strlen(path);

        while (len > 0 && is_separator(path[len - 1]))
                len--;
        while (len > 0 && !is_separator(path[len - 1]))
                len--;
        return len;
}

/* `made`: the variable's folder, too, when it is missing. */
static bool set_place(struct statefile *f, const wchar_t *variable, bool made)
{
        char *narrow = pl_narrow(variable);
        int n;

        if (narrow == NULL)
                return false;
        n = snprintf(f->folder, sizeof f->folder, "%s\\portalock", narrow);
        f->given = made ? parent_of(narrow) : strlen(narrow);
        free(narrow);
        return n > 0 && (size_t)n < sizeof f->folder;
}

static bool is_absolute(const wchar_t *path)
{
        return path != NULL && ((path[0] != L'\0' && path[1] == L':' && (path[2] == L'\\' || path[2] == L'/')) || (path[0] == L'\\' && path[1] == L'\\'));
}

bool statefile_place(struct statefile *f, const char *given, bool system)
{
        const wchar_t *state = _wgetenv(L"XDG_STATE_HOME"), *local = _wgetenv(L"LOCALAPPDATA");

        (void)system;   /* there is no such daemon here */
        if (given != NULL) {
                f->given = parent_of(given);
                return (size_t)snprintf(f->folder, sizeof f->folder, "%s", given) < sizeof f->folder;
        }
        if (is_absolute(state))
                return set_place(f, state, true);
        return is_absolute(local) && set_place(f, local, false);
}

static int failed(const char **step, const char *what)
{
        *step = what;
        return -pl_errno_of(GetLastError());
}

static wchar_t *wide_name(const struct statefile *f, const char *tail)
{
        char full[FULL_BYTES];

        snprintf(full, sizeof full, "%s\\%s%s", f->folder, f->name, tail);
        return pl_wide(full);
}

static int make_folder(const char *path, const char **step)
{
        wchar_t *name = pl_wide(path);
        int r = 0;

        if (name == NULL) {
                *step = "name the folder";
                return -errno;
        }
        if (!CreateDirectoryW(name, NULL) && GetLastError() != ERROR_ALREADY_EXISTS)
                r = failed(step, "mkdir");
        free(name);
        return r;
}

/* Those below what was given. */
static int make_folders(const struct statefile *f, const char **step)
{
        char path[STATEFILE_PATH_MAX];
        size_t end = f->given;
        int r = 0;

        while (r == 0 && f->folder[end] != '\0') {
                end += strspn(f->folder + end, "\\/");
                end += strcspn(f->folder + end, "\\/");
                memcpy(path, f->folder, end);
                path[end] = '\0';
                r = make_folder(path, step);
        }
        return r;
}

/* A plain file, and nobody else's. */
static bool is_ours(HANDLE h)
{
        BY_HANDLE_FILE_INFORMATION info;
        PSECURITY_DESCRIPTOR sd;
        union pl_sid own;
        bool ours;
        PSID owner;

        if (!GetFileInformationByHandle(h, &info) || (info.dwFileAttributes & (FILE_ATTRIBUTE_DIRECTORY | FILE_ATTRIBUTE_REPARSE_POINT)) != 0 ||
            GetFileType(h) != FILE_TYPE_DISK || !pl_user_of(GetCurrentProcess(), &own) ||
            GetSecurityInfo(h, SE_FILE_OBJECT, OWNER_SECURITY_INFORMATION, &owner, NULL, NULL, NULL, &sd) != ERROR_SUCCESS)
                return false;
        /* What an elevated program of ours makes belongs to the administrators. */
        ours = EqualSid(owner, &own.sid) || IsWellKnownSid(owner, WinBuiltinAdministratorsSid);
        LocalFree(sd);
        return ours;
}

static HANDLE open_file(const wchar_t *name, DWORD access)
{
        return CreateFileW(name, access | READ_CONTROL, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL, OPEN_EXISTING,
                           FILE_FLAG_OPEN_REPARSE_POINT | FILE_FLAG_BACKUP_SEMANTICS, NULL);
}

int statefile_read(const struct statefile *f, char out[STATEFILE_TEXT_MAX], const char **step)
{
        wchar_t *name = wide_name(f, "");
        DWORD len = 0;
        HANDLE h;
        int r;

        if (name == NULL) {
                *step = "name the file";
                return -errno;
        }
        h = open_file(name, GENERIC_READ);
        free(name);
        if (h == INVALID_HANDLE_VALUE)
                return failed(step, "open");
        if (!is_ours(h)) {
                *step = "not a file of ours";
                r = -EPERM;
        } else if (!ReadFile(h, out, STATEFILE_TEXT_MAX - 1, &len, NULL)) {
                r = failed(step, "read");
        } else {
                out[len] = '\0';
                r = (int)len;
        }
        CloseHandle(h);
        return r;
}

/* May it be replaced? 0, or -errno. */
static int check_old(const wchar_t *name, const char **step)
{
        HANDLE h = open_file(name, FILE_READ_ATTRIBUTES);
        bool ours;

        if (h == INVALID_HANDLE_VALUE)
                return GetLastError() == ERROR_FILE_NOT_FOUND ? 0 : failed(step, "look");
        ours = is_ours(h);
        CloseHandle(h);
        if (ours)
                return 0;
        *step = "not a file of ours";
        return -EEXIST;
}

/* A new file of that name that holds the text. */
static int write_aside(const wchar_t *name, const char *text, bool durable, const char **step)
{
        DWORD len = (DWORD)strlen(text), written;
        HANDLE h;
        int r = 0;

        /* Left by one of us who was killed: the mutex lets no two live at once. */
        if (!DeleteFileW(name) && GetLastError() != ERROR_FILE_NOT_FOUND)
                return failed(step, "delete the new file");
        h = CreateFileW(name, GENERIC_WRITE, 0, NULL, CREATE_NEW, FILE_ATTRIBUTE_NORMAL, NULL);
        if (h == INVALID_HANDLE_VALUE)
                return failed(step, "create");
        if (!WriteFile(h, text, len, &written, NULL) || written != len)
                r = failed(step, "write");
        else if (durable && !FlushFileBuffers(h))
                r = failed(step, "flush");
        CloseHandle(h);
        if (r != 0)
                DeleteFileW(name);
        return r;
}

int statefile_write(const struct statefile *f, const char *text, bool durable, const char **step)
{
        wchar_t *name = wide_name(f, ""), *aside = wide_name(f, ".new");
        int r;

        if (name == NULL || aside == NULL) {
                *step = "name the file";
                r = -errno;
                goto out;
        }
        r = make_folders(f, step);
        if (r == 0)
                r = check_old(name, step);
        if (r == 0)
                r = write_aside(aside, text, durable, step);
        if (r == 0 && !MoveFileExW(aside, name, MOVEFILE_REPLACE_EXISTING | (durable ? MOVEFILE_WRITE_THROUGH : 0))) {
                r = failed(step, "rename");
                DeleteFileW(aside);
        }
out:
        free(name);
        free(aside);
        return r;
}
