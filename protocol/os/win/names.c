#include "names.h"

#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define COMMAND_UNITS_MAX 32767 /* CreateProcess takes no more */
#define SHARE_ALL (FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE)

static const wchar_t long_prefix[] = L"\\\\?\\", long_unc[] = L"\\\\?\\UNC\\", device_prefix[] = L"\\\\.\\";

static bool begins_with(const wchar_t *text, const wchar_t *prefix)
{
        return wcsncmp(text, prefix, wcslen(prefix)) == 0;
}

/* ---- paths ---- */

/* Behind `room` free places. */
static wchar_t *full_path(const wchar_t *path, size_t room)
{
        DWORD size = GetFullPathNameW(path, 0, NULL, NULL);
        wchar_t *full;

        if (size == 0) {
                errno = path[0] == L'\0' ? ENOENT : pl_errno_of(GetLastError());
                return NULL;
        }
        full = malloc((room + size) * sizeof *full);
        if (full == NULL) {
                errno = ENOMEM;
                return NULL;
        }
        if (GetFullPathNameW(path, size, full + room, NULL) >= size) {
                free(full);
                errno = EAGAIN; /* somebody changes the current folder meanwhile */
                return NULL;
        }
        return full;
}

/* In place: what stands behind `room` free places gets its prefix if it needs one. */
static void lengthen(wchar_t *buffer, size_t room)
{
        wchar_t *path = buffer + room;
        bool is_share = begins_with(path, L"\\\\"), needs = wcslen(path) >= MAX_PATH && !begins_with(path, device_prefix) && !begins_with(path, long_prefix);
        const wchar_t *prefix = !needs ? L"" : is_share ? long_unc : long_prefix;
        size_t len = wcslen(prefix);

        if (needs && is_share)
                path += 2;
        memmove(buffer + len, path, (wcslen(path) + 1) * sizeof *path);
        memcpy(buffer, prefix, len * sizeof *prefix);
}

char *pl_full_path(const char *path)
{
        size_t room = wcslen(long_unc);
        wchar_t *wide = pl_wide(path), *full;
        char *out;

        if (wide == NULL)
                return NULL;
        if (begins_with(wide, long_prefix)) {   /* no rule of the system's reads anything into it, so it stays */
                free(wide);
                out = malloc(strlen(path) + 1);
                return out != NULL ? strcpy(out, path) : NULL;
        }
        full = full_path(wide, room);
        free(wide);
        if (full == NULL)
                return NULL;
        lengthen(full, room);
        out = pl_narrow(full);
        free(full);
        return out;
}

/* A colon behind the drive's would name a stream; \\.\ leads to devices, COM1 and NUL in any folder too. */
static bool is_file_name(const wchar_t *path)
{
        const wchar_t *rest = path;

        if (begins_with(path, device_prefix))
                return false;
        if (begins_with(path, long_prefix))
                rest += wcslen(long_prefix);
        if (rest[0] != L'\0' && rest[1] == L':')
                rest += 2;
        return wcschr(rest, L':') == NULL;
}

HANDLE pl_open_lock_file(const char *path)
{
        wchar_t *wide = pl_wide(path);
        HANDLE h = INVALID_HANDLE_VALUE;

        if (wide == NULL)
                return INVALID_HANDLE_VALUE;
        if (!is_file_name(wide)) {
                errno = EINVAL;
        } else {
                /* It may lead to a pipe, whose server must not act in our name. */
                h = CreateFileW(wide, GENERIC_READ, SHARE_ALL, NULL, OPEN_ALWAYS, FILE_FLAG_BACKUP_SEMANTICS | SECURITY_SQOS_PRESENT | SECURITY_ANONYMOUS, NULL);
                if (h == INVALID_HANDLE_VALUE)
                        errno = pl_errno_of(GetLastError());
        }
        free(wide);
        if (h != INVALID_HANDLE_VALUE && GetFileType(h) != FILE_TYPE_DISK) {
                CloseHandle(h);
                errno = EINVAL;
                h = INVALID_HANDLE_VALUE;
        }
        return h;
}

bool pl_same_file(HANDLE a, HANDLE b)
{
        BY_HANDLE_FILE_INFORMATION one, two;
        FILE_ID_INFO first, second;

        if (GetFileInformationByHandleEx(a, FileIdInfo, &first, sizeof first) && GetFileInformationByHandleEx(b, FileIdInfo, &second, sizeof second))
                return first.VolumeSerialNumber == second.VolumeSerialNumber && memcmp(&first.FileId, &second.FileId, sizeof first.FileId) == 0;
        return GetFileInformationByHandle(a, &one) && GetFileInformationByHandle(b, &two) && one.dwVolumeSerialNumber == two.dwVolumeSerialNumber &&
               one.nFileIndexHigh == two.nFileIndexHigh && one.nFileIndexLow == two.nFileIndexLow;
}

/* ---- command lines ---- */

static void append(struct pl_command *c, const wchar_t *text, size_t len)
{
        wchar_t *more;
        size_t room;

        if (c->failed || c->len + len + 1 > COMMAND_UNITS_MAX) {
                c->failed = true;
                return;
        }
        if (c->len + len + 1 > c->room) {
                room = (c->len + len + 1) * 2;
                more = realloc(c->text, room * sizeof *more);
                if (more == NULL) {
                        c->failed = true;
                        return;
                }
                c->text = more;
                c->room = room;
        }
        memcpy(c->text + c->len, text, len * sizeof *text);
        c->len += len;
        c->text[c->len] = L'\0';
}

void pl_command_append(struct pl_command *c, const wchar_t *text)
{
        append(c, text, wcslen(text));
}

/* Backslashes stand for themselves, but those before a quote must be doubled, also before the one that ends the argument. */
void pl_command_argument(struct pl_command *c, const wchar_t *argument)
{
        size_t backslashes = 0, i;

        if (c->len > 0)
                append(c, L" ", 1);
        if (argument[0] != L'\0' && wcspbrk(argument, L" \t\n\v\"") == NULL) {
                append(c, argument, wcslen(argument));
                return;
        }
        append(c, L"\"", 1);
        for (; *argument != L'\0'; argument++) {
                if (*argument == L'"')
                        for (i = 0; i < backslashes + 1; i++)
                                append(c, L"\\", 1);
                backslashes = *argument == L'\\' ? backslashes + 1 : 0;
                append(c, argument, 1);
        }
        for (i = 0; i < backslashes; i++)
                append(c, L"\\", 1);
        append(c, L"\"", 1);
}
