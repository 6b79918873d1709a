/*
 * watch: events to those who asked for them. A watcher that does not read is not waited for: past the backlog its events are counted instead, and once
 * it reads again one `overflow` tells how many.
 */
#include "dispatch_internal.h"

#include "rows.h"
#include "sight.h"

#include <stdlib.h>
#include <string.h>

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
        return (int64_t)(engine_clock_us() / 1000);
}

/* `key` NULL: any file, or none of that name. */
static void add(struct dispatch *d, struct client *c, const struct pl_request *r, const struct table_key *key)
{
        const char *path = r->watch.path != NULL ? r->watch.path : "";
        struct watcher *w = calloc(1, sizeof *w + strlen(path) + 1);

        if (c->watching == NULL)
                c->watching = calloc(1, sizeof *c->watching);
        if (w == NULL || c->watching == NULL) {
                free(w);
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
        c->watching->count++;
        account_add(c->account, ACCOUNT_WATCHES);
        dispatch_answer_empty(d, c, &r->id);
}

static void identified(struct dispatch *d, struct client *c, struct incoming *in, const struct files_found *found)
{
        add(d, c, &in->request, found->result == FILES_OK ? &found->key : NULL);
}

void watch_begin(struct dispatch *d, struct client *c, struct incoming *in)
{
        const struct pl_request *r = &in->request;

        if (c->watching != NULL && c->watching->count >= PL_WATCHES_PER_SESSION_MAX)
                dispatch_refuse_limit(d, c, &r->id, "watches_per_session", "this session watches too much");
        else if (account_full(c->account, ACCOUNT_WATCHES))
                dispatch_refuse_limit(d, c, &r->id, "watches_per_uid", "this user's sessions watch too much");
        else if (r->watch.path != NULL && dispatch_opens_paths(d, c))   /* by identity too: other names of the file are watched with it */
                deferred_identify(d, c, in, r->watch.path, identified);
        else
                add(d, c, r, NULL);
}

void watch_end(struct dispatch *d, struct client *c)
{
        struct watcher *w, *next;

        for (w = c->watching != NULL ? LIST_FIRST(&d->watchers) : NULL; w != NULL; w = next) {
                next = LIST_NEXT(w, entry);
                if (w->client != c)
                        continue;
                LIST_REMOVE(w, entry);
                account_remove(c->account, ACCOUNT_WATCHES);
                free(w);
        }
        free(c->watching);
        c->watching = NULL;
}

static bool wants(const struct dispatch *d, const struct watcher *w, const struct happening *h)
{
        bool own = sight_owns(&d->registry, w->client, h->client);

        if (w->pid >= 0 && w->pid != h->client->peer.pid)
                return false;
        if (w->session >= 0 && ((uint64_t)w->session != h->client->id || !own))
                return false;
        if (w->path[0] == '\0' || (w->has_key && memcmp(&w->key, &h->key, sizeof h->key) == 0))
                return true;
        /* The file may be younger than the watch. */
        return (sight_knows_file(&d->registry, w->client, h->key) && strcmp(w->path, h->path) == 0) || (own && strcmp(w->path, h->label) == 0);
}

static void say_overflow(struct dispatch *d, struct client *c)
{
        struct pl_writer out;

        pl_notification_begin(&out, &d->out, "event");
        pl_write_string(&out, "event", "overflow");
        pl_write_integer(&out, "dropped", (int64_t)c->watching->events_dropped);
        pl_write_integer(&out, "time_ms", wall_ms());
        pl_reply_end(&out);
        dispatch_flush(d, c, true);
        c->watching->events_dropped = 0;
}

/* False: it does not read, and goes without the event. */
static bool has_room(struct dispatch *d, struct client *c)
{
        if (d->hooks.clogged(c->session)) {
                dispatch_wake_at(d, engine_now(d->engine) + RETRY_MS);
                return false;
        }
        if (c->watching->events_dropped > 0)
                say_overflow(d, c);
        return true;
}

static void say(struct dispatch *d, const struct watcher *w, const struct happening *h)
{
        bool own = sight_owns(&d->registry, w->client, h->client);
        struct pl_writer out;

        pl_notification_begin(&out, &d->out, "event");
        pl_write_string(&out, "event", h->event);
        rows_secret(&out, "session", own, (int64_t)h->client->id);
        if (own && h->lock != 0)
                pl_write_integer(&out, "lock", (int64_t)h->lock);
        rows_peer(&d->listing, &out, w->client, h->client);
        rows_path(&d->listing, &out, w->client, h->key, h->path);
        pl_write_string(&out, "mode", rows_mode_name(h->mode));
        if (own && h->token != 0)
                pl_write_integer(&out, "token", (int64_t)h->token);
        pl_write_integer(&out, "time_ms", wall_ms());
        pl_reply_end(&out);
        dispatch_flush(d, w->client, true);
}

/* As the watcher may call the file, else as the one whom this is about has called it, if that is a user of his. */
static void set_path(struct dispatch *d, const struct watcher *w, struct happening *h, char *path, size_t size)
{
        sight_path(&d->listing, w->client, h->key, h->bearer, path, size);
        h->path = path[0] != '\0' || !sight_owns(&d->registry, w->client, h->client) ? path : h->label;
}

/* A client that watches twice is told once. */
static void tell(struct dispatch *d, struct happening *h)
{
        char path[PL_PATH_BYTES_MAX];
        struct watcher *w;

        d->events++;
        LIST_FOREACH(w, &d->watchers, entry) {
                if (w->client->watching->last_event == d->events)
                        continue;
                /* In a user's daemon all see the same. */
                if (h->path == NULL || d->registry.everybody)
                        set_path(d, w, h, path, sizeof path);
                if (!wants(d, w, h))
                        continue;
                w->client->watching->last_event = d->events;
                if (has_room(d, w->client))
                        say(d, w, h);
                else
                        w->client->watching->events_dropped++;
        }
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

void watch_grant(struct dispatch *d, const struct grant *g, const struct seen *seen, const char *event)
{
        struct happening h = {.event = event, .client = g->client, .key = seen->key, .lock = g->lock, .mode = seen->mode, .token = seen->token,
                              .bearer = seen->bearer, .label = g->label};

        if (!LIST_EMPTY(&d->watchers))
                tell(d, &h);
}

void watch_tick(struct dispatch *d)
{
        struct watcher *w;

        LIST_FOREACH(w, &d->watchers, entry) {
                if (w->client->watching->events_dropped > 0)
                        (void)has_room(d, w->client);
        }
}
