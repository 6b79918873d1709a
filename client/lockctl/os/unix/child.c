/* The command: spawned as a direct child that inherits what it shall, or executed in our place. */
#include "../../os.h"

#include "events.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static int spawn_program(const char *program, char **argv, int keep, pid_t *pid)
{
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attr;
        sigset_t defaults;
        int error;

        error = posix_spawn_file_actions_init(&actions);
        if (error != 0)
                return error;
        error = posix_spawnattr_init(&attr);
        if (error != 0) {
                posix_spawn_file_actions_destroy(&actions);
                return error;
        }
        sigemptyset(&defaults);
        sigaddset(&defaults, SIGCHLD);
        posix_spawnattr_setsigdefault(&attr, &defaults);
        posix_spawnattr_setsigmask(&attr, os_signal_mask());
        posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
        if (keep >= 0)
                error = posix_spawn_file_actions_adddup2(&actions, keep, keep); /* onto itself: clears its close-on-exec */
        if (error == 0)
                error = posix_spawnp(pid, program, &actions, &attr, argv, environ);
        posix_spawnattr_destroy(&attr);
        posix_spawn_file_actions_destroy(&actions);
        return error;
}

/* A script without a first line that names its interpreter: posix_spawnp() leaves to the caller what execvp() gives to the shell. */
static int spawn_script(char **argv, int keep, pid_t *pid)
{
        static char sh[] = "sh", c[] = "-c", text[] = "exec \"$0\" \"$@\"";
        char **longer;
        size_t count = 0;
        int error;

        while (argv[count] != NULL)
                count++;
        longer = calloc(count + 4, sizeof *longer);
        if (longer == NULL)
                return ENOMEM;
        longer[0] = sh;
        longer[1] = c;
        longer[2] = text;
        memcpy(longer + 3, argv, count * sizeof *argv);
        error = spawn_program("/bin/sh", longer, keep, pid);
        free(longer);
        return error;
}

void os_shell(char *line, char *argv[4])
{
        static char sh[] = "/bin/sh", c[] = "-c";
        char *shell = getenv("SHELL");

        argv[0] = shell != NULL && shell[0] != '\0' ? shell : sh;
        argv[1] = c;
        argv[2] = line;
        argv[3] = NULL;
}

int64_t os_spawn(char **argv, int keep)
{
        pid_t pid = -1;
        int error = spawn_program(argv[0], argv, keep, &pid);

        if (error == ENOEXEC)
                error = spawn_script(argv, keep, &pid);
        return error != 0 ? -error : pid;
}

bool os_is_inherited(int fd)
{
        int flags = fcntl(fd, F_GETFD);

        return flags >= 0 && (flags & FD_CLOEXEC) == 0;
}

void os_set_inherited(int fd, bool inherited)
{
        (void)fcntl(fd, F_SETFD, inherited ? 0 : FD_CLOEXEC);
}

int os_exec(char **argv, const int *keep, size_t count)
{
        size_t i;

        for (i = 0; i < count; i++) {
                if (keep[i] >= 0)
                        os_set_inherited(keep[i], true);
        }
        os_release_signals();
        execvp(argv[0], argv);
        return -errno;
}

void os_set_variable(const char *name, const char *value)
{
        setenv(name, value, 1);
}

void os_end_command(int64_t child, bool at_once)
{
        os_kill(child, at_once ? SIGKILL : SIGTERM);
}

void os_kill(int64_t child, int signal_number)
{
        if (child > 0)
                (void)kill((pid_t)child, signal_number);
}
