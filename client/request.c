/* Requests under way. Each is answered exactly once: by the daemon, or by the end of the session. */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>

void request_begin(struct portalock_session *s, struct pl_writer *w, const char *method)
{
        s->out_line = s->out.len;
        pl_request_begin(w, &s->out, ++s->last_id, method);
}

void request_drop(struct portalock_session *s)
{
        s->out.len = s->out_line;
        s->out.failed = false;
}

int64_t request_send(struct portalock_session *s, struct pl_writer *w, int fd, int64_t deadline_ms, request_done *done, void *arg)
{
        struct request *r = NULL;
        int64_t id = s->last_id;
        int error;

        pl_reply_end(w);
        if (fd >= 0 && !os_is_open(fd)) {
                request_drop(s);
                return client_fail_os(s, EBADF, "sendmsg", "the descriptor");
        }
        if (done != NULL)
                r = malloc(sizeof *r);
        if (s->out.failed || (done != NULL && r == NULL) || (fd >= 0 && conn_pass(s, fd) != 0)) {
                free(r);
                request_drop(s);
                return client_no_memory(s);
        }
        if (conn_flush(s) == 0 && (error = conn_keep_passed(s)) != 0) {
                free(r);
                request_drop(s);
                return client_fail_os(s, -error, "dup", "the descriptor");
        }
        if (done == NULL)
                return id;
        *r = (struct request){.id = id, .deadline_ms = deadline_ms, .done = done, .arg = arg};
        HASH_ADD(hh, s->requests, id, sizeof r->id, r);
        if (r->hh.tbl == NULL) {
                /* It is on its way and nobody could be told of its answer. */
                free(r);
                session_end(s, PORTALOCK_E_NO_MEMORY, "out of memory");
                return client_no_memory(s);
        }
        if (deadline_ms < s->earliest_ms)
                s->earliest_ms = deadline_ms;
        return id;
}

static struct request *find(struct portalock_session *s, int64_t id)
{
        struct request *r;

        HASH_FIND(hh, s->requests, &id, sizeof id, r);
        return r;
}

/* The answer must come by `deadline_ms` now. */
static void hurry(struct portalock_session *s, int64_t id, int64_t deadline_ms)
{
        struct request *r = find(s, id);

        if (r == NULL || r->deadline_ms <= deadline_ms)
                return;
        r->deadline_ms = deadline_ms;
        if (deadline_ms < s->earliest_ms)
                s->earliest_ms = deadline_ms;
}

int64_t request_cancel(struct portalock_session *s, int64_t id, int64_t answer_by_ms, request_done *done, void *arg)
{
        struct pl_writer w;
        int64_t cancel;

        request_begin(s, &w, "cancel");
        pl_write_integer(&w, "id", id);
        cancel = request_send(s, &w, -1, answer_by_ms, done, arg);
        hurry(s, id, answer_by_ms);
        return cancel;
}

static void finish(struct portalock_session *s, struct request *r, int code, struct pl_reply *reply)
{
        struct request copy = *r;

        HASH_DELETE(hh, s->requests, r);
        free(r);
        copy.done(copy.arg, code, reply);
}

void request_answered(struct portalock_session *s, struct pl_reply *reply)
{
        struct request *r = find(s, reply->id);
        int code = 0;

        if (r == NULL)
                return;         /* nobody wanted to know */
        if (reply->code != 0)
                code = client_fail_reply(s, reply);
        else
                client_worked(s);
        finish(s, r, code, reply);
}

bool request_overdue(struct portalock_session *s, int64_t now_ms)
{
        struct request *r;

        if (now_ms < s->earliest_ms)
                return false;
        s->earliest_ms = NEVER;
        for (r = s->requests; r != NULL; r = r->hh.next) {
                if (r->deadline_ms < s->earliest_ms)
                        s->earliest_ms = r->deadline_ms;
        }
        return now_ms >= s->earliest_ms;
}

void request_fail_all(struct portalock_session *s, int code)
{
        while (s->requests != NULL) {
                session_report_end(s);
                finish(s, s->requests, code, NULL);
        }
}

void request_forget_all(struct portalock_session *s)
{
        struct request *r, *next;

        HASH_ITER(hh, s->requests, r, next) {
                HASH_DELETE(hh, s->requests, r);
                free(r);
        }
}
