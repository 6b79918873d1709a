/* Notifications: what the daemon says without being asked. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

static void say_waiting(struct portalock_session *s, const struct pl_json *params)
{
        struct portalock_file *f;
        int64_t id = 0, position = 0;

        (void)pl_json_integer(pl_json_get(params, "id"), &id);
        (void)pl_json_integer(pl_json_get(params, "position"), &position);
        f = lock_waiting(s, id);
        if (f != NULL && s->callbacks.waiting != NULL)
                s->callbacks.waiting(s->callbacks_arg, f, position, s->holders, client_take_holders(s, pl_json_get(params, "holders")));
}

static void say_lost(struct portalock_session *s, const struct pl_json *params)
{
        const char *by = "";
        struct portalock_file *f;
        int64_t lock = 0;

        (void)pl_json_integer(pl_json_get(params, "lock"), &lock);
        (void)pl_json_string(pl_json_get(params, "by"), &by);
        LIST_FOREACH(f, &s->files, entry) {
                if (f->lock != lock || lock == 0)
                        continue;
                f->lock = 0;
                if (s->callbacks.lost != NULL)
                        s->callbacks.lost(s->callbacks_arg, f, by);
                return;
        }
}

static int64_t integer_of(const struct pl_json *n, const char *name)
{
        int64_t value = -1;

        (void)pl_json_integer(pl_json_get(n, name), &value);
        return value;
}

static const char *string_of(const struct pl_json *n, const char *name)
{
        const char *value = "";

        (void)pl_json_string(pl_json_get(n, name), &value);
        return value;
}

static void say_event(struct portalock_session *s, const struct pl_json *n)
{
        const char *mode = string_of(n, "mode");
        struct portalock_event e;
        char *json;

        if (s->callbacks.event == NULL || (json = pl_json_print(n)) == NULL)
                return;
        e = (struct portalock_event){.event = string_of(n, "event"), .session = integer_of(n, "session"), .lock = integer_of(n, "lock"),
                                     .pid = integer_of(n, "pid"), .uid = integer_of(n, "uid"), .token = integer_of(n, "token"),
                                     .command = string_of(n, "command"), .client = string_of(n, "client"), .path = string_of(n, "path"),
                                     .time_ms = integer_of(n, "time_ms"), .dropped = integer_of(n, "dropped"), .json = json};
        e.mode = strcmp(mode, "LOCK_EX") == 0 ? PORTALOCK_EX : strcmp(mode, "LOCK_SH") == 0 ? PORTALOCK_SH : 0;
        s->callbacks.event(s->callbacks_arg, &e);
        free(json);
}

void notified(struct portalock_session *s, const struct pl_reply *n)
{
        if (strcmp(n->method, "waiting") == 0)
                say_waiting(s, n->body);
        else if (strcmp(n->method, "lost") == 0)
                say_lost(s, n->body);
        else if (strcmp(n->method, "event") == 0)
                say_event(s, n->body);
}

int portalock_watch(portalock_session *s, const char *path)
{
        struct pl_writer w;
        struct pl_reply r;
        int e = client_usable(s);
        char *absolute = NULL;

        if (e != 0)
                return e;
        if (path != NULL && (absolute = os_absolute(path)) == NULL)
                return client_no_memory(s);
        request_begin(s, &w, "watch");
        if (absolute != NULL)
                pl_write_string(&w, "path", absolute);
        free(absolute);
        e = call_wait(s, &w, -1, CALL_MAX_MS, &r);
        if (e == 0)
                pl_reply_clear(&r);
        return e;
}
