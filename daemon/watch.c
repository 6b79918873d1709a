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
        uint64_t dropped;
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
        const char *path;
};

static int64_t wall_ms(void)
{
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void watch_begin(struct dispatch *d, struct client *c, const struct pl_request *r)
{
        const char *path = r->watch.path != NULL ? r->watch.path : "";
        struct file_error e;
        struct watcher *w;

        if (c->watch_count >= PL_WATCHES_PER_SESSION_MAX) {
                dispatch_refuse_limit(d, c, &r->id, "watches_per_session", "this session watches too much");
                return;
        }
        w = calloc(1, sizeof *w + strlen(path) + 1);
        if (w == NULL) {
                dispatch_refuse(d, c, &r->id, PL_E_INTERNAL_ERROR, "out of memory");
                return;
        }
        memcpy(w->path, path, strlen(path) + 1);
        w->client = c;
        w->pid = r->watch.pid;
        w->session = r->watch.session;
        /* By identity too, if that can be told at once: other names of the file are then watched as well. */
        w->has_key = path[0] != '\0' && files_identify(d->files, path, &w->key, &e) == FILES_OK;
        LIST_INSERT_HEAD(&d->watchers, w, entry);
        c->watch_count++;
        dispatch_answer_empty(d, c, &r->id);
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
        return w->path[0] == '\0' || strcmp(w->path, h->path) == 0 || (w->has_key && memcmp(&w->key, &h->key, sizeof h->key) == 0);
}

static void say_overflow(struct dispatch *d, struct watcher *w)
{
        struct pl_writer out;

        pl_notification_begin(&out, &d->out, "event");
        pl_write_string(&out, "event", "overflow");
        pl_write_integer(&out, "dropped", (int64_t)w->dropped);
        pl_write_integer(&out, "time_ms", wall_ms());
        pl_reply_end(&out);
        dispatch_flush(d, w->client, true);
        w->dropped = 0;
}

/* False: it does not read, and must wait with the event. */
static bool has_room(struct dispatch *d, struct watcher *w)
{
        if (d->hooks.clogged(w->client->session)) {
                dispatch_wake_at(d, engine_now(d->engine) + RETRY_MS);
                return false;
        }
        if (w->dropped > 0)
                say_overflow(d, w);
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
        pl_write_string(&out, "mode", pl_mode_name(h->mode == TABLE_EX ? PL_MODE_EX : PL_MODE_SH));
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
                if (has_room(d, w))
                        say(d, w, h);
                else
                        w->dropped++;
        }
}

/* As the system knows it, else as it was asked for. */
static void tell(struct dispatch *d, struct happening *h, const char *label)
{
        char path[PL_PATH_BYTES_MAX];

        files_path(d->files, table_any_bearer(engine_table(d->engine), h->key), path, sizeof path);
        h->path = path[0] != '\0' ? path : label;
        tell_all(d, h);
}

void watch_request(struct dispatch *d, const struct request *q, const char *event, const struct table_effect *fx)
{
        struct happening h = {.event = event, .client = q->client, .key = q->key, .mode = q->mode};

        if (LIST_EMPTY(&d->watchers))
                return;
        if (fx != NULL && fx->outcome == OUT_GRANTED) {
                h.lock = fx->lock;
                h.token = fx->token;
        }
        tell(d, &h, q->label);
}

void watch_grant(struct dispatch *d, const struct grant *g, const char *event)
{
        struct happening h = {.event = event, .client = g->client, .key = g->key, .lock = g->lock, .mode = g->mode, .token = g->token};

        if (!LIST_EMPTY(&d->watchers))
                tell(d, &h, g->label);
}

void watch_tick(struct dispatch *d)
{
        struct watcher *w;

        LIST_FOREACH(w, &d->watchers, entry) {
                if (w->dropped > 0)
                        (void)has_room(d, w);
        }
}
