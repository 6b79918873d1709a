#include "descriptions.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char path[64];

void descriptions_begin(void)
{
        snprintf(path, sizeof path, "/tmp/portalock-test-XXXXXX");
        close(mkstemp(path));
}

void descriptions_end(void)
{
        unlink(path);
}

int description_open(void)
{
        return open(path, O_RDONLY | O_CLOEXEC);
}

int description_dup(int fd)
{
        return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

void description_close(int fd)
{
        close(fd);
}

const struct description_system description_system = {.duplicates = true, .threads = true, .retry_max_ms = 1000};
