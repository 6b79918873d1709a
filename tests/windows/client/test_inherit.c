/* What whoever starts lockctl lets it inherit goes neither to the command nor to the daemon: but for the three standard ones, a handle is nobody else's. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "portalock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

#define PATIENCE_MS 20000
#define FAR_HANDLES 500 /* so that no other handle in the command has the number of ours by chance */

/* In the command: is that number a pipe? */
static int look(const char *number)
{
        return GetFileType((HANDLE)(intptr_t)atoll(number)) == FILE_TYPE_PIPE ? 7 : 3;
}

/* The exit code of the command by lockctl, which inherits all that we have. */
static DWORD run_lockctl(const char *socket, HANDLE inherited)
{
        STARTUPINFOA startup = {.cb = sizeof startup};
        char self[MAX_PATH], line[3 * MAX_PATH];
        PROCESS_INFORMATION info;
        DWORD code;

        SetEnvironmentVariableA("PORTALOCK_SOCKET", socket);
        assert_true(GetModuleFileNameA(NULL, self, MAX_PATH) > 0);
        snprintf(line, sizeof line, "lockctl run \"%s\" \"%s\" look %lld", self, self, (long long)(intptr_t)inherited);
        assert_true(CreateProcessA(getenv("LOCKCTL"), line, NULL, NULL, TRUE, 0, NULL, NULL, &startup, &info));
        assert_int_equal(WaitForSingleObject(info.hProcess, PATIENCE_MS), WAIT_OBJECT_0);
        assert_true(GetExitCodeProcess(info.hProcess, &code));
        CloseHandle(info.hThread);
        CloseHandle(info.hProcess);
        return code;
}

/* All who had its other end are gone. */
static void assert_ends(HANDLE pipe)
{
        ULONGLONG until = GetTickCount64() + PATIENCE_MS;
        DWORD n;

        while (PeekNamedPipe(pipe, NULL, 0, NULL, &n, NULL)) {
                assert_true(GetTickCount64() < until);
                Sleep(1);
        }
        assert_int_equal(GetLastError(), ERROR_BROKEN_PIPE);
}

static void stop_daemon(const char *socket)
{
        portalock_session *s;
        char *json;

        _putenv_s("PORTALOCK_SOCKET", socket);
        assert_int_equal(portalock_connect(NULL, PORTALOCK_CONNECT_NO_SPAWN, &s), 0);   /* it is there */
        if (portalock_call_wait(s, "stop", "{\"force\":true}", 10000, &json) == 0)
                free(json);
        portalock_disconnect(s);
}

static void neither_the_command_nor_the_daemon_has_a_handle_of_lockctls_starter(void **state)
{
        SECURITY_ATTRIBUTES inherited = {.nLength = sizeof inherited, .bInheritHandle = TRUE};
        HANDLE far_ones[FAR_HANDLES], from, to;
        char socket[64];
        int i;

        (void)state;
        snprintf(socket, sizeof socket, "portalock-inherit-%lu", GetCurrentProcessId());
        for (i = 0; i < FAR_HANDLES; i++)
                far_ones[i] = CreateEventA(NULL, TRUE, FALSE, NULL);
        assert_true(CreatePipe(&from, &to, &inherited, 0));
        assert_true(SetHandleInformation(from, HANDLE_FLAG_INHERIT, 0));
        assert_int_equal(run_lockctl(socket, to), 3);
        CloseHandle(to);
        assert_ends(from);
        stop_daemon(socket);
        CloseHandle(from);
        for (i = 0; i < FAR_HANDLES; i++)
                CloseHandle(far_ones[i]);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(neither_the_command_nor_the_daemon_has_a_handle_of_lockctls_starter),
        };

        if (argc == 3 && strcmp(argv[1], "look") == 0)
                return look(argv[2]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
