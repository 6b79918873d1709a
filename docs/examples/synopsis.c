/* The synopsis of ActiveState recipe 65203, in C: lock a file, write into it, close it; the lock ends with the descriptor. */
#include <portalock.h>

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
        const char *path = argc > 1 ? argv[1] : "somefile";
        int fd = open(path, O_RDWR | O_CREAT, 0666), e;

        if (fd < 0) {
                perror(path);
                return 1;
        }
        e = portalock_lock_fd(fd, PORTALOCK_EX);
        if (e != 0) {
                fprintf(stderr, "%s: %s\n", path, portalock_strerror(e));
                return 1;
        }
        lseek(fd, 12, SEEK_SET);
        if (write(fd, "foo", 3) != 3) {
                perror(path);
                return 1;
        }
        return close(fd) == 0 ? 0 : 1;
}
