#include "../../os.h"

#include "../../lockctl.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

const char os_help_run[] = "";

int main(int argc, char **argv)
{
        return lockctl_main(argc, argv);
}

bool os_has_descriptors(void)
{
        return true;
}

const char *os_base_name(const char *path)
{
        const char *slash = strrchr(path, '/');

        return slash != NULL && slash[1] != '\0' ? slash + 1 : path;
}

void os_user_name(int64_t uid, char *out, size_t size)
{
        static int64_t last = -1;       /* most of what is listed is one user's, and each look reads the whole of /etc/passwd, or asks a server */
        static char name[64];
        const struct passwd *p;

        if (uid < 0) {
                snprintf(out, size, "-");
                return;
        }
        if (uid != last) {
                p = getpwuid((uid_t)uid);
                if (p != NULL)
                        snprintf(name, sizeof name, "%s", p->pw_name);
                else
                        snprintf(name, sizeof name, "%" PRId64, uid);
                last = uid;
        }
        snprintf(out, size, "%s", name);
}

bool os_is_terminal(int fd)
{
        return isatty(fd) == 1;
}

int os_terminal_width(void)
{
        struct winsize w;

        return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
}

void os_guard_stdio(void)
{
        int fd;

        for (fd = 0; fd <= 2; fd++)
                if (fcntl(fd, F_GETFD) < 0)
                        (void)!open("/dev/null", (fd == 0 ? O_WRONLY : O_RDONLY) | O_CLOEXEC); /* the lowest free one: fd */
}
