/* Notifications: what the daemon says without being asked. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

static void say_waiting(struct portalock_session *s, const struct pl_json *params)
{
        struct portalock_file *f = lock_waiting(s, integer_member(params, "id", 0));

        if (f != NULL && s->callbacks.waiting != NULL)
                s->callbacks.waiting(s->callbacks_arg, f, integer_member(params, "position", 0), s->holders, client_take_holders(s, pl_json_get(params, "holders")));
}

static void say_lost(struct portalock_session *s, const struct pl_json *params)
{
        int64_t lock = integer_member(params, "lock", 0);
        struct portalock_file *f;

        LIST_FOREACH(f, &s->files, entry) {
                if (f->lock != lock || lock == 0)
                        continue;
                f->lock = 0;
                if (s->callbacks.lost != NULL)
                        s->callbacks.lost(s->callbacks_arg, f, string_member(params, "by"));
                return;
        }
}

static void say_event(struct portalock_session *s, const struct pl_json *n)
{
        struct portalock_event e;
        char *json;

        if (s->callbacks.event == NULL || (json = pl_json_print(n)) == NULL)
                return;
        e = (struct portalock_event){.event = string_member(n, "event"), .session = integer_member(n, "session", -1), .lock = integer_member(n, "lock", -1),
                                     .pid = integer_member(n, "pid", -1), .uid = integer_member(n, "uid", -1), .token = integer_member(n, "token", -1),
                                     .command = string_member(n, "command"), .client = string_member(n, "client"), .path = string_member(n, "path"),
                                     .mode = mode_member(n, 0), .time_ms = integer_member(n, "time_ms", -1), .dropped = integer_member(n, "dropped", -1), .json = json};
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

static struct watch *new_watch(const char *path)
{
        char *absolute = path != NULL ? os_absolute(path) : strdup("");
        size_t size = absolute != NULL ? strlen(absolute) + 1 : 0;
        struct watch *watch = absolute != NULL ? malloc(sizeof *watch + size) : NULL;

        if (watch != NULL)
                memcpy(watch->path, absolute, size);
        free(absolute);
        return watch;
}

int portalock_watch(portalock_session *s, const char *path)
{
        struct watch *watch;
        struct pl_writer w;
        struct pl_reply r;
        int e = client_usable(s);

        if (e != 0)
                return e;
        watch = new_watch(path);
        if (watch == NULL)
                return client_no_memory(s);
        request_begin(s, &w, "watch");
        if (path != NULL)
                pl_write_string(&w, "path", watch->path);
        e = call_wait(s, &w, true, CALL_MAX_MS, &r);
        if (e != 0) {
                free(watch);
                return e;
        }
        pl_reply_clear(&r);
        watch->next = s->watches;       /* asked for again when the connection breaks */
        s->watches = watch;
        return 0;
}
