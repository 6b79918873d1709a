/* Prints its arguments, a line each, in brackets and as UTF-8; NAME= prints that variable instead. The exit code is the number of arguments. */
#include <stdio.h>
#include <string.h>
#include <wchar.h>
#include <windows.h>

int wmain(int argc, wchar_t **argv);

static void print(const wchar_t *text)
{
        char narrow[4096];

        if (WideCharToMultiByte(CP_UTF8, 0, text, -1, narrow, sizeof narrow, NULL, NULL) > 0)
                printf("[%s]\n", narrow);
}

int wmain(int argc, wchar_t **argv)
{
        wchar_t value[4096];
        size_t len;
        int i;

        for (i = 1; i < argc; i++) {
                len = wcslen(argv[i]);
                if (len > 0 && argv[i][len - 1] == L'=') {
                        argv[i][len - 1] = L'\0';
                        print(GetEnvironmentVariableW(argv[i], value, 4096) > 0 ? value : L"");
                } else {
                        print(argv[i]);
                }
        }
        return argc - 1;
}
