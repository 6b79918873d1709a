/*
 * What waiters are told and what the log says of long waits.
 *
 * A request with `notify` is told at once that it waits, and then of each change of its position or of the holders, at most every
 * PL_NOTIFY_INTERVAL_MS, the last change always. Such requests of one file are its audience. When its queue moves the file is put on the list of the
 * untold, and once in an interval its queue is walked and everybody told who does not know yet. A file without audience costs one look into a hash,
 * whatever waits there or elsewhere.
 */
#include "dispatch_internal.h"

#include "log.h"
#include "rows.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_AGAIN_MS 1000      /* the last look at outsiders is younger than who has come to wait for one */
#define LOG_LOOK_MS 2000        /* a log line without a name waits so long for a look at outsiders: two of them, if one came too early */
#define LOG_LINES_PER_TURN 100  /* of the loop: a crowd that has waited long must not hold up the others */

/* One who wants to be told, and what it was told last. */
struct listener {
        struct audience *audience;      /* NULL: of none now */
        uint64_t position, holders;
        int64_t told_at_ms;             /* 0: nothing yet */
};

struct audience {
        struct table_key key;
        size_t count;
        bool untold;            /* on that list */
        bool looks;             /* it is being looked up who keeps the file outside */
        int64_t round_ms;       /* when they were told last */
        TAILQ_ENTRY(audience) entry;
        UT_hash_handle hh;
};

void notices_init(struct dispatch *d)
{
        TAILQ_INIT(&d->audiences.untold);
        d->look_ms = TABLE_NEVER;
}

/* ---- audiences ---- */

static struct audience *find_audience(const struct dispatch *d, struct table_key key)
{
        struct audience *a;

        HASH_FIND(hh, d->audiences.by_file, &key, sizeof key, a);
        return a;
}

static struct audience *get_audience(struct dispatch *d, struct table_key key)
{
        struct audience *a = find_audience(d, key);

        if (a != NULL || (a = calloc(1, sizeof *a)) == NULL)
                return a;
        a->key = key;
        HASH_ADD(hh, d->audiences.by_file, key, sizeof a->key, a);
        if (a->hh.tbl == NULL) {
                free(a);
                return NULL;
        }
        return a;
}

static int64_t due(const struct audience *a)
{
        return a->round_ms + PL_NOTIFY_INTERVAL_MS;
}

static void set_untold(struct dispatch *d, struct audience *a)
{
        if (!a->untold)
                TAILQ_INSERT_TAIL(&d->audiences.untold, a, entry);
        a->untold = true;
        dispatch_wake_at(d, due(a));
}

static void set_told(struct dispatch *d, struct audience *a)
{
        if (a->untold)
                TAILQ_REMOVE(&d->audiences.untold, a, entry);
        a->untold = false;
}

static bool listens(const struct request *q)
{
        return q->listener != NULL && q->listener->audience != NULL;
}

void notices_forget(struct dispatch *d, struct request *q)
{
        struct audience *a;

        if (!listens(q))
                return;
        a = q->listener->audience;
        q->listener->audience = NULL;   /* when it was told last is still to be known, if it joins another one */
        if (--a->count > 0)
                return;
        set_told(d, a);
        HASH_DELETE(hh, d->audiences.by_file, a);
        free(a);
}

/* ---- telling ---- */

static void tell(struct dispatch *d, struct request *q, uint64_t position, uint64_t holders)
{
        struct pl_writer w;

        pl_notification_begin(&w, &d->out, "waiting");
        if (q->id.kind == PL_ID_INTEGER)
                pl_write_integer(&w, "id", q->id.number);
        else
                pl_write_string(&w, "id", q->id.text);
        pl_write_integer(&w, "position", (int64_t)position);
        rows_holders(&d->listing, &w, q->client, q->key);
        pl_reply_end(&w);
        dispatch_flush(d, q->client, true);
        q->listener->position = position;
        q->listener->holders = holders;
        q->listener->told_at_ms = engine_now(d->engine);
}

/* False: there is something to tell, but not yet. One that does not read is told later, and then only the latest. */
static bool tell_news(struct dispatch *d, struct request *q, uint64_t position, uint64_t holders)
{
        const struct listener *l = q->listener;

        if (l->told_at_ms != 0) {
                if (l->position == position && l->holders == holders)
                        return true;
                if (l->told_at_ms + PL_NOTIFY_INTERVAL_MS > engine_now(d->engine))
                        return false;
        }
        if (d->hooks.clogged(q->client->session))
                return false;
        tell(d, q, position, holders);
        return true;
}

/* True when all of them know. */
static bool tell_audience(struct dispatch *d, struct audience *a)
{
        const struct table *t = engine_table(d->engine);
        uint64_t holders = rows_holders_mark(&d->listing, a->key);
        size_t i, left = a->count;
        struct table_waiter wt;
        struct request *q;
        bool all = true;

        for (i = 0; left > 0 && table_waiter_at(t, a->key, i, &wt); i++) {
                q = registry_request(&d->registry, wt.cookie);
                if (q == NULL || q->listener == NULL || q->listener->audience != a)
                        continue;
                left--;
                all &= tell_news(d, q, wt.position, holders);
        }
        a->round_ms = engine_now(d->engine);
        return all;
}

static void tell_untold(struct dispatch *d)
{
        int64_t now = engine_now(d->engine);
        struct audience *a, *next;

        for (a = TAILQ_FIRST(&d->audiences.untold); a != NULL; a = next) {
                next = TAILQ_NEXT(a, entry);
                if (due(a) <= now && tell_audience(d, a))
                        set_told(d, a);
                else
                        dispatch_wake_at(d, due(a));
        }
}

void notices_moved(struct dispatch *d, struct table_key key)
{
        struct audience *a = find_audience(d, key);

        if (a != NULL)
                set_untold(d, a);
}

/* ---- outsiders ---- */

/* Is it the head of its queue, and nobody of ours but itself has the file? */
static bool waits_for_outsider(const struct table *t, const struct request *q)
{
        struct table_waiter head;
        struct table_holder h;
        uint64_t bearer = 0;
        size_t i;

        if (!table_waiter_at(t, q->key, 0, &head) || head.cookie != q->cookie || !(head.in_kernel || head.upgrade))
                return false;
        for (i = 0; table_holder_at(t, q->key, i, &h); i++) {
                if (!head.upgrade || (i > 0 && (h.shared || h.bearer != bearer)))
                        return false;
                bearer = h.bearer;
        }
        return true;
}

/* Look who it is, now or as soon as the last look is old enough. */
static void look(struct dispatch *d)
{
        d->look_ms = TABLE_NEVER;
        if (outside_refresh(d->outside))
                return;
        d->look_ms = engine_now(d->engine) + LOOK_AGAIN_MS;
        dispatch_wake_at(d, d->look_ms);
}

void notices_outside_refreshed(struct dispatch *d)
{
        struct audience *a, *next;

        HASH_ITER(hh, d->audiences.by_file, a, next) {
                if (!a->looks)
                        continue;
                a->looks = d->look_ms != TABLE_NEVER;   /* this look may have come too early: there will be another one */
                set_untold(d, a);
        }
        if (d->registry.unlogged != NULL)
                dispatch_wake_at(d, engine_now(d->engine));     /* the log may have waited for it */
}

/* ---- waits ---- */

/* Told at once, while its place is known for nothing: at the end of the queue, or at its head. */
static void join(struct dispatch *d, struct request *q)
{
        uint64_t position = table_position(engine_table(d->engine), q->table_request);
        struct audience *a;

        if (position > 0 && q->listener == NULL)
                q->listener = calloc(1, sizeof *q->listener);
        a = position > 0 && q->listener != NULL ? get_audience(d, q->key) : NULL;
        if (a == NULL)
                return;         /* it waits no more; or no memory: it goes without notices */
        a->count++;
        q->listener->audience = a;
        if (!tell_news(d, q, position, rows_holders_mark(&d->listing, q->key)))
                set_untold(d, a);
}

void notices_waiting(struct dispatch *d, const struct table_effect *fx)
{
        struct request *q = registry_request(&d->registry, fx->cookie);
        bool outside;

        if (q == NULL)
                return;
        q->table_request = fx->request;
        if (!q->waits)
                watch_request(d, q, "waiting", NULL);
        q->waits = true;
        if (!q->logged && d->options.log_waits_ms >= 0)
                dispatch_wake_at(d, q->since_ms + d->options.log_waits_ms);
        outside = waits_for_outsider(engine_table(d->engine), q);
        if (outside)
                look(d);
        if (q->notify && !listens(q))
                join(d, q);
        if (listens(q))
                q->listener->audience->looks |= outside;
}

/* ---- the log ---- */

static const char *path_of(const struct dispatch *d, const struct request *q, char *out, size_t size)
{
        files_path(d->files, table_any_bearer(engine_table(d->engine), q->key), out, size);
        return log_quote(out[0] != '\0' ? out : q->label);
}

/* Nobody can be named yet, but a look at outsiders may tell who it is. */
static bool may_know_soon(struct dispatch *d, const char *blockers, int64_t due)
{
        if (blockers[0] != '\0' || engine_now(d->engine) >= due + LOG_LOOK_MS)
                return false;
        if (d->look_ms == TABLE_NEVER)
                look(d);
        dispatch_wake_at(d, due + LOG_LOOK_MS);
        return true;
}

/* False: not yet; it is tried again after the next look. */
static bool log_wait(struct dispatch *d, struct request *q, int64_t due)
{
        struct peer *peer = &q->client->peer;
        char path[PL_PATH_BYTES_MAX], blockers[512];

        rows_blockers(&d->listing, q, blockers, sizeof blockers);
        if (may_know_soon(d, blockers, due))
                return false;
        log_event(LOG_WARNING, "waiting", "session=%" PRIu64 " pid=%" PRId64 " command=%s mode=%s path=%s waiting_ms=%" PRId64 " blocked_by=%s",
                  q->client->id, peer->pid, log_quote(peer_command(peer)), rows_mode_name(q->mode), path_of(d, q, path, sizeof path),
                  engine_now(d->engine) - q->since_ms, log_quote(blockers));
        q->logged = true;
        return true;
}

void notices_granted(struct dispatch *d, const struct request *q, int64_t waited_ms)
{
        struct peer *peer = &q->client->peer;
        char path[PL_PATH_BYTES_MAX];

        if (!q->logged)
                return;
        log_event(LOG_WARNING, "granted", "session=%" PRIu64 " pid=%" PRId64 " command=%s mode=%s path=%s waited_ms=%" PRId64, q->client->id,
                  peer->pid, log_quote(peer_command(peer)), rows_mode_name(q->mode), path_of(d, q, path, sizeof path), waited_ms);
}

static void log_long_waits(struct dispatch *d)
{
        struct request *q;
        int64_t at;
        int lines;

        if (d->options.log_waits_ms < 0)
                return;
        for (lines = 0; (q = d->registry.unlogged) != NULL; lines++) {
                at = q->since_ms + d->options.log_waits_ms;
                if (at > engine_now(d->engine) || lines == LOG_LINES_PER_TURN) {
                        dispatch_wake_at(d, at);
                        return;
                }
                if (!log_wait(d, q, at))
                        return; /* those behind it are younger and wait with it */
                d->registry.unlogged = q->newer;
        }
}

void notices_tick(struct dispatch *d)
{
        log_long_waits(d);
        if (d->look_ms <= engine_now(d->engine))
                look(d);
        else
                dispatch_wake_at(d, d->look_ms);
        tell_untold(d);
}
