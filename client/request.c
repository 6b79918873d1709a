/* Requests under way. Each is answered exactly once: by the daemon, or by the end of the session. */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

static void expect(struct portalock_session *s, struct request *r, int64_t deadline_ms)
{
        r->deadline_ms = deadline_ms;
        if (deadline_ms < s->earliest_ms)
                s->earliest_ms = deadline_ms;
}

static struct request *find(struct portalock_session *s, int64_t id)
{
        struct request *r;

        LIST_FOREACH(r, &s->chains[(uint64_t)id % REQUEST_CHAINS], of_chain) {
                if (r->id == id)
                        return r;
        }
        return NULL;
}

static void enter(struct portalock_session *s, struct request *r)
{
        TAILQ_INSERT_TAIL(&s->requests, r, entry);
        LIST_INSERT_HEAD(&s->chains[(uint64_t)r->id % REQUEST_CHAINS], r, of_chain);
        expect(s, r, r->deadline_ms);
}

static void take_out(struct portalock_session *s, struct request *r)
{
        TAILQ_REMOVE(&s->requests, r, entry);
        LIST_REMOVE(r, of_chain);
}

void request_begin_again(struct portalock_session *s, struct pl_writer *w, int64_t id, const char *method)
{
        s->out_line = s->out.len;
        s->again = id;
        pl_request_begin(w, &s->out, id, method);
}

static bool is_ready(const struct portalock_session *s)
{
        return s->state == SESSION_READY;
}

void request_expect(struct portalock_session *s, int64_t id, int64_t deadline_ms)
{
        struct request *r = find(s, id);

        if (r != NULL)
                expect(s, r, deadline_ms);
}

/* NULL: no memory. */
static struct request *make(const struct request *model, const char *line, size_t len)
{
        struct request *r = malloc(sizeof *r);

        if (r == NULL)
                return NULL;
        *r = *model;
        if (line == NULL)
                return r;
        r->line = malloc(len);
        if (r->line == NULL) {
                free(r);
                return NULL;
        }
        memcpy(r->line, line, len);
        r->line_len = len;
        return r;
}

static void destroy(struct request *r)
{
        if (r == NULL)
                return;
        free(r->line);
        free(r);
}

/* There is no connection: the line waits for one. Nobody waits for the answer: nothing is to be done on a daemon that knows nothing of us. */
static int64_t hold_line(struct portalock_session *s, const struct request *model)
{
        struct request *r = NULL;
        bool failed = s->out.failed;

        if (model->done != NULL && !failed)
                r = make(model, s->out.data + s->out_line, s->out.len - s->out_line);
        request_drop(s);
        if (model->done == NULL && !failed)
                return model->id;
        if (r == NULL)
                return client_no_memory(s);
        r->held = true;
        enter(s, r);
        return r->id;
}

/* The line goes out. 0, or an error code: then it does not. */
static int put_out(struct portalock_session *s, int fd)
{
        int error;

        if (fd >= 0 && !os_is_open(fd)) {
                request_drop(s);
                return client_fail_os(s, EBADF, "sendmsg", "the descriptor");
        }
        if (s->out.failed || (fd >= 0 && conn_pass(s, fd) != 0)) {
                request_drop(s);
                return client_no_memory(s);
        }
        if (conn_flush(s) == 0 && (error = conn_keep_passed(s)) != 0) {
                request_drop(s);
                return client_fail_os(s, -error, "dup", "the descriptor");
        }
        return 0;
}

static int64_t send_now(struct portalock_session *s, int fd, const struct request *model)
{
        struct request *r = NULL;
        int e;

        if (model->done != NULL) {
                bool repeats = model->broken == request_repeat;

                r = s->out.failed ? NULL : make(model, repeats ? s->out.data + s->out_line : NULL, repeats ? s->out.len - s->out_line : 0);
                if (r == NULL) {
                        request_drop(s);
                        return client_no_memory(s);
                }
        }
        e = put_out(s, fd);
        if (e != 0) {
                destroy(r);
                return e;
        }
        if (r != NULL)
                enter(s, r);
        return model->id;
}

int64_t request_send(struct portalock_session *s, struct pl_writer *w, int fd, int64_t deadline_ms, request_broken *broken, request_done *done, void *arg)
{
        struct request model = {.id = s->last_id, .deadline_ms = deadline_ms, .done = done, .broken = broken, .arg = arg};

        pl_reply_end(w);
        return is_ready(s) ? send_now(s, fd, &model) : hold_line(s, &model);
}

int64_t request_send_hello(struct portalock_session *s, struct pl_writer *w, int64_t deadline_ms, request_done *done, void *arg)
{
        struct request model = {.id = s->last_id, .deadline_ms = deadline_ms, .done = done, .arg = arg};

        pl_reply_end(w);
        return send_now(s, -1, &model);
}

int64_t request_send_again(struct portalock_session *s, struct pl_writer *w, int fd, int64_t deadline_ms)
{
        struct request *r = find(s, s->again);
        int e;

        pl_reply_end(w);
        e = put_out(s, fd);
        if (e != 0)
                return e;
        r->held = false;
        expect(s, r, deadline_ms);
        return r->id;
}

int64_t request_hold(struct portalock_session *s, int64_t deadline_ms, request_broken *broken, request_done *done, void *arg)
{
        struct request model = {.id = ++s->last_id, .deadline_ms = deadline_ms, .done = done, .broken = broken, .arg = arg, .held = true}, *r;

        r = make(&model, NULL, 0);
        if (r == NULL)
                return client_no_memory(s);
        enter(s, r);
        return model.id;
}

bool request_is_held(struct portalock_session *s, int64_t id)
{
        struct request *r = find(s, id);

        return r != NULL && r->held;
}

bool request_repeat(void *arg)
{
        (void)arg;
        return true;
}

/* The answer must come by `deadline_ms` now. */
static void hurry(struct portalock_session *s, int64_t id, int64_t deadline_ms)
{
        struct request *r = find(s, id);

        if (r != NULL && r->deadline_ms > deadline_ms)
                expect(s, r, deadline_ms);
}

int64_t request_cancel(struct portalock_session *s, int64_t id, int64_t answer_by_ms, request_done *done, void *arg)
{
        struct pl_writer w;
        int64_t cancel;

        request_begin(s, &w, "cancel");
        pl_write_integer(&w, "id", id);
        cancel = request_send(s, &w, -1, answer_by_ms, NULL, done, arg);
        hurry(s, id, answer_by_ms);
        return cancel;
}

static void finish(struct portalock_session *s, struct request *r, int code, struct pl_reply *reply)
{
        struct request copy = *r;

        take_out(s, r);
        destroy(r);
        copy.done(copy.arg, code, reply);
}

void request_answered(struct portalock_session *s, struct pl_reply *reply)
{
        struct request *r = find(s, reply->id);
        int code = 0;

        if (r == NULL || r->held)
                return;         /* nobody wanted to know */
        if (reply->code == PL_E_SHUTTING_DOWN && r->broken != NULL && s->reconnect_ms > 0) {
                s->stopping = true;     /* the next daemon answers */
                return;
        }
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
        TAILQ_FOREACH(r, &s->requests, entry) {
                if (r->deadline_ms < s->earliest_ms)
                        s->earliest_ms = r->deadline_ms;
        }
        return now_ms >= s->earliest_ms;
}

void request_fail_all(struct portalock_session *s, int code)
{
        struct request *r;

        while ((r = TAILQ_FIRST(&s->requests)) != NULL) {
                session_report_end(s);
                finish(s, r, code, NULL);
        }
}

void request_forget_all(struct portalock_session *s)
{
        struct request *r;

        while ((r = TAILQ_FIRST(&s->requests)) != NULL)
                finish(s, r, REQUEST_FORGOTTEN, NULL);
}

void request_redirect(struct portalock_session *s, int64_t id, request_done *done, void *arg)
{
        struct request *r = find(s, id);

        if (r == NULL) {        /* it is about to be told that it has failed, perhaps */
                for (r = s->failed; r != NULL && r->id != id; r = r->next_failed)
                        ;
        }
        if (r == NULL)
                return;
        r->done = done;
        r->arg = arg;
}

void request_forget(struct portalock_session *s, int64_t id)
{
        struct request *r = find(s, id);

        if (r == NULL)
                return;
        take_out(s, r);
        destroy(r);
}

/* They are all out of the way before the first of them is told: who is told may begin something new, and close what the next of them is about. */
static struct request **set_aside(struct portalock_session *s, struct request *r, struct request **end)
{
        take_out(s, r);
        r->next_failed = NULL;
        *end = r;
        return &r->next_failed;
}

static void fail_those_aside(struct portalock_session *s, const char *text)
{
        struct request *r;

        while ((r = s->failed) != NULL) {
                s->failed = r->next_failed;
                client_fail(s, PORTALOCK_E_CONNECTION, "%s", text);
                r->done(r->arg, PORTALOCK_E_CONNECTION, NULL);
                destroy(r);
        }
}

void request_interrupt(struct portalock_session *s, int64_t now_ms, const char *text)
{
        struct request *r, *next, **end = &s->failed;

        for (r = TAILQ_FIRST(&s->requests); r != NULL; r = next) {
                next = TAILQ_NEXT(r, entry);
                if (r->held || (r->deadline_ms > now_ms && r->broken != NULL && r->broken(r->arg)))
                        r->held = true;
                else
                        end = set_aside(s, r, end);
        }
        fail_those_aside(s, text);
}

void request_expire(struct portalock_session *s, int64_t now_ms)
{
        struct request *r, *next, **end = &s->failed;

        if (now_ms < s->earliest_ms)
                return;
        for (r = TAILQ_FIRST(&s->requests); r != NULL; r = next) {
                next = TAILQ_NEXT(r, entry);
                if (r->held && r->deadline_ms <= now_ms)
                        end = set_aside(s, r, end);
        }
        fail_those_aside(s, "no daemon could be reached in time");
        (void)request_overdue(s, now_ms);       /* when to look again */
}

void request_send_held(struct portalock_session *s)
{
        struct request *r;

        TAILQ_FOREACH(r, &s->requests, entry) {
                if (!r->held || r->line == NULL)
                        continue;
                s->out_line = s->out.len;
                pl_buf_append(&s->out, r->line, r->line_len);
                if (s->out.failed) {
                        request_drop(s);
                        session_end(s, PORTALOCK_E_NO_MEMORY, "out of memory");
                        return;
                }
                r->held = false;
        }
        (void)conn_flush(s);
}
