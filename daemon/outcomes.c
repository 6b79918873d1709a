/*
 * From the table's outcome to the reply.
 *
 * Somebody may unlink and recreate a lock file while others wait on the old one. So after a grant by path the path is compared with what was
 * locked; if they differ, the lock is given back unseen and the request queues again on the new file, at its old age and with its old deadline.
 */
#include "dispatch_internal.h"

#include "log.h"
#include "rows.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define REOPENS_MAX 1000        /* somebody replaces the file faster than it can be locked */

/* The file was replaced while the request waited: give the lock (0: there is none) back and queue again on the new one. */
static void reopen(struct dispatch *d, struct request *q, table_id lock)
{
        static const struct file_error stale = {.syscall = "open", .error = ESTALE};

        if (lock != 0)
                locking_give_up(d, q->client, lock, false);
        files_do_not_keep(d->files, q->bearer);
        outside_released(d->outside, q->key.device, q->key.inode);
        if (q->reopened >= REOPENS_MAX) {       /* what it has got guards nothing */
                dispatch_refuse_os(d, q->client, &q->id, &stale, q->label);
                locking_forget(d, q);
                return;
        }
        d->metrics.reopened++;
        q->reopened++;
        q->recalled = q->misled = false;
        notices_forget(d, q);
        q->table_request = 0;
        locking_open(d, q, false);
}

static void reply_granted(struct dispatch *d, struct request *q, const struct table_effect *fx)
{
        char found[PL_PATH_BYTES_MAX];
        const char *path = q->label;
        struct pl_writer w;

        if (!q->by_path) {
                snprintf(found, sizeof found, "%s", q->label);  /* what it stays if nothing is found */
                if (d->registry.everybody)
                        files_own_path(d->files, q->bearer, found, sizeof found);
                else
                        files_path(d->files, q->bearer, found, sizeof found);
                path = found;
        }
        pl_reply_begin(&w, &d->out, &q->id);
        if (fx->lock != 0)
                pl_write_integer(&w, "lock", (int64_t)fx->lock);
        else
                pl_write_null(&w, "lock");
        pl_write_string(&w, "path", path);
        pl_write_string(&w, "mode", rows_mode_name(fx->mode));
        pl_write_integer(&w, "token", (int64_t)fx->token);
        pl_write_integer(&w, "waited_ms", fx->waited_ms);
        pl_reply_end(&w);
        dispatch_flush_answer(d, q->client, &q->id);
}

/* How long the request had been there when the table's record of its lock began: with the grant, or before it, on trial. */
static int64_t waited_before(const struct dispatch *d, const struct request *q, table_id lock)
{
        struct table_holder h;

        return table_lock(engine_table(d->engine), lock, &h, NULL) && h.since_ms > q->since_ms ? h.since_ms - q->since_ms : 0;
}

/* It is the file that was meant: the lock is the client's. */
static void conclude(struct dispatch *d, struct request *q, const struct table_effect *fx)
{
        struct client *c = q->client;
        struct grant *g;

        g = registry_grant(&d->registry, fx->lock);
        if (fx->lock != 0 && g == NULL) {
                g = registry_grant_add(&d->registry, q, fx->lock, waited_before(d, q, fx->lock));
                if (g == NULL) {
                        locking_give_up(d, c, fx->lock, fx->relock);    /* what its description bore before it keeps */
                        locking_refuse_for_memory(d, q);
                        return;
                }
                d->path_locks += q->by_path;
        }
        if (fx->dropped != 0 && (g = registry_grant(&d->registry, fx->dropped)) != NULL)
                locking_ended(d, g, &(struct seen){.key = fx->key}, NULL);
        d->metrics.granted += !fx->relock;
        d->metrics.relocked += fx->relock;
        metrics_waited(&d->metrics, fx->waited_ms);
        notices_granted(d, q, fx->waited_ms);
        log_event(LOG_DEBUG, "granted", "session=%llu lock=%llu mode=%s token=%llu path=%s", (unsigned long long)c->id,
                  (unsigned long long)fx->lock, rows_mode_name(fx->mode), (unsigned long long)fx->token, log_quote(q->label));
        reply_granted(d, q, fx);
        if (!fx->relock)
                watch_request(d, q, "granted", fx);
        locking_forget(d, q);
}

static bool differs(const struct request *q, enum files_result result, const struct table_key *now)
{
        return result != FILES_OK || now->device != q->key.device || now->inode != q->key.inode;
}

static void on_checked(void *arg, uint64_t cookie, const struct files_found *found)
{
        struct dispatch *d = arg;
        struct request *q = registry_request(&d->registry, cookie);
        struct table_effect fx = {.kind = FX_REPLY, .outcome = OUT_GRANTED};
        struct table_holder h;

        if (q == NULL)
                return;         /* its session has ended */
        q->place = REQUEST_IN_TABLE;
        if (!table_lock(engine_table(d->engine), q->lock, &h, NULL)) {
                dispatch_refuse(d, q->client, &q->id, PL_E_LOST, NULL);
                locking_forget(d, q);
        } else if (differs(q, found->result, &found->key) && registry_grant(&d->registry, q->lock) == NULL) {
                reopen(d, q, q->lock);
        } else {
                fx.lock = q->lock;
                fx.mode = h.mode;
                fx.token = h.token;
                fx.waited_ms = engine_now(d->engine) - q->since_ms;
                conclude(d, q, &fx);
        }
}

static void granted(struct dispatch *d, struct request *q, const struct table_effect *fx)
{
        enum files_result result;
        struct table_key now;
        struct file_error e;

        if (!q->by_path || fx->relock || registry_grant(&d->registry, fx->lock) != NULL) {
                conclude(d, q, fx);
                return;
        }
        q->recalled = false;
        result = files_identify(d->files, q->label, &now, &e);
        if (result == FILES_AWAY && files_look_up(d->files, q->label, FILES_TO_IDENTIFY, on_checked, d, q->cookie) == 0) {
                q->place = REQUEST_CHECKING;
                q->lock = fx->lock;
        } else if (differs(q, result, &now)) {
                reopen(d, q, fx->lock);
        } else {
                conclude(d, q, fx);
        }
}

/* It did not get the lock at once, and of the file that its path led to a moment ago. Does it lead somewhere else now? */
static bool misled(struct dispatch *d, struct request *q)
{
        struct table_key now;
        struct file_error e;

        if (!q->recalled)
                return false;
        q->recalled = false;
        return differs(q, files_identify(d->files, q->label, &now, &e), &now);
}

static void refused_by_holders(struct dispatch *d, const struct request *q, int code)
{
        struct pl_writer w;

        pl_error_begin(&w, &d->out, &q->id, code, NULL);
        rows_holders(&d->listing, &w, q->client, q->key);
        pl_error_end(&w);
        dispatch_flush_answer(d, q->client, &q->id);
}

static void refused_by_deadlock(struct dispatch *d, const struct request *q, size_t cycle)
{
        const struct table *t = engine_table(d->engine);
        struct table_cycle_step step;
        struct pl_writer w;
        size_t i;

        pl_error_begin(&w, &d->out, &q->id, PL_E_DEADLOCK, NULL);
        pl_write_open(&w, "cycle", '[');
        for (i = 0; table_cycle(t, cycle, i, &step); i++)
                rows_cycle_step(&d->listing, &w, q->client, &step);
        pl_write_close(&w, ']');
        pl_error_end(&w);
        dispatch_flush_answer(d, q->client, &q->id);
}

void outcome_lost(struct dispatch *d, const struct table_effect *fx)
{
        struct seen seen = {.key = fx->key, .mode = fx->mode, .token = fx->token, .bearer = fx->bearer};
        struct grant *g = registry_grant(&d->registry, fx->lock);

        if (g == NULL)
                return;
        d->metrics.lost++;
        dispatch_tell_lost(d, g, fx->broken ? d->broken_by : "outside");
        locking_ended(d, g, &seen, "lost");
}

void outcome_under_way(struct dispatch *d, const struct table_effect *fx)
{
        struct request *q = registry_request(&d->registry, fx->cookie);

        if (q != NULL)
                q->table_request = fx->request;
}

/* The grant will show the path of the file. While the request waits there is time to ask for it. */
static void learn_path(const struct dispatch *d, const struct request *q)
{
        char path[PL_PATH_BYTES_MAX];

        if (!q->by_path && !d->registry.everybody)
                files_path(d->files, q->bearer, path, sizeof path);
}

void outcome_waiting(struct dispatch *d, const struct table_effect *fx)
{
        struct request *q = registry_request(&d->registry, fx->cookie);
        struct table_event cancel = {.kind = EV_CANCEL, .session = fx->session, .request = fx->request};

        if (q != NULL && misled(d, q)) {
                q->misled = true;
                engine_submit(d->engine, &cancel);
                return;
        }
        notices_waiting(d, fx);
        if (q != NULL)
                learn_path(d, q);
}

void outcome_replied(struct dispatch *d, const struct table_effect *fx)
{
        struct request *q = registry_request(&d->registry, fx->cookie);
        struct file_error e = {.syscall = oslock_call, .error = fx->error};

        if (q == NULL)
                return;         /* its session has ended */
        switch (fx->outcome) {
        case OUT_GRANTED:
                granted(d, q, fx);
                return;
        case OUT_REFUSED:
                if (misled(d, q)) {
                        reopen(d, q, 0);
                        return;
                }
                d->metrics.lock_failed++;
                refused_by_holders(d, q, PL_E_LOCK_FAILED);
                break;
        case OUT_TIMED_OUT:
                d->metrics.timed_out++;
                watch_request(d, q, "timed_out", fx);
                refused_by_holders(d, q, PL_E_TIMED_OUT);
                break;
        case OUT_DEADLOCK:
                d->metrics.deadlocks++;
                watch_request(d, q, "deadlock", fx);
                refused_by_deadlock(d, q, fx->cycle);
                break;
        case OUT_CANCELLED:
                if (q->misled) {
                        reopen(d, q, 0);
                        return;
                }
                d->metrics.cancelled++;
                watch_request(d, q, "cancelled", fx);
                dispatch_refuse(d, q->client, &q->id, d->stopping ? PL_E_SHUTTING_DOWN : PL_E_CANCELLED, NULL);
                break;
        case OUT_LOST:
                if (q->claims != TABLE_NONE) {
                        dispatch_refuse(d, q->client, &q->id, PL_E_LOST, "the descriptor does not bear the lock any more");
                        break;
                }
                dispatch_refuse(d, q->client, &q->id, PL_E_LOST, fx->broken ? "the lock was broken while it was being upgraded" : "somebody outside took the file while its lock was being upgraded");
                break;
        case OUT_FAILED:
                dispatch_refuse_os(d, q->client, &q->id, &e, q->label);
                break;
        case OUT_DUPLICATE:
                dispatch_refuse(d, q->client, &q->id, PL_E_INVALID_REQUEST, "this owner has a waiting request for this file already");
                break;
        case OUT_LIMIT:
                dispatch_refuse_for_memory(d, q->client, &q->id);
                break;
        }
        locking_forget(d, q);
}
