#include "server.h"

#include "wire.h"
#include "log.h"

#include <stdlib.h>
#include <string.h>

#define DESCRIPTORS_OWN 32      /* the loop's, stdio, the start lock */

struct server {
        uv_loop_t *loop;
        struct listener *listener;
        struct transport_group *group;
        struct dispatch *dispatch;
        struct files *files;
        struct server_options options;
        LIST_HEAD(, session) sessions;
        size_t count;
        bool short_of_descriptors;
};

static size_t descriptors_used(const struct server *s)
{
        return DESCRIPTORS_OWN + s->count + files_count(s->files);
}

/* Below the reserve no new connections; work in hand goes on and frees some. */
static void check_descriptors(struct server *s)
{
        bool is_short = descriptors_used(s) + PL_FDS_RESERVE > s->options.descriptors_max;

        if (is_short == s->short_of_descriptors || s->listener == NULL)
                return;
        s->short_of_descriptors = is_short;
        listener_accepting(s->listener, !is_short);
        log_event(LOG_WARNING, is_short ? "accept_paused" : "accept_resumed", "descriptors=%zu limit=%zu", descriptors_used(s), s->options.descriptors_max);
}

static void on_over(void *arg, struct session *session)
{
        struct server *s = arg;

        LIST_REMOVE(session, entry);
        session_destroy(session);
        s->count--;
        check_descriptors(s);
        if (s->count == 0)
                s->options.idle(s->options.arg, true);
}

static void on_accepted(void *arg, int fd)
{
        struct server *s = arg;
        struct session *session;
        const char *why;
        struct peer peer;

        if (peer_identify(fd, &peer) != 0 || !peer_allowed(&peer, s->options.own_uid)) {
                log_event(LOG_WARNING, "denied", "pid=%lld uid=%lld command=%s", (long long)peer.pid, (long long)peer.uid, log_quote(peer.command));
                transport_refuse(fd, "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":6,\"message\":\"this daemon serves another user\",\"data\":{\"name\":\"DENIED\"}}}\n");
                return;
        }
        session = session_create(s->group, s->dispatch, fd, &peer, on_over, s, &why);
        if (session == NULL) {
                log_event(LOG_WARNING, "refused", "pid=%lld limit=%s", (long long)peer.pid, why);
                return;
        }
        LIST_INSERT_HEAD(&s->sessions, session, entry);
        if (s->count++ == 0)
                s->options.idle(s->options.arg, false);
        check_descriptors(s);
}

struct server *server_create(uv_loop_t *loop, int fd, struct dispatch *dispatch, struct files *files, const struct server_options *options)
{
        struct server *s = calloc(1, sizeof *s);

        if (s == NULL)
                return NULL;
        s->loop = loop;
        s->dispatch = dispatch;
        s->files = files;
        s->options = *options;
        LIST_INIT(&s->sessions);
        s->group = transport_group_create(loop);
        if (s->group != NULL)
                s->listener = listener_create(loop, fd, on_accepted, s);
        if (s->listener == NULL) {
                transport_group_destroy(s->group);
                free(s);
                return NULL;
        }
        return s;
}

void server_stop_listening(struct server *s)
{
        listener_destroy(s->listener);
        s->listener = NULL;
}

void server_destroy(struct server *s)
{
        struct session *session;

        if (s == NULL)
                return;
        server_stop_listening(s);
        while ((session = LIST_FIRST(&s->sessions)) != NULL) {
                LIST_REMOVE(session, entry);
                session_destroy(session);
        }
        transport_group_destroy(s->group);
        free(s);
}
