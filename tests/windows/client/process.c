#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "process.h"

#include <stdio.h>
#include <string.h>

#define PATIENCE_MS 20000

static void pipe_pair(HANDLE *ours, HANDLE *theirs, int we_read)
{
        SECURITY_ATTRIBUTES inherited = {.nLength = sizeof inherited, .bInheritHandle = TRUE};

        assert_true(CreatePipe(we_read ? ours : theirs, we_read ? theirs : ours, &inherited, 0));
        assert_true(SetHandleInformation(*ours, HANDLE_FLAG_INHERIT, 0));
}

struct process process_start(const char *role, const char *path)
{
        STARTUPINFOA startup = {.cb = sizeof startup, .dwFlags = STARTF_USESTDHANDLES};
        char self[MAX_PATH], line[2 * MAX_PATH];
        PROCESS_INFORMATION info;
        struct process p;

        assert_true(GetModuleFileNameA(NULL, self, MAX_PATH) > 0);
        snprintf(line, sizeof line, "\"%s\" %s \"%s\"", self, role, path);
        pipe_pair(&p.from, &startup.hStdOutput, 1);
        pipe_pair(&p.to, &startup.hStdInput, 0);
        startup.hStdError = GetStdHandle(STD_ERROR_HANDLE);
        assert_true(CreateProcessA(NULL, line, NULL, NULL, TRUE, 0, NULL, NULL, &startup, &info));
        CloseHandle(startup.hStdOutput);
        CloseHandle(startup.hStdInput);
        CloseHandle(info.hThread);
        p.process = info.hProcess;
        p.pid = info.dwProcessId;
        return p;
}

static void await_byte(struct process *p)
{
        ULONGLONG until = GetTickCount64() + PATIENCE_MS;
        DWORD available = 0;

        /* An anonymous pipe cannot be waited for with a time. */
        while (PeekNamedPipe(p->from, NULL, 0, NULL, &available, NULL) && available == 0) {
                assert_true(GetTickCount64() < until);
                Sleep(1);
        }
}

void process_line(struct process *p, char *line, size_t size)
{
        DWORD n;
        char c;

        for (line[0] = '\0';;) {
                await_byte(p);
                assert_true(ReadFile(p->from, &c, 1, &n, NULL) && n == 1);
                if (c == '\n')
                        return;
                if (c == '\r')
                        continue;
                assert_true(strlen(line) + 1 < size);
                line[strlen(line) + 1] = '\0';
                line[strlen(line)] = c;
        }
}

static int reap(struct process *p)
{
        DWORD code;

        assert_int_equal(WaitForSingleObject(p->process, PATIENCE_MS), WAIT_OBJECT_0);
        assert_true(GetExitCodeProcess(p->process, &code));
        CloseHandle(p->process);
        CloseHandle(p->from);
        if (p->to != NULL)
                CloseHandle(p->to);
        return (int)code;
}

void process_kill(struct process *p)
{
        assert_true(TerminateProcess(p->process, 9));
        assert_int_equal(reap(p), 9);
}

int process_end(struct process *p)
{
        CloseHandle(p->to);
        p->to = NULL;
        return reap(p);
}

void role_say(const char *line)
{
        puts(line);
        fflush(stdout);
}

void role_wait(void)
{
        while (getchar() != EOF)
                ;
}

void kill_pid(int64_t pid)
{
        HANDLE h = OpenProcess(PROCESS_TERMINATE | SYNCHRONIZE, FALSE, (DWORD)pid);

        assert_non_null(h);
        assert_true(TerminateProcess(h, 9));
        assert_int_equal(WaitForSingleObject(h, PATIENCE_MS), WAIT_OBJECT_0);
        CloseHandle(h);
}
