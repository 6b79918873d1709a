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

void process_tell(int fd, const char *text)
{
        (void)!write(fd, text, strlen(text));
        close(fd);
}
