/*
 * Files are opened for reading, with every kind of sharing, so that the daemon's handle forbids nobody anything; "backup semantics" opens folders as well.
 * What is opened is a file or folder on a drive or share: names of devices and of streams within files are refused before they are opened.
 *
 * A file's identity is its volume's serial number and its 128-bit number there, folded into 128 bits in all: the number's upper half, which is zero but on
 * ReFS, is mixed into the serial number by a function that gives two numbers never the same value and leaves zero zero. So two files of one volume have
 * never the same identity, and on all file systems but ReFS it is what the system says.
 */
#include "file.h"

#include "oslock.h"
#include "pipe.h"
#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <wctype.h>

#define SHARE_ALL (FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE)
/* A name may lead to a pipe: its server must not act in our name while we find out. */
#define OPEN_FLAGS (FILE_FLAG_BACKUP_SEMANTICS | SECURITY_SQOS_PRESENT | SECURITY_ANONYMOUS)
#define LONG_PREFIX L"\\\\?\\"
#define LONG_UNC L"\\\\?\\UNC\\"
#define PATH_UNITS 32768        /* as long as a path may be */

/* Connections are files of the C library too, and it knows no more of them: 64 tables of 32 in the old one, of 128 in the universal one. */
#ifdef _UCRT
#define C_LIBRARY_FILES 8192
#else
#define C_LIBRARY_FILES 2048
#endif

const bool file_may_linger = false;

static int fail(struct file_error *e, const char *call, int error, unsigned code)
{
        *e = (struct file_error){.syscall = call, .error = error, .code = code};
        return -1;
}

static int fail_last(struct file_error *e, const char *call)
{
        DWORD code = GetLastError();

        return fail(e, call, pl_errno_of(code), code);
}

/* ---- names ---- */

struct place {
        wchar_t *path;          /* as \\?\..., which no rule of the system's reads anything into */
        wchar_t drive;          /* its letter, as a capital; 0: none */
};

static wchar_t drive_of(const wchar_t *path)
{
        return iswalpha(path[0]) && path[0] < 0x80 && path[1] == L':' && path[2] == L'\\' ? (wchar_t)towupper(path[0]) : 0;
}

/* What stands behind \\?\ must be a drive, a share or a volume by its number; and nobody names a stream of a file. */
static bool is_file_name(const wchar_t *rest, wchar_t drive)
{
        if (drive == 0 && _wcsnicmp(rest, L"UNC\\", 4) != 0 && _wcsnicmp(rest, L"Volume{", 7) != 0)
                return false;
        return wcschr(drive != 0 ? rest + 2 : rest, L':') == NULL;
}

/* Where the system would look for it by its own rules, then never again. */
static wchar_t *full_name(const wchar_t *path)
{
        DWORD size = GetFullPathNameW(path, 0, NULL, NULL);
        wchar_t *full, *out;

        full = size > 0 ? malloc(size * sizeof *full) : NULL;
        if (full == NULL)
                return NULL;
        out = malloc((size + wcslen(LONG_UNC)) * sizeof *out);
        if (out == NULL || GetFullPathNameW(path, size, full, NULL) == 0) {
                free(full);
                free(out);
                return NULL;
        }
        /* NUL, COM1 and their like, in whatever folder they are named, which \\?\ would make files; and what was given as //?/ and is complete. */
        if (wcsncmp(full, L"\\\\.\\", 4) == 0 || wcsncmp(full, LONG_PREFIX, 4) == 0) {
                wcscpy(out, full);
        } else if (wcsncmp(full, L"\\\\", 2) == 0) {
                wcscpy(out, LONG_UNC);
                wcscat(out, full + 2);
        } else {
                wcscpy(out, LONG_PREFIX);
                wcscat(out, full);
        }
        free(full);
        return out;
}

/* 0, or -1 with *e. */
static int resolve(const char *path, struct place *out, struct file_error *e)
{
        wchar_t *wide = pl_wide(path);

        *out = (struct place){0};
        if (wide == NULL)
                return fail(e, "CreateFileW", errno, 0);
        if (wcsncmp(wide, LONG_PREFIX, 4) == 0) {
                out->path = wide;
        } else {
                out->path = full_name(wide);
                free(wide);
                if (out->path == NULL)
                        return fail(e, "GetFullPathNameW", ENOMEM, 0);
        }
        if (wcsncmp(out->path, LONG_PREFIX, 4) == 0) {
                out->drive = drive_of(out->path + 4);
                if (is_file_name(out->path + 4, out->drive))
                        return 0;
        }
        free(out->path);
        return fail(e, "CreateFileW", ENOTSUP, 0);
}

/* ---- identity ---- */

/* One to one, and 0 stays 0. */
static uint64_t mix(uint64_t x)
{
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
        x = (x ^ x >> 27) * 0x94d049bb133111ebu;
        return x ^ x >> 31;
}

static bool identity_of(HANDLE h, struct file_identity *out)
{
        BY_HANDLE_FILE_INFORMATION old;
        FILE_ID_INFO info;
        uint64_t half[2];

        if (GetFileInformationByHandleEx(h, FileIdInfo, &info, sizeof info)) {
                memcpy(half, info.FileId.Identifier, sizeof half);
                *out = (struct file_identity){.device = info.VolumeSerialNumber ^ mix(half[1]), .inode = half[0]};
                return true;
        }
        /* File systems that have but 64 bits do not all answer that. */
        if (!GetFileInformationByHandle(h, &old))
                return false;
        *out = (struct file_identity){.device = old.dwVolumeSerialNumber, .inode = (uint64_t)old.nFileIndexHigh << 32 | old.nFileIndexLow};
        return true;
}

static int stat_place(const struct place *p, struct file_identity *id, struct file_error *e)
{
        HANDLE h = CreateFileW(p->path, FILE_READ_ATTRIBUTES, SHARE_ALL, NULL, OPEN_EXISTING, OPEN_FLAGS, NULL);
        int r = 0;

        if (h == INVALID_HANDLE_VALUE)
                return fail_last(e, "CreateFileW");
        if (!identity_of(h, id))
                r = fail_last(e, "GetFileInformationByHandle");
        CloseHandle(h);
        return r;
}

int file_stat(const char *path, struct file_identity *id, struct file_error *e)
{
        struct place p;
        int r = resolve(path, &p, e);

        if (r == 0) {
                r = stat_place(&p, id, e);
                free(p.path);
        }
        return r;
}

/* ---- without waiting for anybody ---- */

void file_end_glance(void)
{
        /* It has left nothing open. */
}

/* A link in a local folder that leads to another machine is followed all the same: nothing tells of it before. */
enum file_place file_glance(struct mounts *m, const char *path, struct file_identity *id, struct file_error *e)
{
        enum file_place where = FILE_LOCAL;
        struct place p;

        if (resolve(path, &p, e) != 0)
                return FILE_BAD;
        if (!mounts_is_local(m, (uint64_t)p.drive, 0))
                where = FILE_AWAY;
        else if (stat_place(&p, id, e) != 0)
                where = e->error == ENOENT ? FILE_MISSING : FILE_BAD;
        free(p.path);
        return where;
}

int file_way(struct mounts *m, const char *path, const char **rest)
{
        (void)m;
        (void)path;
        (void)rest;
        return -1;      /* what is local is never away */
}

void file_walk(int folder, const char *rest)
{
        (void)folder;
        (void)rest;
}

/* The path by which the system knows it, in a new string. */
static wchar_t *final_name(HANDLE h)
{
        wchar_t *name = malloc(PATH_UNITS * sizeof *name);
        DWORD len;

        if (name == NULL)
                return NULL;
        len = GetFinalPathNameByHandleW(h, name, PATH_UNITS, FILE_NAME_NORMALIZED | VOLUME_NAME_DOS);
        if (len > 0 && len < PATH_UNITS)
                return name;
        free(name);
        return NULL;
}

bool file_is_local(struct mounts *m, int fd, const struct file_identity *known)
{
        FILE_REMOTE_PROTOCOL_INFO remote;
        bool local = false;
        wchar_t *name;

        (void)known;
        if (GetFileInformationByHandleEx(pl_int_handle(fd), FileRemoteProtocolInfo, &remote, sizeof remote))
                return false;
        name = final_name(pl_int_handle(fd));
        if (name != NULL && wcsncmp(name, LONG_PREFIX, 4) == 0)
                local = mounts_is_local(m, (uint64_t)drive_of(name + 4), 0);
        free(name);
        return local;
}

/* ---- */

int file_open(const char *path, bool create, const struct file_identity *glanced, struct file_identity *id, struct file_error *e)
{
        struct place p;
        HANDLE h;

        (void)glanced;
        if (resolve(path, &p, e) != 0)
                return -1;
        h = CreateFileW(p.path, GENERIC_READ, SHARE_ALL, NULL, create ? OPEN_ALWAYS : OPEN_EXISTING, OPEN_FLAGS, NULL);
        if (h == INVALID_HANDLE_VALUE)
                fail_last(e, "CreateFileW");
        free(p.path);
        if (h == INVALID_HANDLE_VALUE)
                return -1;
        if (GetFileType(h) != FILE_TYPE_DISK) {
                CloseHandle(h);
                return fail(e, "CreateFileW", ENOTSUP, 0);
        }
        if (!identity_of(h, id)) {
                fail_last(e, "GetFileInformationByHandle");
                CloseHandle(h);
                return -1;
        }
        return pl_handle_int(h);
}

void file_close(int fd)
{
        /* The system would unlock it as well, but only "when resources permit". */
        oslock_unlock(fd);
        CloseHandle(pl_int_handle(fd));
}

int file_reopen(int fd, struct file_error *e)
{
        HANDLE h = ReOpenFile(pl_int_handle(fd), GENERIC_READ, SHARE_ALL, FILE_FLAG_BACKUP_SEMANTICS);

        return h != INVALID_HANDLE_VALUE ? pl_handle_int(h) : fail_last(e, "ReOpenFile");
}

int file_identify(int fd, struct file_identity *id, struct file_error *e)
{
        return identity_of(pl_int_handle(fd), id) ? 0 : fail_last(e, "GetFileInformationByHandle");
}

/* No client passes handles, so no two of ours are one description. */

enum file_comparing file_comparing(void)
{
        return FILE_EQUALITY;
}

int file_compare_descriptions(int a, int b)
{
        return a < b ? -1 : a > b;
}

bool file_same_description(int a, int b)
{
        return a == b;
}

void file_path(int fd, char *out, size_t size)
{
        wchar_t *name = final_name(pl_int_handle(fd)), *from = name;
        char *narrow = NULL;
        size_t len;

        out[0] = '\0';
        if (name == NULL)
                return;
        if (wcsncmp(name, LONG_UNC, wcslen(LONG_UNC)) == 0) {
                from = name + wcslen(LONG_UNC) - 2;
                from[0] = L'\\';        /* \\server\share */
        } else if (wcsncmp(name, LONG_PREFIX, 4) == 0) {
                from = name + 4;
        }
        narrow = pl_narrow(from);
        free(name);
        if (narrow == NULL)
                return;
        len = strlen(narrow);
        if (len >= size) {
                len = size - 1;
                while (len > 0 && ((unsigned char)narrow[len] & 0xc0) == 0x80)
                        len--;          /* not within a character */
        }
        memcpy(out, narrow, len);
        out[len] = '\0';
        free(narrow);
}

size_t file_limit_raise(void)
{
        return C_LIBRARY_FILES;
}
