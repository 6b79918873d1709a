#include "process.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

void process_begin(void)
{
        signal(SIGPIPE, SIG_IGN);
}

char **process_arguments(int *argc, char **argv)
{
        (void)argc;
        return argv;
}

bool process_adopt(int fd)
{
        return fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

void process_ends(void)
{
        sigset_t ends;

        /* Blocked, not ignored: libuv puts back the default, which kills, as its handles close. */
        sigemptyset(&ends);
        sigaddset(&ends, SIGTERM);
        sigaddset(&ends, SIGINT);
        pthread_sigmask(SIG_BLOCK, &ends, NULL);
}

void process_tell(int fd, const char *text)
{
        (void)!write(fd, text, strlen(text));
        close(fd);
}
