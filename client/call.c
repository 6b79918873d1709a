/* Any method of the protocol. A blocking call is a request plus a wait. */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void wait_until(struct portalock_session *s, const bool *over)
{
        int64_t timeout;

        for (;;) {
                (void)portalock_process(s);
                if (*over)
                        return;
                timeout = portalock_timeout(s);
                os_wait(s, timeout < 0 ? NEVER : os_now_ms() + timeout);
        }
}

struct waited {
        bool over;
        int code;
        struct pl_reply reply;
};

static void on_answer(void *arg, int code, struct pl_reply *reply)
{
        struct waited *w = arg;

        w->over = true;
        w->code = code;
        if (code != 0)
                return;
        w->reply = *reply;
        reply->doc = NULL;      /* moved */
}

int call_wait(struct portalock_session *s, struct pl_writer *w, bool repeats, int64_t timeout_ms, struct pl_reply *reply)
{
        struct waited waited = {0};
        int64_t id = request_send(s, w, -1, timeout_ms < 0 ? NEVER : os_now_ms() + timeout_ms, repeats ? request_repeat : NULL, on_answer, &waited);

        if (id < 0)
                return (int)id;
        wait_until(s, &waited.over);
        *reply = waited.reply;
        return waited.code;
}

/* The members of params_json (an object, or NULL), as they are, into the open params of `w`. */
static int write_params(struct portalock_session *s, struct pl_writer *w, const char *params_json)
{
        struct pl_json *doc = NULL;
        char *text = NULL;
        int e;

        if (params_json == NULL)
                return 0;
        e = pl_json_parse(params_json, strlen(params_json), &doc);
        if (e == -ENOMEM)
                e = client_no_memory(s);
        else if (e != 0 || pl_json_type(doc) != PL_JSON_OBJECT)
                e = client_fail(s, PORTALOCK_E_ARGUMENT, "params must be the text of one JSON object");
        else if ((text = pl_json_print(doc)) == NULL)
                e = client_no_memory(s);
        else
                pl_buf_append(w->buf, text + 1, strlen(text) - 2);      /* without its braces */
        free(text);
        pl_json_free(doc);
        if (e != 0)
                request_drop(s);
        return e;
}

/* May it be carried out twice? */
static bool changes_nothing(const char *method)
{
        return strcmp(method, "list") == 0 || strcmp(method, "stats") == 0 || strcmp(method, "ping") == 0 || strcmp(method, "watch") == 0;
}

static int begin_call(struct portalock_session *s, struct pl_writer *w, const char *method, const char *params_json)
{
        int e = client_usable(s);

        if (e != 0)
                return e;
        request_begin(s, w, method);
        return write_params(s, w, params_json);
}

int portalock_call_wait(portalock_session *s, const char *method, const char *params_json, int64_t timeout_ms, char **json)
{
        struct pl_writer w;
        struct pl_reply r;
        int e;

        *json = NULL;
        e = begin_call(s, &w, method, params_json);
        if (e == 0)
                e = call_wait(s, &w, changes_nothing(method), timeout_ms, &r);
        if (e != 0)
                return e;
        *json = pl_json_print(r.body);
        pl_reply_clear(&r);
        return *json != NULL ? 0 : client_no_memory(s);
}

struct call {
        struct portalock_session *session;
        void (*done)(void *arg, int result, const char *json);
        void *arg;
};

static void on_called(void *arg, int code, struct pl_reply *reply)
{
        struct call *c = arg;
        char *json = NULL;

        if (code == REQUEST_FORGOTTEN) {
                free(c);
                return;
        }
        if (code == 0 && (json = pl_json_print(reply->body)) == NULL)
                code = client_no_memory(c->session);
        c->done(c->arg, code, json);
        free(json);
        free(c);
}

int portalock_call(portalock_session *s, const char *method, const char *params_json, void (*done)(void *arg, int result, const char *json), void *arg)
{
        struct pl_writer w;
        struct call *c;
        int64_t id;
        int e = begin_call(s, &w, method, params_json);

        if (e != 0)
                return e;
        c = malloc(sizeof *c);
        if (c == NULL) {
                request_drop(s);
                return client_no_memory(s);
        }
        *c = (struct call){s, done, arg};
        id = request_send(s, &w, -1, NEVER, changes_nothing(method) ? request_repeat : NULL, on_called, c);
        if (id >= 0)
                return 0;
        free(c);
        return (int)id;
}
