/*
 * The command, in a job: the system ends what is in it when we have ended, however that came, for a lock that is gone guards nobody. A program that
 * asks to leave the job (CREATE_BREAKAWAY_FROM_JOB) may: a daemon that the command's library starts is not the command's.
 *
 * On Unix the command inherits the lock, and so does what it leaves running. Here the lock is ours, so we wait for all of that, unless -o says that the lock
 * is not theirs: then they may run on without it.
 */
#include "internal.h"
#include "lookup.h"
#include "text.h"

#include "../../os.h"

#include <errno.h>
#include <stdlib.h>

#ifndef PROC_THREAD_ATTRIBUTE_JOB_LIST          /* for those who build for Windows 10 and no other */
#define PROC_THREAD_ATTRIBUTE_JOB_LIST 0x0002000d
#endif

static struct {
        HANDLE job, process;
        DWORD id;
        bool lock_is_ours_alone;        /* -o */
        bool ended;
        DWORD code;
} command;

static bool limit_job(HANDLE job, DWORD flags)
{
        JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits = {.BasicLimitInformation = {.LimitFlags = flags}};

        return SetInformationJobObject(job, JobObjectExtendedLimitInformation, &limits, sizeof limits) != 0;
}

static HANDLE make_job(void)
{
        HANDLE job = CreateJobObjectW(NULL, NULL);

        if (job == NULL || limit_job(job, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE | JOB_OBJECT_LIMIT_BREAKAWAY_OK))
                return job;
        CloseHandle(job);
        return NULL;
}

/* ---- what it is started with ---- */

/* The system keeps pointers into it until the process is made. */
struct start {
        STARTUPINFOEXW info;
        HANDLE inherited[3];
        DWORD count;
};

/* Ours, as it is: also one that whoever started us did not mean for others. */
static HANDLE give(struct start *s, DWORD which)
{
        HANDLE h = GetStdHandle(which);
        DWORD i;

        if (h == NULL || h == INVALID_HANDLE_VALUE || !SetHandleInformation(h, HANDLE_FLAG_INHERIT, HANDLE_FLAG_INHERIT))
                return h;
        for (i = 0; i < s->count && s->inherited[i] != h; i++)
                ;
        if (i == s->count)      /* the list takes each once */
                s->inherited[s->count++] = h;
        return h;
}

/* These handles and no others; and it is born into the job, so that it cannot be left outside if we are killed. 0 or GetLastError(). */
static DWORD prepare(struct start *s)
{
        SIZE_T size = 0;
        DWORD error;

        *s = (struct start){.info.StartupInfo = {.cb = sizeof s->info, .dwFlags = STARTF_USESTDHANDLES}};
        s->info.StartupInfo.hStdInput = give(s, STD_INPUT_HANDLE);
        s->info.StartupInfo.hStdOutput = give(s, STD_OUTPUT_HANDLE);
        s->info.StartupInfo.hStdError = give(s, STD_ERROR_HANDLE);
        InitializeProcThreadAttributeList(NULL, 2, 0, &size);
        s->info.lpAttributeList = malloc(size);
        if (s->info.lpAttributeList == NULL)
                return ERROR_OUTOFMEMORY;
        if (!InitializeProcThreadAttributeList(s->info.lpAttributeList, 2, 0, &size)) {
                error = GetLastError();
                free(s->info.lpAttributeList);
                return error;
        }
        if (s->count > 0 &&
            !UpdateProcThreadAttribute(s->info.lpAttributeList, 0, PROC_THREAD_ATTRIBUTE_HANDLE_LIST, s->inherited, s->count * sizeof s->inherited[0], NULL, NULL)) {
                error = GetLastError();
                DeleteProcThreadAttributeList(s->info.lpAttributeList);
                free(s->info.lpAttributeList);
                return error;
        }
        /* Not before Windows 10: then start() does it. */
        (void)UpdateProcThreadAttribute(s->info.lpAttributeList, 0, PROC_THREAD_ATTRIBUTE_JOB_LIST, &command.job, sizeof command.job, NULL, NULL);
        return ERROR_SUCCESS;
}

static DWORD create(const struct launch *l, PROCESS_INFORMATION *p)
{
        struct start s;
        DWORD error = prepare(&s);

        if (error != ERROR_SUCCESS)
                return error;
        if (!CreateProcessW(l->program, l->line, NULL, NULL, s.count > 0, CREATE_SUSPENDED | EXTENDED_STARTUPINFO_PRESENT, NULL, NULL, &s.info.StartupInfo, p))
                error = GetLastError();
        DeleteProcThreadAttributeList(s.info.lpAttributeList);
        free(s.info.lpAttributeList);
        return error;
}

static bool put_into_job(HANDLE process)
{
        BOOL is_there;

        return (IsProcessInJob(process, command.job, &is_there) && is_there) || AssignProcessToJobObject(command.job, process);
}

/* It does not run before it is in the job. 0 or errno. */
static int start(const struct launch *l)
{
        PROCESS_INFORMATION p;
        int error;

        console_is_ours(false);
        error = pl_errno_of(create(l, &p));
        if (error != 0) {
                console_is_ours(true);
                return error;
        }
        if (!put_into_job(p.hProcess)) {
                error = pl_errno_of(GetLastError());
                TerminateProcess(p.hProcess, 1);
                CloseHandle(p.hThread);
                CloseHandle(p.hProcess);
                return error;
        }
        ResumeThread(p.hThread);
        CloseHandle(p.hThread);
        command.process = p.hProcess;
        command.id = p.dwProcessId;
        return 0;
}

static char shell_switch[] = "/c";      /* argv[1], by its address: what follows is a line, not an argument */

void os_shell(char *line, char *argv[4])
{
        static char shell[] = "cmd";

        argv[0] = shell;        /* as it is called in lists; COMSPEC says which one it is */
        argv[1] = shell_switch;
        argv[2] = line;
        argv[3] = NULL;
}

int64_t os_spawn(char **argv, int keep)
{
        struct launch l;
        int error = argv[1] == shell_switch ? find_shell_line(argv[2], &l) : find_command_line(argv, &l);

        (void)keep;
        if (error != 0)
                return -error;
        command.job = make_job();
        error = command.job != NULL ? start(&l) : EAGAIN;
        free(l.program);
        free(l.line);
        return error != 0 ? -error : (int64_t)command.id;
}

/* It is not, in the sense of Unix; but the command may be meant to be under the lock with all that it starts. */
void os_set_inherited(int fd, bool inherited)
{
        (void)fd;
        command.lock_is_ours_alone = !inherited;
}

HANDLE command_process(void)
{
        return command.process;
}

static DWORD running(void)
{
        JOBOBJECT_BASIC_ACCOUNTING_INFORMATION info;

        return QueryInformationJobObject(command.job, JobObjectBasicAccountingInformation, &info, sizeof info, NULL) ? info.ActiveProcesses : 0;
}

bool command_left_something(void)
{
        return command.ended;
}

bool command_has_ended(bool interrupted, int *code)
{
        if (!command.ended && WaitForSingleObject(command.process, 0) == WAIT_OBJECT_0)
                command.ended = GetExitCodeProcess(command.process, &command.code) != 0;
        if (!command.ended)
                return false;
        if (interrupted)
                TerminateJobObject(command.job, command.code);
        else if (command.lock_is_ours_alone)
                limit_job(command.job, JOB_OBJECT_LIMIT_BREAKAWAY_OK);
        else if (running() > 0)
                return false;
        *code = (int)command.code;
        return true;
}

void os_kill(int64_t child, int signal_number)
{
        if (child > 0)
                TerminateJobObject(command.job, 128 + (UINT)signal_number);
}

/* Nobody can be asked to end here: a console program would have to be in a group of its own, and get no Ctrl-C from the keyboard then. */
void os_end_command(int64_t child, bool at_once)
{
        (void)at_once;
        os_kill(child, 15);
}

void os_set_variable(const char *name, const char *value)
{
        wchar_t *wide_name = pl_wide(name), *wide = pl_wide(value);

        if (wide_name != NULL && wide != NULL)
                SetEnvironmentVariableW(wide_name, wide);
        free(wide_name);
        free(wide);
}

/* ---- never asked: run refuses what is about descriptors ---- */

int os_exec(char **argv, const int *keep, size_t count)
{
        (void)argv;
        (void)keep;
        (void)count;
        return -ENOTSUP;
}

bool os_is_inherited(int fd)
{
        (void)fd;
        return false;
}
