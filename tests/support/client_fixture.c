#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "client_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

int set_up(void **state)
{
        struct fixture *f = calloc(1, sizeof *f);

        snprintf(f->folder, sizeof f->folder, "/tmp/portalock-client-XXXXXX");
        assert_non_null(mkdtemp(f->folder));
        snprintf(f->path, sizeof f->path, "%s/file", f->folder);
        snprintf(f->socket, sizeof f->socket, "%s/socket", f->folder);
        snprintf(f->other_socket, sizeof f->other_socket, "%s/other", f->folder);
        setenv("PORTALOCK_SOCKET", f->socket, 1);
        setenv("XDG_STATE_HOME", f->folder, 1);
        unsetenv("PORTALOCK_NO_SPAWN");
        assert_int_equal(portalock_connect("first", 0, &f->a), 0);      /* starts the daemon */
        assert_int_equal(portalock_connect("second", 0, &f->b), 0);
        *state = f;
        return 0;
}

int set_up_without_reconnect(void **state)
{
        int r;

        setenv("PORTALOCK_RECONNECT_MS", "0", 1);
        r = set_up(state);
        unsetenv("PORTALOCK_RECONNECT_MS");
        return r;
}

void await_end_of_daemon(const char *socket)
{
        char lock[128];
        int fd;

        snprintf(lock, sizeof lock, "%s.lock", socket);
        fd = open(lock, O_RDONLY);
        if (fd < 0)
                return;         /* there never was one */
        assert_int_equal(flock(fd, LOCK_EX), 0);        /* it holds this for life */
        close(fd);
}

void stop_daemon(const char *socket)
{
        portalock_session *s;
        char *json;

        setenv("PORTALOCK_SOCKET", socket, 1);
        if (portalock_connect(NULL, PORTALOCK_CONNECT_NO_SPAWN, &s) == 0) {
                assert_int_equal(portalock_call_wait(s, "stop", "{\"force\":true}", 10000, &json), 0);
                free(json);
        }
        portalock_disconnect(s);
        await_end_of_daemon(socket);
}

int tear_down(void **state)
{
        struct fixture *f = *state;
        char command[128];

        portalock_disconnect(f->a);
        portalock_disconnect(f->b);
        stop_daemon(f->socket);
        snprintf(command, sizeof command, "rm -rf %s", f->folder);
        assert_int_equal(system(command), 0);
        free(f);
        return 0;
}

portalock_file *open_file(portalock_session *s, const char *path)
{
        portalock_file *file;

        assert_int_equal(portalock_open(s, path, &file), 0);
        return file;
}

bool is_free(const char *path)
{
        int fd = open(path, O_RDONLY), r = flock(fd, LOCK_EX | LOCK_NB);

        close(fd);
        return r == 0;
}
