/*
 * An outsider: locks a file as recipe 65203 does on Windows, by LockFileEx on offset 0 with length (0, 0xFFFF0000), and knows nothing of portalock.
 *
 *   recipe FILE FLAG...   FLAG: EX, SH, EX_NB, SH_NB, or UN
 *
 * The flags are carried out in turn on one handle; each is answered by a line, "FLAG ok" or "FLAG refused CODE" (with EX and SH "FLAG asked" comes before). Then
 * the file stays open until standard input ends.
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <windows.h>

#define LENGTH_LOW 0
#define LENGTH_HIGH 0xffff0000u

static void carry_out(HANDLE file, const char *flag)
{
        bool blocks = strstr(flag, "_NB") == NULL;
        DWORD how = (strncmp(flag, "EX", 2) == 0 ? LOCKFILE_EXCLUSIVE_LOCK : 0) | (blocks ? 0 : LOCKFILE_FAIL_IMMEDIATELY);
        OVERLAPPED at = {.Offset = 0};
        BOOL ok;

        if (blocks && strcmp(flag, "UN") != 0)
                printf("%s asked\n", flag);
        fflush(stdout);
        ok = strcmp(flag, "UN") == 0 ? UnlockFileEx(file, 0, LENGTH_LOW, LENGTH_HIGH, &at) : LockFileEx(file, how, 0, LENGTH_LOW, LENGTH_HIGH, &at);
        if (ok)
                printf("%s ok\n", flag);
        else
                printf("%s refused %lu\n", flag, GetLastError());
        fflush(stdout);
}

int main(int argc, char **argv)
{
        HANDLE file;
        int i;

        if (argc < 3)
                return 64;
        /* As Python's open(FILE, "r+") does. */
        file = CreateFileA(argv[1], GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, OPEN_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
        if (file == INVALID_HANDLE_VALUE)
                return 66;
        for (i = 2; i < argc; i++)
                carry_out(file, argv[i]);
        while (getchar() != EOF)
                ;
        return 0;
}
