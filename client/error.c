#include "internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void reset(struct portalock_session *s, int code)
{
        free(s->cycle);
        s->cycle = NULL;
        s->syscall[0] = s->text[0] = '\0';
        s->error = (struct portalock_error_info){.code = code, .syscall = s->syscall, .text = s->text, .holders = s->holders};
}

void client_worked(struct portalock_session *s)
{
        reset(s, 0);
}

int client_fail(struct portalock_session *s, int code, const char *format, ...)
{
        va_list args;

        reset(s, code);
        va_start(args, format);
        vsnprintf(s->text, sizeof s->text, format, args);
        va_end(args);
        return code;
}

int client_fail_os(struct portalock_session *s, int error, const char *syscall_name, const char *path)
{
        client_fail(s, PORTALOCK_E_OS, "%.400s: %s", path, pl_errno_text(error));
        s->error.os_errno = error;
        snprintf(s->syscall, sizeof s->syscall, "%s", syscall_name);
        return PORTALOCK_E_OS;
}

int client_take_holders(struct portalock_session *s, const struct pl_json *list)
{
        const struct pl_json *n;
        int count = 0;

        for (n = pl_json_first(list); n != NULL && count < HOLDERS_MAX; n = pl_json_next(n), count++) {
                struct portalock_holder *h = &s->holders[count];

                *h = (struct portalock_holder){.command = s->commands[count], .client = s->clients[count]};
                h->pid = integer_member(n, "pid", 0);
                h->uid = integer_member(n, "uid", -1);
                h->held_ms = integer_member(n, "held_ms", -1);
                h->mode = mode_member(n, PORTALOCK_SH);
                h->outside = pl_json_get(n, "lock") == NULL;
                snprintf(s->commands[count], sizeof s->commands[count], "%s", string_member(n, "command"));
                snprintf(s->clients[count], sizeof s->clients[count], "%s", string_member(n, "client"));
        }
        return count;
}

static char *keep(char **room, const char *text)
{
        char *kept = *room;
        size_t len = strlen(text) + 1;

        memcpy(kept, text, len);
        *room += len;
        return kept;
}

/* data.cycle of a deadlock. Without memory it is left out. */
static void take_cycle(struct portalock_session *s, const struct pl_json *list)
{
        struct portalock_cycle_step *step;
        const struct pl_json *n;
        size_t count = 0, bytes = 0;
        char *room;

        for (n = pl_json_first(list); n != NULL; n = pl_json_next(n), count++)
                bytes += strlen(string_member(n, "command")) + strlen(string_member(n, "client")) + strlen(string_member(n, "path")) + 3;
        step = count > 0 ? malloc(count * sizeof *step + bytes) : NULL;
        if (step == NULL)
                return;
        s->error.cycle = s->cycle = step;
        s->error.cycle_count = (int)count;
        room = (char *)(step + count);
        for (n = pl_json_first(list); n != NULL; n = pl_json_next(n), step++) {
                step->pid = integer_member(n, "pid", 0);
                step->uid = integer_member(n, "uid", -1);
                step->mode = mode_member(n, 0);
                step->command = keep(&room, string_member(n, "command"));
                step->client = keep(&room, string_member(n, "client"));
                step->path = keep(&room, string_member(n, "path"));
        }
}

int client_fail_reply(struct portalock_session *s, const struct pl_reply *r)
{
        int code = r->code >= PL_E_LOCK_FAILED && r->code <= PL_E_NOT_FOUND ? -r->code : PORTALOCK_E_PROTOCOL;
        const char *name;

        if (r->code == PL_E_INTERNAL_ERROR)
                code = PORTALOCK_E_LIMIT;
        client_fail(s, code, "%.500s", r->text);
        if (pl_json_string(pl_json_get(r->body, "errno"), &name))
                s->error.os_errno = pl_errno_value(name);
        if (pl_json_string(pl_json_get(r->body, "syscall"), &name))
                snprintf(s->syscall, sizeof s->syscall, "%s", name);
        s->error.holder_count = client_take_holders(s, pl_json_get(r->body, "holders"));
        take_cycle(s, pl_json_get(r->body, "cycle"));
        return code;
}

int client_no_memory(struct portalock_session *s)
{
        return client_fail(s, PORTALOCK_E_NO_MEMORY, "out of memory");
}

int client_may_open(struct portalock_session *s)
{
        if (s->owner != os_process_id())
                return client_fail(s, PORTALOCK_E_FORKED, "this session belongs to process %lld, from which this one was forked", (long long)s->owner);
        if (s->state == SESSION_ENDED) {
                session_report_end(s);
                return s->ended_code;
        }
        if (s->fd < 0 && !s->greeted)
                return client_fail(s, PORTALOCK_E_ARGUMENT, "the session is not connected yet");
        return 0;
}

int client_usable(struct portalock_session *s)
{
        int e = client_may_open(s);

        if (e == 0 && s->state != SESSION_READY && !s->greeted)
                e = client_fail(s, PORTALOCK_E_ARGUMENT, "the daemon has not said yet that it serves us");
        return e;
}

const char *portalock_strerror(int code)
{
        if (code == 0)
                return "success";
        if (code < 0 && code >= PORTALOCK_E_NOT_FOUND)
                return pl_error_sentence(-code);
        switch (code) {
        case PORTALOCK_E_NO_DAEMON:
                return "no daemon can be reached or started";
        case PORTALOCK_E_CONNECTION:
                return "the connection to the daemon broke";
        case PORTALOCK_E_PROTOCOL:
                return "the daemon does not speak this protocol";
        case PORTALOCK_E_ARGUMENT:
                return "an argument is wrong";
        case PORTALOCK_E_NO_MEMORY:
                return "out of memory";
        case PORTALOCK_E_FORKED:
                return "the session belongs to the parent process";
        default:
                return "unknown error";
        }
}
