#include "process.h"

#include "pipe.h"
#include "text.h"

#include <fcntl.h>
#include <io.h>
#include <shellapi.h>
#include <stdlib.h>
#include <string.h>

void process_begin(void)
{
        int fd;

        /* No window may ask anybody anything. */
        SetErrorMode(SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX | SEM_NOOPENFILEERRORBOX);
        /* libuv keeps its hands off numbers 0 to 2 of the C library: connections must not get them. */
        do
                fd = _open("NUL", _O_RDWR | _O_NOINHERIT);
        while (fd >= 0 && fd <= 2);
        if (fd > 2)
                _close(fd);
}

/* What main() is given is in an old encoding that lacks most characters. Lives as long as the process. */
char **process_arguments(int *argc, char **argv)
{
        wchar_t **wide = CommandLineToArgvW(GetCommandLineW(), argc);
        char **out = NULL;
        int i;

        (void)argv;
        if (wide != NULL)
                out = calloc((size_t)*argc + 1, sizeof *out);
        for (i = 0; out != NULL && i < *argc; i++) {
                out[i] = pl_narrow(wide[i]);
                if (out[i] == NULL)
                        return NULL;
        }
        LocalFree(wide);
        return out;
}

bool process_adopt(int fd)
{
        HANDLE h = pl_int_handle(fd);

        /* The system opens some for itself before we begin, and takes no notice of the last two bits. */
        return (fd & 3) == 0 && GetFileType(h) != FILE_TYPE_UNKNOWN && SetHandleInformation(h, HANDLE_FLAG_INHERIT, 0);
}

void process_ends(void)
{
        /* There is nothing to do: a console's event only asks the loop, which is over. */
}

void process_tell(int fd, const char *text)
{
        DWORD written;

        (void)WriteFile(pl_int_handle(fd), text, (DWORD)strlen(text), &written, NULL);
        CloseHandle(pl_int_handle(fd));
}
