/* A blocking call is a request plus a wait with a deadline. */
#include "internal.h"

#include <errno.h>
#include <string.h>

void call_begin(struct portalock_session *s, struct pl_writer *w, const char *method)
{
        s->out.len = 0;
        s->out.failed = false;
        pl_request_begin(w, &s->out, ++s->last_id, method);
}

static int broken(struct portalock_session *s)
{
        conn_close(s);
        return client_fail(s, PORTALOCK_E_CONNECTION, "the connection to the daemon broke");
}

/* Take request `id` back. Its answer still comes: CANCELLED, or what had been decided before. */
static void withdraw(struct portalock_session *s, int64_t id)
{
        struct pl_writer w;

        call_begin(s, &w, "cancel");
        pl_write_integer(&w, "id", id);
        pl_reply_end(&w);
        conn_send(s, -1);
}

/* The answer to request `id`, if it is there: 1 with *reply, 0 not yet, negative with the error set. */
static int look(struct portalock_session *s, int64_t id, struct pl_reply *reply)
{
        int r;

        while ((r = conn_next(s, reply)) > 0) {
                if (reply->method == NULL && reply->id == id)
                        return 1;
                if (reply->method == NULL && reply->id == 0 && reply->code != 0)
                        return 1;       /* the daemon does not serve us, and says why */
                pl_reply_clear(reply);
        }
        if (r == 0)
                return 0;
        conn_close(s);
        return client_fail(s, PORTALOCK_E_PROTOCOL, "%.300s: the answer is not one of portalockd", s->address.path);
}

int call_wait(struct portalock_session *s, struct pl_writer *w, int fd, int64_t timeout_ms, const struct interruption *i, struct pl_reply *reply)
{
        int64_t deadline = timeout_ms < 0 ? INT64_MAX : os_now_ms() + timeout_ms;
        int64_t id = s->last_id;
        bool withdrawn = false;
        int r;

        pl_reply_end(w);
        if (s->out.failed)
                return client_fail(s, PORTALOCK_E_NO_MEMORY, "out of memory");
        conn_send(s, fd);
        for (;;) {
                bool alive = conn_process(s) == 0;

                r = look(s, id, reply);     /* what came before the end still counts */
                if (r < 0)
                        return r;
                if (r > 0)
                        break;
                if (!alive)
                        return broken(s);
                r = os_wait(s->fd, s->out_sent < s->out.len, deadline);
                if (r == -EINTR) {
                        if (!withdrawn && s->out_sent == s->out.len && i != NULL && i->asked != NULL && i->asked(i->arg)) {
                                withdrawn = true;
                                deadline = os_now_ms() + CALL_MAX_MS;
                                withdraw(s, id);
                        }
                        continue;
                }
                if (r == 0) {
                        conn_close(s);
                        return client_fail(s, PORTALOCK_E_CONNECTION, "the daemon (pid %lld) did not answer in time", s->daemon_pid);
                }
                if (r < 0)
                        return broken(s);
        }
        if (reply->code == 0) {
                client_worked(s);
                return 0;
        }
        r = client_fail_reply(s, reply);
        pl_reply_clear(reply);
        return r;
}
