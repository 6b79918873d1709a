/* Sessions in an event loop whose daemon dies: what they saw, and turns until something has come true. After cmocka.h. */
#ifndef RESTARTS_H
#define RESTARTS_H

#include "client_fixture.h"

#include <stdint.h>

#define PATIENCE_MS 20000

struct seen {
        int lost, gone, back, events;
        char by[64], event[32];
};

struct result {
        int count, result;
        int64_t at;     /* the how manieth of all */
};

int64_t now_ms(void);
/* What happens to the session is noted from now on. */
void look(portalock_session *s, struct seen *seen);
/* For portalock_lock_start() and portalock_unlock_start(): into a struct result. */
void on_done(void *arg, portalock_file *f, int result);
/* One turn of all sessions, as an event loop has it. None of them may end. */
void turn(portalock_session *const *sessions, int count);
/* Kill the daemon of `s`, and await its end. */
void kill_daemon(portalock_session *s);
/* How many wait for any file, as the daemon of `s` sees it. */
int waiting(portalock_session *s);

#define UNTIL(condition, sessions, count)                                                                                                                      \
        do {                                                                                                                                                   \
                int64_t until = now_ms() + PATIENCE_MS;                                                                                                        \
                                                                                                                                                               \
                while (!(condition)) {                                                                                                                         \
                        if (now_ms() > until)                                                                                                                  \
                                fail_msg("never came true: %s", #condition);                                                                                   \
                        turn(sessions, count);                                                                                                                 \
                }                                                                                                                                              \
        } while (0)

#endif
