#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <windows.h>

wchar_t *pl_wide(const char *text)
{
        int count = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, -1, NULL, 0);
        wchar_t *wide;

        if (count <= 0) {
                errno = EILSEQ;
                return NULL;
        }
        wide = malloc((size_t)count * sizeof *wide);
        if (wide == NULL) {
                errno = ENOMEM;
                return NULL;
        }
        MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, -1, wide, count);
        return wide;
}

char *pl_narrow(const wchar_t *text)
{
        int count = WideCharToMultiByte(CP_UTF8, WC_ERR_INVALID_CHARS, text, -1, NULL, 0, NULL, NULL);
        char *narrow;

        if (count <= 0) {
                errno = EILSEQ;
                return NULL;
        }
        narrow = malloc((size_t)count);
        if (narrow == NULL) {
                errno = ENOMEM;
                return NULL;
        }
        WideCharToMultiByte(CP_UTF8, WC_ERR_INVALID_CHARS, text, -1, narrow, count, NULL, NULL);
        return narrow;
}

int pl_errno_of(unsigned long error)
{
        switch (error) {
        case ERROR_SUCCESS:
                return 0;
        case ERROR_FILE_NOT_FOUND:
        case ERROR_PATH_NOT_FOUND:
        case ERROR_BAD_PATHNAME:
        case ERROR_BAD_NETPATH:
        case ERROR_BAD_NET_NAME:
        case ERROR_INVALID_DRIVE:
                return ENOENT;
        case ERROR_ACCESS_DENIED:
        case ERROR_SHARING_VIOLATION:
        case ERROR_DELETE_PENDING:
        case ERROR_PRIVILEGE_NOT_HELD:
                return EACCES;
        case ERROR_WRITE_PROTECT:
                return EROFS;
        case ERROR_FILE_EXISTS:
        case ERROR_ALREADY_EXISTS:
                return EEXIST;
        case ERROR_TOO_MANY_OPEN_FILES:
                return EMFILE;
        case ERROR_NOT_ENOUGH_MEMORY:
        case ERROR_OUTOFMEMORY:
        case ERROR_NO_SYSTEM_RESOURCES:
        case ERROR_NOT_ENOUGH_QUOTA:
        case ERROR_COMMITMENT_LIMIT:
                return ENOMEM;
        case ERROR_FILENAME_EXCED_RANGE:
                return ENAMETOOLONG;
        case ERROR_DIRECTORY:
                return ENOTDIR;
        case ERROR_DISK_FULL:
        case ERROR_HANDLE_DISK_FULL:
                return ENOSPC;
        case ERROR_INVALID_HANDLE:
                return EBADF;
        case ERROR_INVALID_NAME:
        case ERROR_INVALID_PARAMETER:
                return EINVAL;
        case ERROR_INVALID_FUNCTION:
        case ERROR_NOT_SUPPORTED:
        case ERROR_CALL_NOT_IMPLEMENTED:
                return ENOTSUP;
        case ERROR_BROKEN_PIPE:
        case ERROR_NO_DATA:
        case ERROR_PIPE_NOT_CONNECTED:
                return EPIPE;
        case ERROR_PIPE_BUSY:
        case ERROR_BUSY:
        case ERROR_LOCK_VIOLATION:
        case ERROR_LOCK_FAILED:
                return EAGAIN;
        default:
                return EIO;
        }
}
