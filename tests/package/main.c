/* Somebody else's program: holds the lock of the file that its argument names for as long as one line takes. */
#include <portalock.h>

#include <stdio.h>

int main(int argc, char **argv)
{
        portalock_session *s;
        portalock_file *f;
        int e = argc == 2 ? portalock_connect("outside", 0, &s) : PORTALOCK_E_ARGUMENT;

        if (e != 0) {
                fprintf(stderr, "%s\n", portalock_strerror(e));
                return 1;
        }
        e = portalock_open(s, argv[1], &f);
        if (e == 0)
                e = portalock_lock(f, PORTALOCK_EX | PORTALOCK_NB, 0);
        if (e == 0)
                printf("locked, token %lld, daemon %s\n", (long long)portalock_token(f), portalock_daemon_version(s));
        else
                fprintf(stderr, "%s: %s\n", argv[1], portalock_error(s)->text);
        portalock_close(f);
        portalock_disconnect(s);
        return e == 0 ? 0 : 1;
}
