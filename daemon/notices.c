/*
 * What waiters are told and what the log says of long waits.
 *
 * A request with `notify` is told at once that it waits, and then of each change of its position, at most every PL_NOTIFY_INTERVAL_MS, the
 * last change always: a change inside the interval marks it dirty, and the tick at its end tells it.
 */
#include "dispatch_internal.h"

#include "log.h"
#include "rows.h"

#include <inttypes.h>
#include <string.h>

static void tell(struct dispatch *d, struct request *q, uint64_t position)
{
        struct pl_writer w;

        pl_notification_begin(&w, &d->out, "waiting");
        if (q->id.kind == PL_ID_INTEGER)
                pl_write_integer(&w, "id", q->id.number);
        else
                pl_write_string(&w, "id", q->id.text);
        pl_write_integer(&w, "position", (int64_t)position);
        rows_holders(&d->listing, &w, q->key);
        pl_reply_end(&w);
        dispatch_flush(d, q->client, true);
        q->told_position = position;
        q->told_at_ms = engine_now(d->engine);
        q->dirty = false;
}

void notices_moved(struct dispatch *d, struct table_key key)
{
        const struct table *t = engine_table(d->engine);
        int64_t now = engine_now(d->engine);
        struct table_waiter wt;
        struct request *q;
        size_t i;

        if (d->notifying == 0)
                return;
        for (i = 0; table_waiter_at(t, key, i, &wt); i++) {
                q = registry_request(&d->registry, wt.cookie);
                if (q == NULL || !q->notify || q->told_at_ms == 0)
                        continue;
                q->dirty = true;
                dispatch_wake_at(d, q->told_at_ms + PL_NOTIFY_INTERVAL_MS > now ? q->told_at_ms + PL_NOTIFY_INTERVAL_MS : now);
        }
}

void notices_waiting(struct dispatch *d, const struct table_effect *fx)
{
        struct request *q = registry_request(&d->registry, fx->cookie);

        if (q == NULL)
                return;
        q->table_request = fx->request;
        if (q->told_at_ms == 0) {
                q->told_at_ms = -1;     /* it waits, but was not told yet */
                if (d->options.log_waits_ms >= 0)
                        dispatch_wake_at(d, q->since_ms + d->options.log_waits_ms);
        }
        (void)outside_refresh(d->outside);
        if (q->notify) {
                q->dirty = true;
                dispatch_wake_at(d, engine_now(d->engine));
        }
}

static void log_wait(struct dispatch *d, struct request *q)
{
        const struct table *t = engine_table(d->engine);
        const struct outside_holder *o;
        struct table_holder h;
        char path[PL_PATH_BYTES_MAX];
        size_t i, count;

        q->logged = true;
        files_path(d->files, table_any_bearer(t, q->key), path, sizeof path);
        log_event(LOG_WARNING, "waiting", "session=%" PRIu64 " pid=%" PRId64 " command=%s mode=%s path=%s waiting_ms=%" PRId64,
                  q->client->id, q->client->peer.pid, log_quote(q->client->peer.command), pl_mode_name((int)q->mode), log_quote(path),
                  engine_now(d->engine) - q->since_ms);
        for (i = 0; i < ROWS_HOLDERS_MAX && table_holder_at(t, q->key, i, &h); i++) {
                const struct client *c = registry_client(&d->registry, h.session);

                if (c != NULL)
                        log_event(LOG_WARNING, "blocked_by", "session=%" PRIu64 " pid=%" PRId64 " command=%s mode=%s path=%s lock=%" PRIu64 " held_ms=%" PRId64,
                                  c->id, c->peer.pid, log_quote(c->peer.command), pl_mode_name((int)h.mode), log_quote(path), h.lock,
                                  engine_now(d->engine) - h.since_ms);
        }
        if (i > 0)
                return;
        o = outside_of(d->outside, q->key.device, q->key.inode, &count);
        for (i = 0; i < count && i < ROWS_HOLDERS_MAX; i++)
                log_event(LOG_WARNING, "blocked_by", "outside=true pid=%" PRId64 " command=%s path=%s", o[i].ours ? (int64_t)0 : o[i].pid,
                          log_quote(o[i].command), log_quote(path));
}

void notices_granted(struct dispatch *d, const struct request *q, int64_t waited_ms)
{
        if (!q->logged)
                return;
        log_event(LOG_WARNING, "granted", "session=%" PRIu64 " pid=%" PRId64 " command=%s mode=%s path=%s waited_ms=%" PRId64, q->client->id,
                  q->client->peer.pid, log_quote(q->client->peer.command), pl_mode_name((int)q->mode), log_quote(q->label), waited_ms);
        (void)d;
}

static void log_long_waits(struct dispatch *d, int64_t now)
{
        struct request *q;

        /* By arrival: the first one that is not due ends the walk; those logged before are passed over. */
        for (q = d->registry.oldest; q != NULL && d->options.log_waits_ms >= 0; q = q->newer) {
                if (q->logged)
                        continue;
                if (q->since_ms + d->options.log_waits_ms > now) {
                        dispatch_wake_at(d, q->since_ms + d->options.log_waits_ms);
                        return;
                }
                log_wait(d, q);
        }
}

/* Tell those of one file who are due; mark the others' time. */
static void tell_file(struct dispatch *d, struct table_key key, int64_t now)
{
        const struct table *t = engine_table(d->engine);
        struct table_waiter wt;
        struct request *q;
        size_t i;

        for (i = 0; table_waiter_at(t, key, i, &wt); i++) {
                q = registry_request(&d->registry, wt.cookie);
                if (q == NULL || !q->dirty)
                        continue;
                if (d->hooks.clogged(q->client->session))
                        q->told_at_ms = now;    /* it does not read: later, then, and only the latest */
                if (q->told_at_ms > 0 && q->told_at_ms + PL_NOTIFY_INTERVAL_MS > now)
                        dispatch_wake_at(d, q->told_at_ms + PL_NOTIFY_INTERVAL_MS);
                else
                        tell(d, q, wt.position);
        }
}

void notices_tick(struct dispatch *d)
{
        int64_t now = engine_now(d->engine);
        struct request *q;

        log_long_waits(d, now);
        if (d->notifying == 0)
                return;
        for (q = d->registry.oldest; q != NULL; q = q->newer) {
                if (q->dirty && (q->told_at_ms <= 0 || q->told_at_ms + PL_NOTIFY_INTERVAL_MS <= now))
                        tell_file(d, q->key, now);
                if (q->dirty)
                        q->dirty = q->told_at_ms > 0 && q->told_at_ms + PL_NOTIFY_INTERVAL_MS > now;
        }
        for (q = d->registry.oldest; q != NULL; q = q->newer) {
                if (q->dirty)
                        dispatch_wake_at(d, q->told_at_ms + PL_NOTIFY_INTERVAL_MS);
        }
}
