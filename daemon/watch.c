/*
 * watch: events to those who asked for them. A watcher that does not read is not waited for: past the backlog its events are counted instead, and once
 * it reads again one `overflow` tells how many.
 */
#include "dispatch_internal.h"

#include "rows.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RETRY_MS 200    /* how often to look whether a full watcher reads again */

struct watcher {
        LIST_ENTRY(watcher) entry;
        struct client *client;
        struct table_key key;           /* of the path as it was when the watch began */
        bool has_key;
        int64_t pid, session;           /* -1: any */
        char path[];                    /* "": any */
};

/* What is told, before it is known to whom. */
struct happening {
        const char *event;
        struct client *client;
        struct table_key key;
        table_id lock;                  /* 0: none */
        enum table_mode mode;
        uint64_t token;                 /* 0: none */
        uint64_t bearer;
        const char *label;              /* as it was asked for; "" when it was not */
        const char *path;
};

static int64_t wall_ms(void)
{
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* `key` NULL: any file, or none of that name. */
static void add(struct dispatch *d, struct client *c, const struct pl_request *r, const struct table_key *key)
{
        const char *path = r->watch.path != NULL ? r->watch.path : "";
        struct watcher *w = calloc(1, sizeof *w + strlen(path) + 1);

        if (w == NULL) {
                dispatch_refuse_for_memory(d, c, &r->id);
                return;
        }
        memcpy(w->path, path, strlen(path) + 1);
        w->client = c;
        w->pid = r->watch.pid;
        w->session = r->watch.session;
        w->has_key = key != NULL;
        if (w->has_key)
                w->key = *key;
        LIST_INSERT_HEAD(&d->watchers, w, entry);
        c->watch_count++;
        dispatch_answer_empty(d, c, &r->id);
}

static void identified(struct dispatch *d, struct client *c, struct incoming *in, const struct files_found *found)
{
        add(d, c, &in->request, found->result == FILES_OK ? &found->key : NULL);
}

void watch_begin(struct dispatch *d, struct client *c, struct incoming *in)
{
        const struct pl_request *r = &in->request;

        if (c->watch_count >= PL_WATCHES_PER_SESSION_MAX)
                dispatch_refuse_limit(d, c, &r->id, "watches_per_session", "this session watches too much");
        else if (r->watch.path != NULL)         /* by identity too: other names of the file are watched with it */
                deferred_identify(d, c, in, r->watch.path, identified);
        else
                add(d, c, r, NULL);
}

void watch_end(struct dispatch *d, struct client *c)
{
        struct watcher *w, *next;

        for (w = c->watch_count > 0 ? LIST_FIRST(&d->watchers) : NULL; w != NULL; w = next) {
                next = LIST_NEXT(w, entry);
                if (w->client != c)
                        continue;
                LIST_REMOVE(w, entry);
                free(w);
        }
        c->watch_count = 0;
}

static bool wants(const struct watcher *w, const struct happening *h)
{
        if (w->pid >= 0 && w->pid != h->client->peer.pid)
                return false;
        if (w->session >= 0 && (uint64_t)w->session != h->client->id)
                return false;
        if (w->path[0] == '\0' || (w->has_key && memcmp(&w->key, &h->key, sizeof h->key) == 0))
                return true;
        /* The file may be younger than the watch. */
        return strcmp(w->path, h->path) == 0 || strcmp(w->path, h->label) == 0;
}

static void say_overflow(struct dispatch *d, struct client *c)
{
        struct pl_writer out;

        pl_notification_begin(&out, &d->out, "event");
        pl_write_string(&out, "event", "overflow");
        pl_write_integer(&out, "dropped", (int64_t)c->events_dropped);
        pl_write_integer(&out, "time_ms", wall_ms());
        pl_reply_end(&out);
        dispatch_flush(d, c, true);
        c->events_dropped = 0;
}

/* False: it does not read, and goes without the event. */
static bool has_room(struct dispatch *d, struct client *c)
{
        if (d->hooks.clogged(c->session)) {
                dispatch_wake_at(d, engine_now(d->engine) + RETRY_MS);
                return false;
        }
        if (c->events_dropped > 0)
                say_overflow(d, c);
        return true;
}

static void say(struct dispatch *d, const struct watcher *w, const struct happening *h)
{
        struct pl_writer out;

        pl_notification_begin(&out, &d->out, "event");
        pl_write_string(&out, "event", h->event);
        pl_write_integer(&out, "session", (int64_t)h->client->id);
        if (h->lock != 0)
                pl_write_integer(&out, "lock", (int64_t)h->lock);
        rows_peer(&d->listing, &out, h->client);
        pl_write_string(&out, "path", h->path);
        pl_write_string(&out, "mode", rows_mode_name(h->mode));
        if (h->token != 0)
                pl_write_integer(&out, "token", (int64_t)h->token);
        pl_write_integer(&out, "time_ms", wall_ms());
        pl_reply_end(&out);
        dispatch_flush(d, w->client, true);
}

/* A client that watches twice is told once. */
static void tell_all(struct dispatch *d, const struct happening *h)
{
        struct watcher *w;

        d->events++;
        LIST_FOREACH(w, &d->watchers, entry) {
                if (w->client->last_event == d->events || !wants(w, h))
                        continue;
                w->client->last_event = d->events;
                if (has_room(d, w->client))
                        say(d, w, h);
                else
                        w->client->events_dropped++;
        }
}

/* As the system knows it, else as it was asked for. What has just been lost is in the table no more. */
static void tell(struct dispatch *d, struct happening *h)
{
        uint64_t bearer = table_any_bearer(engine_table(d->engine), h->key);
        char path[PL_PATH_BYTES_MAX];

        files_path(d->files, bearer != 0 ? bearer : h->bearer, path, sizeof path);
        h->path = path[0] != '\0' ? path : h->label;
        tell_all(d, h);
}

void watch_request(struct dispatch *d, const struct request *q, const char *event, const struct table_effect *fx)
{
        struct happening h = {.event = event, .client = q->client, .key = q->key, .mode = q->mode, .bearer = q->bearer, .label = q->label};

        if (LIST_EMPTY(&d->watchers))
                return;
        if (fx != NULL && fx->outcome == OUT_GRANTED) {
                h.lock = fx->lock;
                h.token = fx->token;
        }
        tell(d, &h);
}

void watch_grant(struct dispatch *d, const struct grant *g, const char *event)
{
        struct happening h = {.event = event, .client = g->client, .key = g->key, .lock = g->lock, .mode = g->mode, .token = g->token,
                              .bearer = g->bearer, .label = g->label};

        if (!LIST_EMPTY(&d->watchers))
                tell(d, &h);
}

void watch_tick(struct dispatch *d)
{
        struct watcher *w;

        LIST_FOREACH(w, &d->watchers, entry) {
                if (w->client->events_dropped > 0)
                        (void)has_room(d, w->client);
        }
}
