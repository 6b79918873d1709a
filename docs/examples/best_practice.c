/* The recipe's best practice, in C: do not wait for a lock; do some other work, then try again later; unlock in the end. */
#include <portalock.h>

#include <stdio.h>

static void do_some_other_work(const portalock_session *s)
{
        const struct portalock_error_info *e = portalock_error(s);

        if (e->holder_count > 0)
                printf("busy: %s[%lld] has it; doing some other work\n", e->holders[0].command, (long long)e->holders[0].pid);
        else
                printf("busy; doing some other work\n");
        fflush(stdout);
        getchar();      /* the other work of this example: read a character */
}

int main(int argc, char **argv)
{
        const char *path = argc > 1 ? argv[1] : "somefile";
        portalock_session *s;
        portalock_file *f;
        int e = portalock_connect("best_practice", 0, &s);

        if (e == 0)
                e = portalock_open(s, path, &f);
        if (e != 0) {
                fprintf(stderr, "%s: %s\n", path, portalock_error(s)->text);
                portalock_disconnect(s);
                return 1;
        }
        while ((e = portalock_lock(f, PORTALOCK_EX | PORTALOCK_NB, -1)) == PORTALOCK_E_LOCK_FAILED)
                do_some_other_work(s);
        if (e == 0) {
                printf("locked\n");
                portalock_unlock(f);
        } else {
                fprintf(stderr, "%s: %s\n", path, portalock_error(s)->text);
        }
        portalock_close(f);
        portalock_disconnect(s);
        return e == 0 ? 0 : 1;
}
