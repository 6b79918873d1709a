#include "server.h"

#include "wire.h"
#include "log.h"

#include <stdlib.h>
#include <string.h>

#define LOG_EVERY_MS 1000       /* at the brink every connection would be worth two lines */

struct server {
        uv_loop_t *loop;
        struct listener *listener;
        struct session_group group;
        struct descriptors *descriptors;
        struct server_options options;
        LIST_HEAD(, session) sessions;
        size_t count;
        bool paused, paused_logged;
        uint64_t logged_ms;
        uint64_t refusal_logged_ms;     /* strangers and those at a limit can come thousands of times a second */
        unsigned long long refusals_unlogged;
};

/* What has become of a pause, if the last word about it is old enough. */
static void log_pause(struct server *s)
{
        uint64_t now = turns_now(s->group.turns);

        if (s->paused == s->paused_logged || (s->logged_ms != 0 && now - s->logged_ms < LOG_EVERY_MS))
                return;
        s->paused_logged = s->paused;
        s->logged_ms = now;
        log_event(LOG_WARNING, s->paused ? "accept_paused" : "accept_resumed", "descriptors=%zu limit=%zu", s->descriptors->used, s->descriptors->limit);
}

/* No new connections below the reserve; work in hand goes on and frees some. Those whose descriptors were held back try again. */
static void on_descriptors(void *arg)
{
        struct server *s = arg;
        bool pause = s->descriptors->level >= DESCRIPTORS_NO_CONNECTIONS;

        turns_unpark(s->group.turns);
        if (pause != s->paused && s->listener != NULL)
                listener_accepting(s->listener, !pause);
        s->paused = pause;
        log_pause(s);
}

static void log_refusal(struct server *s, struct peer *peer, const char *event, const char *why)
{
        uint64_t now = turns_now(s->group.turns);

        if (s->refusal_logged_ms != 0 && now - s->refusal_logged_ms < LOG_EVERY_MS) {
                s->refusals_unlogged++;
                return;
        }
        log_event(LOG_WARNING, event, "pid=%lld uid=%lld command=%s reason=%s unlogged=%llu", (long long)peer->pid, (long long)peer->uid,
                  log_quote(peer_command(peer)), why, s->refusals_unlogged);
        s->refusal_logged_ms = now;
        s->refusals_unlogged = 0;
}

/* A user has fewer descriptors than he may have again: some of his may have been held back. */
static void on_account_freed(void *arg)
{
        turns_unpark(((struct server *)arg)->group.turns);
}

static bool may_connect(const struct server *s, const struct peer *peer)
{
        return s->options.accounts != NULL || peer_allowed(peer, s->options.own_uid);
}

static void on_over(void *arg, struct session *session)
{
        struct server *s = arg;

        LIST_REMOVE(session, entry);
        session_destroy(session);
        s->count--;
        descriptors_remove(s->descriptors);
        if (s->listener != NULL)
                listener_retry(s->listener);
        log_pause(s);
        if (s->count == 0)
                s->options.idle(s->options.arg, true);
}

static void on_accepted(void *arg, int fd)
{
        struct server *s = arg;
        struct session *session;
        const char *why;
        struct peer peer;

        if (fd < 0) {
                log_event(LOG_ERROR, "accept_failed", "errno=%s descriptors=%zu limit=%zu", pl_errno_name(-fd), s->descriptors->used, s->descriptors->limit);
                return;
        }
        if (peer_identify(fd, &peer) != 0 || !may_connect(s, &peer)) {
                log_refusal(s, &peer, "denied", "another_user");
                transport_refuse(fd, "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":6,\"message\":\"this daemon serves another user\",\"data\":{\"name\":\"DENIED\"}}}\n");
                return;
        }
        session = session_create(&s->group, fd, &peer, &why);
        if (session == NULL) {
                log_refusal(s, &peer, "refused", why);
                return;
        }
        LIST_INSERT_HEAD(&s->sessions, session, entry);
        descriptors_add(s->descriptors);
        log_pause(s);
        if (s->count++ == 0)
                s->options.idle(s->options.arg, false);
}

struct server *server_create(uv_loop_t *loop, int fd, struct dispatch *dispatch, struct descriptors *descriptors, const struct server_options *options)
{
        struct server *s = calloc(1, sizeof *s);

        if (s == NULL)
                return NULL;
        s->loop = loop;
        s->descriptors = descriptors;
        s->options = *options;
        LIST_INIT(&s->sessions);
        s->group.dispatch = dispatch;
        s->group.over = on_over;
        s->group.arg = s;
        s->group.transports = transport_group_create(loop);
        s->group.turns = turns_create(loop);
        if (s->group.transports != NULL && s->group.turns != NULL)
                s->listener = listener_create(loop, fd, on_accepted, s);
        if (s->listener == NULL) {
                turns_destroy(s->group.turns);
                transport_group_destroy(s->group.transports);
                free(s);
                return NULL;
        }
        descriptors_watch(descriptors, on_descriptors, s);
        if (options->accounts != NULL)
                accounts_watch(options->accounts, on_account_freed, s);
        return s;
}

void server_stop_listening(struct server *s)
{
        listener_destroy(s->listener);
        s->listener = NULL;
}

void server_hold(struct server *s, bool on)
{
        transport_group_hold(s->group.transports, on);
}

void server_destroy(struct server *s)
{
        struct session *session;

        if (s == NULL)
                return;
        descriptors_watch(s->descriptors, NULL, NULL);
        if (s->options.accounts != NULL)
                accounts_watch(s->options.accounts, NULL, NULL);
        server_stop_listening(s);
        while ((session = LIST_FIRST(&s->sessions)) != NULL) {
                LIST_REMOVE(session, entry);
                session_destroy(session);
        }
        session_group_clear(&s->group);
        turns_destroy(s->group.turns);
        transport_group_destroy(s->group.transports);
        free(s);
}
