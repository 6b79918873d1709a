/* The command: spawned as a direct child that inherits what it shall, or executed in our place. */
#include "../../os.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * Between vfork() and the exec the child borrows our memory while we stand still, so what it changes there is seen here: the error. No handler of ours
 * runs in it: what we catch is blocked until its handlers are the default ones. posix_spawn(3) does the same, but looks at all 64 signals.
 */
static void become_child(char **argv, int keep, volatile int *error)
{
        if (keep >= 0)
                os_set_inherited(keep, true);   /* the descriptor itself is the child's own */
        os_release_signals();
        execvp(argv[0], argv);
        *error = errno;
        _exit(127);
}

/* A pid or -errno. */
static int64_t spawn(char **argv, int keep)
{
        volatile int error = 0;
        pid_t pid = vfork();

        if (pid == 0)
                become_child(argv, keep, &error);
        if (pid < 0)
                return -errno;
        if (error == 0)
                return pid;
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        return -error;
}

/*
 * argv for the shell to run a script without a first line that names its interpreter, to be freed; NULL: no memory. glibc's execvp() does so
 * itself, musl's leaves it to the caller.
 */
static char **as_script(char **argv)
{
        static char sh[] = "/bin/sh", c[] = "-c", text[] = "exec \"$0\" \"$@\"";
        char **longer;
        size_t count = 0;

        while (argv[count] != NULL)
                count++;
        longer = calloc(count + 4, sizeof *longer);
        if (longer == NULL)
                return NULL;
        longer[0] = sh;
        longer[1] = c;
        longer[2] = text;
        memcpy(longer + 3, argv, count * sizeof *argv);
        return longer;
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
        int64_t pid = spawn(argv, keep);
        char **script;

        if (pid != -ENOEXEC)
                return pid;
        script = as_script(argv);
        if (script == NULL)
                return -ENOMEM;
        pid = spawn(script, keep);
        free(script);
        return pid;
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
        if (errno == ENOEXEC) {
                argv = as_script(argv);
                if (argv == NULL)
                        return -ENOMEM;
                execvp(argv[0], argv);
        }
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
