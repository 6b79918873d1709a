/* A folder, a daemon that the library starts by itself, and two sessions of it: for tests of libportalock. After cmocka.h. */
#ifndef CLIENT_FIXTURE_H
#define CLIENT_FIXTURE_H

#include "portalock.h"

#include <stdbool.h>

struct fixture {
        char folder[64], path[96], socket[96], other_socket[96];        /* `path` and `other_socket` do not exist yet */
        portalock_session *a, *b;       /* "first", "second" */
};

int set_up(void **state);
int set_up_without_reconnect(void **state);     /* for sessions that end with their daemon */
int tear_down(void **state);    /* both sessions must be there still, whatever their state */

/* Tell the daemon on that socket to stop, if there is one, and wait until it has ended. */
void stop_daemon(const char *socket);
void await_end_of_daemon(const char *socket);
portalock_file *open_file(portalock_session *s, const char *path);
/* Can the kernel's lock on an existing file be had now? */
bool is_free(const char *path);

#endif
