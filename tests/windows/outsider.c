/*
 * A program that never heard of portalock: locks a file exactly as the portalocker recipe does on nt.
 *
 *      outsider PATH EX|SH [NB]
 *
 * Prints "locked" when it has the lock, and has it until its input ends; then prints "unlocked" and exits with 0. 1: LOCK_NB, and somebody has it.
 */
#include <stdio.h>
#include <string.h>
#include <windows.h>

#define LENGTH_LOW 0
#define LENGTH_HIGH 0xffff0000u /* the recipe's -0x10000 */

int wmain(int argc, wchar_t **argv);    /* no header has it */

int wmain(int argc, wchar_t **argv)
{
        OVERLAPPED where = {0};
        DWORD flags = 0, n;
        HANDLE file;
        char byte;

        if (argc < 3) {
                fprintf(stderr, "usage: outsider PATH EX|SH [NB]\n");
                return 64;
        }
        if (wcscmp(argv[2], L"EX") == 0)
                flags |= LOCKFILE_EXCLUSIVE_LOCK;
        if (argc > 3 && wcscmp(argv[3], L"NB") == 0)
                flags |= LOCKFILE_FAIL_IMMEDIATELY;
        /* As open(path, "r+") of the C library does. */
        file = CreateFileW(argv[1], GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, OPEN_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
        if (file == INVALID_HANDLE_VALUE) {
                fprintf(stderr, "outsider: open: %lu\n", GetLastError());
                return 2;
        }
        if (!LockFileEx(file, flags, 0, LENGTH_LOW, LENGTH_HIGH, &where)) {
                if (GetLastError() == ERROR_LOCK_VIOLATION)
                        return 1;
                fprintf(stderr, "outsider: LockFileEx: %lu\n", GetLastError());
                return 2;
        }
        printf("locked\n");
        fflush(stdout);
        while (ReadFile(GetStdHandle(STD_INPUT_HANDLE), &byte, 1, &n, NULL) && n == 1)
                ;
        if (!UnlockFileEx(file, 0, LENGTH_LOW, LENGTH_HIGH, &where)) {
                fprintf(stderr, "outsider: UnlockFileEx: %lu\n", GetLastError());
                return 2;
        }
        printf("unlocked\n");
        return 0;
}
