#include "method.h"

#include "path.h"

#include <stdio.h>
#include <string.h>

/* The params of each method, by place: the names are in the table at the end. */
#define MEMBERS_MAX 10
enum { HELLO_PROTOCOL, HELLO_CLIENT, HELLO_PARENT, HELLO_CONCURRENT, HELLO_SESSION };
enum { LOCK_PATH, LOCK_FD, LOCK_FLAGS, LOCK_HANDLE, LOCK_TIMEOUT_MS, LOCK_CREATE, LOCK_NOTIFY, LOCK_DETACH, LOCK_RECLAIM };
enum { UNLOCK_LOCK, UNLOCK_PATH, UNLOCK_HANDLE, UNLOCK_CLOSE };
enum { CANCEL_ID };
enum { LIST_PATH, LIST_PID, LIST_SESSION, LIST_STATE, LIST_OUTSIDE, LIST_LIMIT, LIST_AFTER };
enum { WATCH_PATH, WATCH_PID, WATCH_SESSION };
enum { BREAK_LOCK };
enum { STOP_FORCE };

/* What a request has of them. */
struct params {
        const char *const *names;       /* NULL-terminated */
        const struct pl_json *at[MEMBERS_MAX];  /* NULL: absent */
};

/* A value that was refused: names the member, and says what it must be. */
static int bad(struct pl_fault *f, const char *member, const char *must)
{
        f->code = PL_E_INVALID_PARAMS;
        snprintf(f->member, sizeof f->member, "%.60s", member);
        snprintf(f->text, sizeof f->text, "params.%.60s %s", member, must);
        return -1;
}

static int no_memory(struct pl_fault *f)
{
        f->code = PL_E_INTERNAL_ERROR;
        return -1;
}

static int get_integer(const struct params *p, int member, int64_t min, int64_t max, int64_t *out, struct pl_fault *f)
{
        const struct pl_json *n = p->at[member];
        char must[80];
        int64_t value;

        if (n == NULL)
                return 0;
        if (!pl_json_integer(n, &value) || value < min || value > max) {
                snprintf(must, sizeof must, "must be an integer from %lld to %lld", (long long)min, (long long)max);
                return bad(f, p->names[member], must);
        }
        *out = value;
        return 0;
}

static int get_bool(const struct params *p, int member, bool *out, struct pl_fault *f)
{
        const struct pl_json *n = p->at[member];

        if (n != NULL && !pl_json_bool(n, out))
                return bad(f, p->names[member], "must be true or false");
        return 0;
}

static int get_string(const struct params *p, int member, size_t max, const char **out, struct pl_fault *f)
{
        const struct pl_json *n = p->at[member];
        char must[80];
        const char *text;

        if (n == NULL)
                return 0;
        if (!pl_json_string(n, &text) || strlen(text) > max || text[0] == '\0') {
                snprintf(must, sizeof must, "must be a string of 1 to %zu bytes", max);
                return bad(f, p->names[member], must);
        }
        *out = text;
        return 0;
}

/* PL_PATH_BYTES_MAX counts the NUL, as PATH_MAX does. */
static int get_path(const struct params *p, int member, bool label, const char **out, struct pl_fault *f)
{
        if (get_string(p, member, PL_PATH_BYTES_MAX - 1, out, f) != 0)
                return -1;
        if (*out != NULL && !label && !pl_path_is_absolute(*out))
                return bad(f, p->names[member], pl_path_rule);
        return 0;
}

static int get_mode(const struct pl_json *n, enum pl_mode *out)
{
        const char *text;

        if (!pl_json_string(n, &text))
                return -1;
        if (strcmp(text, "LOCK_EX") == 0)
                *out = PL_MODE_EX;
        else if (strcmp(text, "LOCK_SH") == 0)
                *out = PL_MODE_SH;
        else
                return -1;
        return 0;
}

static int get_flags(const struct params *p, struct pl_lock_params *out, struct pl_fault *f)
{
        static const char must[] = "must be an array of exactly one of \"LOCK_EX\" and \"LOCK_SH\", and optionally \"LOCK_NB\"";
        const struct pl_json *flags = p->at[LOCK_FLAGS], *n;
        const char *text;

        if (flags == NULL || pl_json_type(flags) != PL_JSON_ARRAY)
                return bad(f, "flags", must);
        for (n = pl_json_first(flags); n != NULL; n = pl_json_next(n)) {
                if (!out->nonblock && pl_json_string(n, &text) && strcmp(text, "LOCK_NB") == 0)
                        out->nonblock = true;
                else if (out->mode != PL_MODE_NONE || get_mode(n, &out->mode) != 0)
                        return bad(f, "flags", must);
        }
        return out->mode != PL_MODE_NONE ? 0 : bad(f, "flags", must);
}

static int get_id(const struct params *p, struct pl_id *out, struct pl_fault *f)
{
        const struct pl_json *n = p->at[CANCEL_ID];

        if (n == NULL || pl_id_decode(n, out) != 0)
                return bad(f, "id", "must be the id of a waiting request");
        return 0;
}

/* The first member that is not in `known` (NULL-terminated). */
static const char *unknown_member(const struct pl_json *p, const char *const *known)
{
        const struct pl_json *n;
        size_t i;

        for (n = pl_json_first(p); n != NULL; n = pl_json_next(n)) {
                for (i = 0; known[i] != NULL && !pl_same_name(known[i], pl_json_key(n)); i++)
                        ;
                if (known[i] == NULL)
                        return pl_json_key(n);
        }
        return NULL;
}

/* ---- one per method; what is absent has its default already ---- */

static int hello(struct pl_request *r, const struct params *p, struct pl_fault *f)
{
        int64_t protocol = PL_PROTOCOL_VERSION;

        if (p->at[HELLO_PROTOCOL] != NULL && (!pl_json_integer(p->at[HELLO_PROTOCOL], &protocol) || protocol != PL_PROTOCOL_VERSION)) {
                f->supported = true;
                return bad(f, "protocol", "is a version that this daemon does not speak");
        }
        if (get_string(p, HELLO_CLIENT, PL_CLIENT_BYTES_MAX, &r->hello.client, f) != 0 || get_integer(p, HELLO_PARENT, 0, PL_INTEGER_MAX, &r->hello.parent, f) != 0 ||
            get_integer(p, HELLO_SESSION, 0, PL_INTEGER_MAX, &r->hello.session, f) != 0)
                return -1;
        return get_bool(p, HELLO_CONCURRENT, &r->hello.concurrent, f);
}

static int reclaim(struct pl_lock_params *out, const struct params *p, struct pl_fault *f)
{
        static const char *const known[] = {"token", "mode", "waited_ms", NULL};
        const struct pl_json *n = p->at[LOCK_RECLAIM];
        const char *twice;
        bool holder, waiter;
        int r;

        if (n == NULL)
                return 0;
        r = pl_json_doubled(n, &twice);
        if (r < 0)
                return no_memory(f);
        if (r > 0 || pl_json_type(n) != PL_JSON_OBJECT || unknown_member(n, known) != NULL)
                return bad(f, "reclaim", "must be {token, mode} or {waited_ms}");
        holder = pl_json_get(n, "token") != NULL && pl_json_get(n, "mode") != NULL;
        waiter = pl_json_get(n, "waited_ms") != NULL;
        if (holder == waiter || (waiter && (pl_json_get(n, "token") != NULL || pl_json_get(n, "mode") != NULL)))
                return bad(f, "reclaim", "must be {token, mode} or {waited_ms}");
        if (holder && (!pl_json_integer(pl_json_get(n, "token"), &out->reclaim_token) || out->reclaim_token < 0 ||
                       get_mode(pl_json_get(n, "mode"), &out->reclaim_mode) != 0))
                return bad(f, "reclaim", "must have an integer token and the mode \"LOCK_EX\" or \"LOCK_SH\"");
        if (waiter && (!pl_json_integer(pl_json_get(n, "waited_ms"), &out->reclaim_waited_ms) || out->reclaim_waited_ms < 0))
                return bad(f, "reclaim", "must have a waited_ms of 0 or more");
        return 0;
}

static int lock(struct pl_request *r, const struct params *p, struct pl_fault *f)
{
        struct pl_lock_params *out = &r->lock;

        out->create = true;
        out->timeout_ms = out->reclaim_token = out->reclaim_waited_ms = -1;
        if (get_bool(p, LOCK_FD, &out->fd, f) != 0 || get_path(p, LOCK_PATH, out->fd, &out->path, f) != 0)
                return -1;
        if (out->path == NULL && !out->fd)
                return bad(f, "path", "is missing: lock needs a path or fd: true");
        if (get_flags(p, out, f) != 0 || get_integer(p, LOCK_HANDLE, 0, PL_HANDLE_MAX, &out->handle, f) != 0 ||
            get_integer(p, LOCK_TIMEOUT_MS, 0, PL_INTEGER_MAX, &out->timeout_ms, f) != 0 || get_bool(p, LOCK_CREATE, &out->create, f) != 0 ||
            get_bool(p, LOCK_NOTIFY, &out->notify, f) != 0 || get_bool(p, LOCK_DETACH, &out->detach, f) != 0)
                return -1;
        if (out->detach && !out->fd)
                return bad(f, "detach", "needs fd: true: a lock by path lives with its session");
        return reclaim(out, p, f);
}

static int unlock(struct pl_request *r, const struct params *p, struct pl_fault *f)
{
        struct pl_unlock_params *out = &r->unlock;

        out->lock = -1;
        if (get_integer(p, UNLOCK_LOCK, 1, PL_INTEGER_MAX, &out->lock, f) != 0 || get_path(p, UNLOCK_PATH, false, &out->path, f) != 0 ||
            get_integer(p, UNLOCK_HANDLE, 0, PL_HANDLE_MAX, &out->handle, f) != 0 || get_bool(p, UNLOCK_CLOSE, &out->close, f) != 0)
                return -1;
        if (out->lock >= 0 && out->path != NULL)
                return bad(f, "lock", "and params.path exclude each other");
        if (out->lock < 0 && out->path == NULL)
                return bad(f, "lock", "or params.path is missing");
        if (out->lock >= 0 && p->at[UNLOCK_HANDLE] != NULL)
                return bad(f, "handle", "goes with params.path only");
        return 0;
}

static int cancel(struct pl_request *r, const struct params *p, struct pl_fault *f)
{
        return get_id(p, &r->cancel.id, f);
}

static int list(struct pl_request *r, const struct params *p, struct pl_fault *f)
{
        struct pl_list_params *out = &r->list;
        const char *state = NULL;

        out->pid = out->session = -1;
        out->outside = true;
        out->limit = PL_LIST_ROWS_DEFAULT;
        if (get_path(p, LIST_PATH, false, &out->path, f) != 0 || get_integer(p, LIST_PID, 0, PL_INTEGER_MAX, &out->pid, f) != 0 ||
            get_integer(p, LIST_SESSION, 0, PL_INTEGER_MAX, &out->session, f) != 0 || get_string(p, LIST_STATE, 16, &state, f) != 0 ||
            get_bool(p, LIST_OUTSIDE, &out->outside, f) != 0 || get_integer(p, LIST_LIMIT, 1, PL_LIST_ROWS_MAX, &out->limit, f) != 0 ||
            get_string(p, LIST_AFTER, 128, &out->after, f) != 0)
                return -1;
        if (state == NULL)
                return 0;
        if (strcmp(state, "held") == 0)
                out->state = PL_STATE_HELD;
        else if (strcmp(state, "waiting") == 0)
                out->state = PL_STATE_WAITING;
        else
                return bad(f, "state", "must be \"held\" or \"waiting\"");
        return 0;
}

static int watch(struct pl_request *r, const struct params *p, struct pl_fault *f)
{
        struct pl_watch_params *out = &r->watch;

        out->pid = out->session = -1;
        if (get_path(p, WATCH_PATH, false, &out->path, f) != 0 || get_integer(p, WATCH_PID, 0, PL_INTEGER_MAX, &out->pid, f) != 0)
                return -1;
        return get_integer(p, WATCH_SESSION, 0, PL_INTEGER_MAX, &out->session, f);
}

static int break_(struct pl_request *r, const struct params *p, struct pl_fault *f)
{
        if (p->at[BREAK_LOCK] == NULL)
                return bad(f, "lock", "is missing");
        return get_integer(p, BREAK_LOCK, 1, PL_INTEGER_MAX, &r->break_.lock, f);
}

static int nothing(struct pl_request *r, const struct params *p, struct pl_fault *f)
{
        (void)r;
        (void)p;
        (void)f;
        return 0;
}

static int stop(struct pl_request *r, const struct params *p, struct pl_fault *f)
{
        return get_bool(p, STOP_FORCE, &r->stop.force, f);
}

static const struct {
        const char *name;
        int (*read)(struct pl_request *r, const struct params *p, struct pl_fault *f);
        const char *members[MEMBERS_MAX + 1];
} methods[PL_METHOD_COUNT] = {
        [PL_HELLO] = {"hello", hello, {[HELLO_PROTOCOL] = "protocol", [HELLO_CLIENT] = "client", [HELLO_PARENT] = "parent",
                                       [HELLO_CONCURRENT] = "concurrent", [HELLO_SESSION] = "session"}},
        [PL_LOCK] = {"lock", lock, {[LOCK_PATH] = "path", [LOCK_FD] = "fd", [LOCK_FLAGS] = "flags", [LOCK_HANDLE] = "handle",
                                    [LOCK_TIMEOUT_MS] = "timeout_ms", [LOCK_CREATE] = "create", [LOCK_NOTIFY] = "notify", [LOCK_DETACH] = "detach",
                                    [LOCK_RECLAIM] = "reclaim"}},
        [PL_UNLOCK] = {"unlock", unlock, {[UNLOCK_LOCK] = "lock", [UNLOCK_PATH] = "path", [UNLOCK_HANDLE] = "handle", [UNLOCK_CLOSE] = "close"}},
        [PL_CANCEL] = {"cancel", cancel, {[CANCEL_ID] = "id"}},
        [PL_LIST] = {"list", list, {[LIST_PATH] = "path", [LIST_PID] = "pid", [LIST_SESSION] = "session", [LIST_STATE] = "state", [LIST_OUTSIDE] = "outside",
                                    [LIST_LIMIT] = "limit", [LIST_AFTER] = "after"}},
        [PL_WATCH] = {"watch", watch, {[WATCH_PATH] = "path", [WATCH_PID] = "pid", [WATCH_SESSION] = "session"}},
        [PL_BREAK] = {"break", break_, {[BREAK_LOCK] = "lock"}},
        [PL_STATS] = {"stats", nothing, {NULL}},
        [PL_PING] = {"ping", nothing, {NULL}},
        [PL_STOP] = {"stop", stop, {[STOP_FORCE] = "force"}},
};

const char *pl_method_name(enum pl_method m)
{
        return methods[m].name;
}

int pl_method_find(struct pl_span name)
{
        int i;

        for (i = 0; i < PL_METHOD_COUNT; i++) {
                if (name.len > 0 && name.at[0] == methods[i].name[0] && pl_span_is(name, methods[i].name))
                        return i;
        }
        return -1;
}

/* Some are unknown or there twice: which? */
static int refuse_members(const struct pl_json *params, const char *const *known, struct pl_fault *f)
{
        const char *name;
        int twice = pl_json_doubled(params, &name);

        if (twice < 0)
                return no_memory(f);
        if (twice > 0)
                return bad(f, name, "is there twice");
        return bad(f, unknown_member(params, known), "is not a member that this method knows");
}

/* Each into its place. */
static int place(const struct pl_json *params, struct params *p, struct pl_fault *f)
{
        const struct pl_json *n;
        int i;

        for (n = pl_json_first(params); n != NULL; n = pl_json_next(n)) {
                for (i = 0; p->names[i] != NULL && !pl_same_name(p->names[i], pl_json_key(n)); i++)
                        ;
                if (p->names[i] == NULL || p->at[i] != NULL)
                        return refuse_members(params, p->names, f);
                p->at[i] = n;
        }
        return 0;
}

int pl_method_params(struct pl_request *r, const struct pl_json *params, struct pl_fault *fault)
{
        struct params p = {.names = methods[r->method].members};

        if (params != NULL && pl_json_type(params) != PL_JSON_OBJECT) {
                bad(fault, "params", "");
                snprintf(fault->text, sizeof fault->text, "params must be an object");
                return -1;
        }
        if (place(params, &p, fault) != 0)
                return -1;
        return methods[r->method].read(r, &p, fault);
}
