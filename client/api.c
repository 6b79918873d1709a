/* The session: connect, ask for anything, disconnect. */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONNECT_MAX_MS 10000

/* As much of `name` as hello may carry; a byte that is not ASCII may travel as four. */
static void short_name(const char *name, char out[PL_CLIENT_BYTES_MAX + 1])
{
        size_t len = 0, cost = 0;

        while (name[len] != '\0' && (cost += (unsigned char)name[len] < 0x80 ? 1 : 4) <= PL_CLIENT_BYTES_MAX)
                len++;
        while (len > 0 && ((unsigned char)name[len] & 0xc0) == 0x80)
                len--;  /* not in the middle of a character */
        memcpy(out, name, len);
        out[len] = '\0';
}

/* hello on a fresh connection. */
static int greet(struct portalock_session *s, const char *client)
{
        struct pl_writer w;
        struct pl_reply r;
        char name[PL_CLIENT_BYTES_MAX + 1];
        const char *version;
        int e;

        short_name(client != NULL ? client : "", name);
        call_begin(s, &w, "hello");
        pl_write_integer(&w, "protocol", PL_PROTOCOL_VERSION);
        if (name[0] != '\0')
                pl_write_string(&w, "client", name);
        e = call_wait(s, &w, -1, CALL_MAX_MS, NULL, &r);
        if (e != 0)
                return e;
        (void)pl_json_integer(pl_json_get(r.body, "session"), &s->id);
        if (pl_json_string(pl_json_get(r.body, "version"), &version))
                snprintf(s->version, sizeof s->version, "%s", version);
        pl_reply_clear(&r);
        return 0;
}

/* One try: 0, or an error; *again: it may go better in a moment. */
static int try_connect(struct portalock_session *s, const char *client, bool *again)
{
        int fd = pl_address_connect(&s->address), e;

        *again = fd == -EAGAIN;
        if (fd < 0) {
                client_fail(s, PORTALOCK_E_NO_DAEMON, "%.400s: %s", s->address.path,
                            fd == -ENOENT ? "no daemon listens there" : fd == -ECONNREFUSED ? "the daemon that listened there is gone" : strerror(-fd));
                s->error.os_errno = -fd;
                return PORTALOCK_E_NO_DAEMON;
        }
        if (pl_address_check_server(&s->address, fd, &s->daemon_pid) != 0) {
                close(fd);
                return client_fail(s, PORTALOCK_E_DENIED, "%s", s->address.text);
        }
        s->fd = fd;
        e = greet(s, client);
        if (e != 0)
                conn_close(s);
        *again = e == PORTALOCK_E_CONNECTION;   /* it was about to end: there will be another */
        return e;
}

static int connect_session(struct portalock_session *s, const char *client, bool spawn)
{
        int64_t deadline = os_now_ms() + CONNECT_MAX_MS;
        bool again, spawned = false;
        int e, error;

        for (;;) {
                e = try_connect(s, client, &again);
                if (e == 0)
                        return 0;
                error = s->error.os_errno;
                if (e == PORTALOCK_E_NO_DAEMON && (error == ENOENT || error == ECONNREFUSED) && spawn) {
                        if (pl_address_check(&s->address, true) != 0)
                                return client_fail(s, PORTALOCK_E_NO_DAEMON, "%s", s->address.text);
                        e = os_spawn_daemon(s);
                        if (e != 0)
                                return e;
                        again = true;
                }
                if (!again || os_now_ms() >= deadline)
                        return e;
                if (spawned)
                        (void)os_wait(-1, false, os_now_ms() + 2);     /* somebody else's daemon is about to listen */
                spawned = true;
        }
}

int portalock_connect(const char *client, int flags, portalock_session **out)
{
        const char *no_spawn = getenv("PORTALOCK_NO_SPAWN");
        struct portalock_session *s = calloc(1, sizeof *s);

        *out = s;
        if (s == NULL)
                return PORTALOCK_E_NO_MEMORY;
        s->fd = s->out_fd = -1;
        s->owner = getpid();
        pl_frame_init(&s->frame, PL_REPLY_MAX);
        if (pl_address_find(&s->address, NULL) != 0)
                return client_fail(s, PORTALOCK_E_NO_DAEMON, "%s", s->address.text);
        if (!s->address.named && pl_address_check(&s->address, false) != 0 && access(s->address.path, F_OK) == 0)
                return client_fail(s, PORTALOCK_E_DENIED, "%s", s->address.text);
        return connect_session(s, client, (flags & PORTALOCK_CONNECT_NO_SPAWN) == 0 && (no_spawn == NULL || no_spawn[0] == '\0' || strcmp(no_spawn, "0") == 0) && !s->address.system);
}

void portalock_disconnect(portalock_session *s)
{
        if (s == NULL)
                return;
        conn_close(s);
        pl_frame_clear(&s->frame);
        pl_buf_clear(&s->out);
        free(s);
}

const struct portalock_error_info *portalock_error(const portalock_session *s)
{
        static const struct portalock_error_info no_memory = {.code = PORTALOCK_E_NO_MEMORY, .syscall = "", .text = "out of memory"};
        static const struct portalock_error_info none = {.syscall = "", .text = ""};

        if (s == NULL)
                return &no_memory;
        return s->error.text != NULL ? &s->error : &none;
}

int64_t portalock_session_id(const portalock_session *s)
{
        return s->id;
}

int64_t portalock_daemon_pid(const portalock_session *s)
{
        return s->daemon_pid;
}

const char *portalock_daemon_version(const portalock_session *s)
{
        return s->version;
}

const char *portalock_socket(const portalock_session *s)
{
        return s->address.path;
}

/* The members of params_json (an object, or NULL), as they are, into the open params of `w`. */
static int write_params(struct portalock_session *s, struct pl_writer *w, const char *params_json)
{
        struct pl_json *doc = NULL;
        char *text = NULL;
        int e = 0;

        if (params_json == NULL)
                return 0;
        if (pl_json_parse(params_json, strlen(params_json), &doc) != 0 || pl_json_type(doc) != PL_JSON_OBJECT)
                e = client_fail(s, PORTALOCK_E_ARGUMENT, "params must be the text of one JSON object");
        else if ((text = pl_json_print(doc)) == NULL)
                e = client_fail(s, PORTALOCK_E_NO_MEMORY, "out of memory");
        else
                pl_buf_append(w->buf, text + 1, strlen(text) - 2);      /* without its braces */
        free(text);
        pl_json_free(doc);
        return e;
}

int portalock_call_wait(portalock_session *s, const char *method, const char *params_json, int64_t timeout_ms, char **json)
{
        struct pl_writer w;
        struct pl_reply r;
        int e = client_usable(s);

        *json = NULL;
        if (e != 0)
                return e;
        call_begin(s, &w, method);
        e = write_params(s, &w, params_json);
        if (e == 0)
                e = call_wait(s, &w, -1, timeout_ms, NULL, &r);
        if (e != 0)
                return e;
        *json = pl_json_print(r.body);
        pl_reply_clear(&r);
        return *json != NULL ? 0 : client_fail(s, PORTALOCK_E_NO_MEMORY, "out of memory");
}
