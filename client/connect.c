/*
 * From nothing to a greeted daemon, the first time and again (reconnect.c). Connect; if nobody listens start a daemon, whose pipe tells when it does; say hello. A daemon that is just about to
 * end may break off before its first answer: there will be another.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_MAX_MS 10000
#define PAUSE_MAX_MS 64
#define PAUSE_LONG_MS 1000      /* once it was connected it has time */
#define PAUSE_SPAWN_MS 8        /* ... and of many who lost the same daemon most find the one that the first of them has started */
#define RECONNECT_MS 30000

void connect_ended(struct portalock_session *s, int code)
{
        if (s->greeted && code != 0) {
                reconnect_begin(s, code, NULL);
                return;
        }
        if (code != 0)
                session_end(s, code, NULL);
        s->greeted |= code == 0;
        if (s->connected != NULL)
                s->connected(s->connected_arg, s, code);
        s->connected = NULL;
}

/* Between a half of `ms` and all of it: many who lost the same daemon shall not come back in step. */
static int64_t jittered(struct portalock_session *s, int64_t ms)
{
        s->jitter = s->jitter * 1664525u + 1013904223u;
        return ms - (int64_t)((uint64_t)(ms / 2) * (s->jitter >> 16) >> 16);
}

void connect_again(struct portalock_session *s, bool at_once)
{
        int64_t most = s->greeted ? PAUSE_LONG_MS : PAUSE_MAX_MS, double_ms = s->pause_ms * 2;

        s->state = SESSION_PAUSING;
        if (!s->greeted)
                s->daemon_pid = 0;      /* nobody is there any more */
        s->pause_ms = at_once ? 0 : s->pause_ms == 0 ? 1 : double_ms < most ? double_ms : most;
        s->resume_ms = os_now_ms() + jittered(s, s->pause_ms);
        if (s->greeted && s->resume_ms > s->connect_deadline_ms)
                s->resume_ms = s->connect_deadline_ms;
}

static void on_hello(void *arg, int code, struct pl_reply *reply)
{
        struct portalock_session *s = arg;
        const char *version;

        if (code == REQUEST_FORGOTTEN || (code == PORTALOCK_E_CONNECTION && s->greeted))
                return;         /* or reconnect_begin() goes on */
        if (code == PORTALOCK_E_CONNECTION && os_now_ms() < s->connect_deadline_ms) {
                connect_again(s, false);
                return;
        }
        if (code == 0) {
                (void)pl_json_integer(pl_json_get(reply->body, "session"), &s->id);
                if (pl_json_string(pl_json_get(reply->body, "version"), &version))
                        snprintf(s->version, sizeof s->version, "%s", version);
                s->state = SESSION_READY;
                if (s->greeted) {
                        reconnect_resume(s);
                        return;
                }
        }
        connect_ended(s, code);
}

static void greet(struct portalock_session *s)
{
        struct pl_writer w;
        int64_t id, answer_by;

        s->state = SESSION_GREETING;
        request_begin(s, &w, "hello");
        pl_write_integer(&w, "protocol", PL_PROTOCOL_VERSION);
        if (s->client[0] != '\0')
                pl_write_string(&w, "client", s->client);
        if (s->concurrent)
                pl_write_bool(&w, "concurrent", true);
        if (s->parent != 0)
                pl_write_integer(&w, "parent", s->parent);
        if (s->id > 0)
                pl_write_integer(&w, "session", s->id);
        answer_by = os_now_ms() + CONNECT_MAX_MS;
        id = request_send_hello(s, &w, answer_by < s->connect_deadline_ms ? answer_by : s->connect_deadline_ms, on_hello, s);
        if (id < 0)
                connect_ended(s, (int)id);
}

static void start_daemon(struct portalock_session *s)
{
        int fd;

        if (pl_address_check(&s->address, true) != 0) {
                connect_ended(s, client_fail(s, PORTALOCK_E_NO_DAEMON, "%s", s->address.text));
                return;
        }
        fd = os_spawn_daemon(s);
        if (fd < 0) {
                connect_ended(s, fd);
                return;
        }
        s->report_fd = fd;
        s->words_len = 0;
        s->words[0] = '\0';
        s->state = SESSION_STARTING;
}

static const char *why_not(int error)
{
        return error == ENOENT ? "no daemon listens there" : error == ECONNREFUSED ? "the daemon that listened there is gone" : strerror(error);
}

static void try_connect(struct portalock_session *s)
{
        int fd = pl_address_connect(&s->address);

        if (fd >= 0) {
                if (pl_address_check_server(&s->address, fd, &s->daemon_pid) != 0) {
                        pl_address_close(fd);
                        connect_ended(s, client_fail(s, PORTALOCK_E_DENIED, "%s", s->address.text));
                        return;
                }
                s->fd = fd;
                greet(s);
        } else if (fd == -EAGAIN && os_now_ms() < s->connect_deadline_ms) {
                connect_again(s, false);    /* its backlog is full */
        } else if ((fd == -ENOENT || fd == -ECONNREFUSED) && s->may_spawn && os_now_ms() < s->connect_deadline_ms) {
                if (s->greeted && s->pause_ms < PAUSE_SPAWN_MS)
                        connect_again(s, false);
                else
                        start_daemon(s);
        } else {
                client_fail(s, PORTALOCK_E_NO_DAEMON, "%.400s: %s", s->address.path, why_not(-fd));
                s->error.os_errno = -fd;
                connect_ended(s, PORTALOCK_E_NO_DAEMON);
        }
}

/* What the daemon says as it starts: whole lines; its log, READY, or its last words. Only the latest line is kept. True: it listens. */
static bool heard_ready(struct portalock_session *s)
{
        char *end;

        while ((end = memchr(s->words, '\n', s->words_len)) != NULL) {
                bool more = end + 1 < s->words + s->words_len;

                *end = '\0';
                if (strcmp(s->words, "READY") == 0)
                        return true;
                *end = '\n';
                if (!more)
                        return false;
                s->words_len -= (size_t)(end + 1 - s->words);
                memmove(s->words, end + 1, s->words_len);
        }
        return false;
}

static void stop_listening(struct portalock_session *s)
{
        os_hang_up(s);
        s->words[s->words_len] = '\0';
        s->words[strcspn(s->words, "\n")] = '\0';
}

static void listen_to_start(struct portalock_session *s)
{
        int64_t n;

        for (;;) {
                /* Of a line that is too long the beginning is kept, which says what the matter is; a path may be 4095 bytes. */
                if (s->words_len == sizeof s->words - 1)
                        s->words_len = s->words[s->words_len - 1] == '\n' ? 0 : sizeof s->words / 2;
                n = os_read_report(s, s->words + s->words_len, sizeof s->words - 1 - s->words_len);
                if (n == -EAGAIN)
                        break;
                if (n > 0)
                        s->words_len += (size_t)n;
                if (n > 0 && !heard_ready(s))
                        continue;
                stop_listening(s);
                if (n > 0 || strstr(s->words, "already serves") != NULL) {
                        connect_again(s, n > 0);    /* another one's daemon may need a moment to listen, or to end */
                        return;
                }
                connect_ended(s, client_fail(s, PORTALOCK_E_NO_DAEMON, "the daemon did not start: %.380s", s->words[0] != '\0' ? s->words : "it said nothing"));
                return;
        }
        if (os_now_ms() < s->connect_deadline_ms)
                return;
        stop_listening(s);
        connect_ended(s, client_fail(s, PORTALOCK_E_NO_DAEMON, "the daemon did not start in time"));
}

void connect_step(struct portalock_session *s)
{
        enum session_state before;

        do {
                before = s->state;
                if (s->state == SESSION_PAUSING && os_now_ms() >= s->resume_ms)
                        try_connect(s);
                else if (s->state == SESSION_STARTING)
                        listen_to_start(s);
        } while (s->state != before && (s->state == SESSION_PAUSING || s->state == SESSION_STARTING));
}

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

static int64_t reconnect_ms(void)
{
        const char *text = getenv("PORTALOCK_RECONNECT_MS");
        long long ms;
        char *end;

        if (text == NULL || text[0] == '\0')
                return RECONNECT_MS;
        errno = 0;
        ms = strtoll(text, &end, 10);
        return errno == 0 && *end == '\0' && ms >= 0 && ms <= INT32_MAX ? ms : RECONNECT_MS;
}

static bool spawn_forbidden(int flags)
{
        const char *no_spawn = getenv("PORTALOCK_NO_SPAWN");

        return (flags & PORTALOCK_CONNECT_NO_SPAWN) != 0 || (no_spawn != NULL && no_spawn[0] != '\0' && strcmp(no_spawn, "0") != 0);
}

/* The session under whose lock this program runs, as lockctl run tells its command; 0: none. */
static int64_t parent_session(void)
{
        const char *text = getenv("PORTALOCK_SESSION");
        int64_t id = 0;

        if (text == NULL || text[0] == '\0')
                return 0;
        for (; *text >= '0' && *text <= '9'; text++) {
                id = id * 10 + (*text - '0');
                if (id > PL_INTEGER_MAX)
                        return 0;
        }
        return *text == '\0' ? id : 0;
}

int portalock_connect_start(const char *client, int flags, void (*done)(void *arg, portalock_session *s, int result), void *arg, portalock_session **out)
{
        struct portalock_session *s = calloc(1, sizeof *s);

        *out = s;
        if (s == NULL)
                return PORTALOCK_E_NO_MEMORY;
        s->fd = s->report_fd = -1;
        s->owner = os_process_id();
        s->earliest_ms = NEVER;
        s->state = SESSION_PAUSING;
        s->connect_deadline_ms = os_now_ms() + CONNECT_MAX_MS;
        s->reconnect_ms = reconnect_ms();
        s->jitter = (uint32_t)os_process_id() * 2654435761u ^ (uint32_t)os_now_ms();
        s->concurrent = (flags & PORTALOCK_CONNECT_CONCURRENT) != 0;
        s->parent = parent_session();
        TAILQ_INIT(&s->requests);
        TAILQ_INIT(&s->passed);
        LIST_INIT(&s->files);
        pl_frame_init(&s->frame, PL_REPLY_MAX);
        short_name(client != NULL ? client : "", s->client);
        if (os_begin(s) != 0) {
                session_end(s, client_no_memory(s), NULL);
                return PORTALOCK_E_NO_MEMORY;
        }
        if (pl_address_find(&s->address, NULL) != 0)
                client_fail(s, PORTALOCK_E_NO_DAEMON, "%s", s->address.text);
        else if (!s->address.named && pl_address_check(&s->address, false) != 0 && os_exists(s->address.path))
                client_fail(s, PORTALOCK_E_DENIED, "%s", s->address.text);
        if (s->error.code != 0) {
                session_end(s, s->error.code, NULL);
                return s->error.code;
        }
        s->may_spawn = !spawn_forbidden(flags) && !s->address.system;
        s->connected = done;
        s->connected_arg = arg;
        return 0;
}

struct connecting {
        bool over;
        int result;
};

static void on_connected(void *arg, portalock_session *s, int result)
{
        struct connecting *c = arg;

        (void)s;
        c->over = true;
        c->result = result;
}

int portalock_connect(const char *client, int flags, portalock_session **out)
{
        struct connecting c = {0};
        int e = portalock_connect_start(client, flags, on_connected, &c, out);

        if (e != 0)
                return e;
        wait_until(*out, &c.over);
        (*out)->connected = NULL;
        return c.result;
}
