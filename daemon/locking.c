/*
 * lock, unlock, cancel: from the request to the table's event, and from the table's outcome to the reply.
 *
 * Somebody may unlink and recreate a lock file while others wait on the old one. So after a grant by path the path is compared with what was
 * locked; if they differ, the lock is given back unseen and the request queues again on the new file, at its old age and with its old deadline.
 */
#include "dispatch_internal.h"

#include "log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REOPENS_MAX 1000        /* somebody replaces the file faster than it can be locked */

bool locking_claim(struct client *c, int *fd)
{
        if (c->fd_count == 0)
                return false;
        *fd = c->fds[c->fd_first];
        c->fd_first = (c->fd_first + 1) % PL_FDS_UNCLAIMED_MAX;
        c->fd_count--;
        return true;
}

static void submit(struct dispatch *d, struct request *q, uint64_t bearer)
{
        struct table_event ev = {
                .kind = EV_LOCK,
                .session = q->client->id,
                .cookie = q->cookie,
                .key = q->key,
                .bearer = bearer,
                .shared = q->by_path,
                .handle = q->handle,
                .mode = q->mode,
                .nonblock = q->nonblock,
                .detach = q->detach,
                .since_ms = q->since_ms,
                .deadline_ms = q->deadline_ms,
        };

        engine_submit(d->engine, &ev);
}

void locking_forget(struct dispatch *d, struct request *q)
{
        d->notifying -= q->notify;
        registry_request_remove(&d->registry, q);
}

/* Why a lock request cannot even be tried. True: it was refused. */
static bool refuse_early(struct dispatch *d, const struct client *c, const struct pl_request *r, bool has_fd, int fd)
{
        if (r->lock.fd && !has_fd)
                dispatch_refuse_member(d, c, &r->id, "fd", "params.fd is true, but no descriptor was received with or before this request");
        else if (r->id.kind != PL_ID_NONE && registry_request_by_id(c, &r->id) != NULL)
                dispatch_refuse(d, c, &r->id, PL_E_INVALID_REQUEST, "a request with this id is still waiting");
        else if (d->stopping)
                dispatch_refuse(d, c, &r->id, PL_E_SHUTTING_DOWN, NULL);
        else if (r->lock.reclaim_token >= 0)
                dispatch_refuse(d, c, &r->id, PL_E_LOST, "this daemon cannot give the old lock back: lock again");
        else if (r->lock.fd && fd < 0)
                dispatch_refuse_limit(d, c, &r->id, "descriptors", "the descriptor could not be received: too many are open");
        else if (c->request_count >= PL_WAITING_PER_SESSION_MAX)
                dispatch_refuse_limit(d, c, &r->id, "waiting_per_session", "this session has too many waiting requests");
        else if (c->grant_count >= PL_LOCKS_PER_SESSION_MAX)
                dispatch_refuse_limit(d, c, &r->id, "locks_per_session", "this session holds too many locks");
        else
                return false;
        return true;
}

/* The bearer for a request, by its descriptor (consumed) or its path. */
static enum files_result bear(struct dispatch *d, const struct pl_lock_params *p, int fd, struct table_key *key, uint64_t *bearer, struct file_error *e)
{
        if (p->fd)
                return files_adopt(d->files, fd, key, bearer, e);
        return files_open(d->files, p->path, p->create, key, bearer, e);
}

static void refuse_file(struct dispatch *d, const struct client *c, const struct pl_id *id, enum files_result result,
                        const struct file_error *e, const char *path)
{
        if (result == FILES_FULL)
                dispatch_refuse_limit(d, c, id, "descriptors", "the daemon has too many open files");
        else
                dispatch_refuse_os(d, c, id, e, path);
}

void locking_lock(struct dispatch *d, struct client *c, const struct pl_request *r)
{
        const struct pl_lock_params *p = &r->lock;
        const char *label = p->path != NULL ? p->path : "";
        struct table_key key;
        struct file_error e;
        enum files_result result;
        struct request *q;
        uint64_t bearer;
        bool has_fd = false;
        int fd = -1;

        if (p->fd)
                has_fd = locking_claim(c, &fd);
        if (refuse_early(d, c, r, has_fd, fd)) {
                files_discard(fd);
                return;
        }
        result = bear(d, p, fd, &key, &bearer, &e);
        if (result != FILES_OK) {
                refuse_file(d, c, &r->id, result, &e, p->path != NULL ? p->path : "the descriptor");
                return;
        }
        q = registry_request_add(&d->registry, c, &r->id, label);
        if (q == NULL) {
                files_drop(d->files, bearer);
                dispatch_refuse(d, c, &r->id, PL_E_INTERNAL_ERROR, "out of memory");
                return;
        }
        q->key = key;
        q->mode = p->mode == PL_MODE_EX ? TABLE_EX : TABLE_SH;
        q->handle = p->handle;
        q->by_path = !p->fd;
        q->create = p->create;
        q->notify = p->notify && r->id.kind != PL_ID_NONE;
        q->nonblock = p->nonblock || p->timeout_ms == 0;
        q->detach = p->detach;
        q->since_ms = engine_now(d->engine);
        q->deadline_ms = p->timeout_ms > 0 && !q->nonblock ? q->since_ms + p->timeout_ms : TABLE_NEVER;
        d->notifying += q->notify;
        submit(d, q, bearer);
}

/* ---- outcomes ---- */

static bool replaced(const struct request *q, int *error)
{
        struct table_key now;
        struct file_error e;

        *error = 0;
        if (files_identify(q->label, &now, &e) != 0) {
                *error = e.error;
                return true;
        }
        return now.device != q->key.device || now.inode != q->key.inode;
}

static void unlock_by_id(struct dispatch *d, const struct client *c, table_id lock, bool close_only)
{
        struct table_event ev = {.kind = EV_UNLOCK, .session = c->id, .lock = lock, .close_only = close_only};

        engine_submit(d->engine, &ev);
}

/* The file was replaced while the request waited: give the lock back and queue again on the new one. */
static void reopen(struct dispatch *d, struct request *q, table_id lock)
{
        enum files_result result;
        struct file_error e;
        uint64_t bearer;

        unlock_by_id(d, q->client, lock, false);
        d->metrics.reopened++;
        result = files_open(d->files, q->label, q->create, &q->key, &bearer, &e);
        if (result != FILES_OK) {
                refuse_file(d, q->client, &q->id, result, &e, q->label);
                locking_forget(d, q);
                return;
        }
        q->reopened++;
        q->table_request = 0;
        submit(d, q, bearer);
}

static void reply_granted(struct dispatch *d, struct request *q, const struct table_effect *fx)
{
        char path[PL_PATH_BYTES_MAX];
        struct table_holder h;
        struct pl_writer w;

        snprintf(path, sizeof path, "%s", q->label);
        if (!q->by_path && fx->lock != 0 && table_lock(engine_table(d->engine), fx->lock, &h, NULL))
                files_path(d->files, h.bearer, path, sizeof path);
        pl_reply_begin(&w, &d->out, &q->id);
        if (fx->lock != 0)
                pl_write_integer(&w, "lock", (int64_t)fx->lock);
        else
                pl_write_null(&w, "lock");
        pl_write_string(&w, "path", path);
        pl_write_string(&w, "mode", pl_mode_name((int)fx->mode));
        pl_write_integer(&w, "token", (int64_t)fx->token);
        pl_write_integer(&w, "waited_ms", fx->waited_ms);
        pl_reply_end(&w);
        dispatch_flush(d, q->client, q->id.kind != PL_ID_NONE);
}

static void granted(struct dispatch *d, struct request *q, const struct table_effect *fx)
{
        struct client *c = q->client;
        int error;

        if (q->by_path && !fx->relock && registry_grant(&d->registry, fx->lock) == NULL && q->reopened < REOPENS_MAX && replaced(q, &error)) {
                reopen(d, q, fx->lock);
                return;
        }
        if (fx->lock != 0 && registry_grant(&d->registry, fx->lock) == NULL) {
                if (registry_grant_add(&d->registry, c, fx->lock, q->handle, q->by_path, q->label) == NULL) {
                        unlock_by_id(d, c, fx->lock, false);
                        dispatch_refuse(d, c, &q->id, PL_E_INTERNAL_ERROR, "out of memory");
                        locking_forget(d, q);
                        return;
                }
                d->path_locks += q->by_path;
        }
        d->metrics.granted += !fx->relock;
        d->metrics.relocked += fx->relock;
        metrics_waited(&d->metrics, fx->waited_ms);
        notices_granted(d, q, fx->waited_ms);
        log_event(LOG_DEBUG, "granted", "session=%llu lock=%llu mode=%s token=%llu path=%s", (unsigned long long)c->id,
                  (unsigned long long)fx->lock, pl_mode_name((int)fx->mode), (unsigned long long)fx->token, log_quote(q->label));
        reply_granted(d, q, fx);
        locking_forget(d, q);
}

static void refused_by_holders(struct dispatch *d, const struct request *q, int code)
{
        struct pl_writer w;

        pl_error_begin(&w, &d->out, &q->id, code, NULL);
        listing_holders(&d->listing, &w, q->key);
        pl_error_end(&w);
        dispatch_flush(d, q->client, q->id.kind != PL_ID_NONE);
}

void locking_lost(struct dispatch *d, const struct table_effect *fx)
{
        struct grant *g = registry_grant(&d->registry, fx->lock);

        if (g == NULL)
                return;
        d->metrics.lost++;
        dispatch_tell_lost(d, g, "outside");
        d->path_locks -= g->by_path;
        registry_grant_remove(&d->registry, g);
}

void locking_replied(struct dispatch *d, const struct table_effect *fx)
{
        struct request *q = registry_request(&d->registry, fx->cookie);
        struct file_error e = {"flock", fx->error};
        struct table_key key;

        if (q == NULL)
                return;         /* its session has ended */
        key = q->key;
        if (fx->outcome == OUT_GRANTED) {
                granted(d, q, fx);
                notices_moved(d, key);
                return;
        }
        switch (fx->outcome) {
        case OUT_GRANTED:
                break;
        case OUT_REFUSED:
                d->metrics.lock_failed++;
                refused_by_holders(d, q, PL_E_LOCK_FAILED);
                break;
        case OUT_TIMED_OUT:
                d->metrics.timed_out++;
                refused_by_holders(d, q, PL_E_TIMED_OUT);
                break;
        case OUT_DEADLOCK:
                d->metrics.deadlocks++;
                dispatch_refuse(d, q->client, &q->id, PL_E_DEADLOCK, "another holder of a shared lock waits to upgrade it already; each would wait for the other for ever");
                break;
        case OUT_CANCELLED:
                d->metrics.cancelled++;
                dispatch_refuse(d, q->client, &q->id, d->stopping ? PL_E_SHUTTING_DOWN : PL_E_CANCELLED, NULL);
                break;
        case OUT_LOST:
                dispatch_refuse(d, q->client, &q->id, PL_E_LOST, "somebody outside took the file while its lock was being upgraded");
                break;
        case OUT_FAILED:
                dispatch_refuse_os(d, q->client, &q->id, &e, q->label);
                break;
        case OUT_DUPLICATE:
                dispatch_refuse(d, q->client, &q->id, PL_E_INVALID_REQUEST, "this owner has a waiting request for this file already");
                break;
        case OUT_LIMIT:
                dispatch_refuse(d, q->client, &q->id, PL_E_INTERNAL_ERROR, "out of memory");
                break;
        }
        locking_forget(d, q);
        notices_moved(d, key);
}

/* ---- unlock, cancel ---- */

/* The lock that an unlock means: 0 when this session has no such lock. */
static table_id meant(struct dispatch *d, const struct client *c, const struct pl_unlock_params *p)
{
        struct table_holder h;
        struct table_key key;
        struct file_error e;
        struct grant *g;

        if (p->lock >= 0)
                return table_lock(engine_table(d->engine), (table_id)p->lock, &h, NULL) && h.session == c->id ? (table_id)p->lock : 0;
        g = registry_grant_by_label(&d->registry, c, p->handle, p->path);
        if (g != NULL)
                return g->lock;
        if (files_identify(p->path, &key, &e) != 0)
                return 0;
        return table_lock_of(engine_table(d->engine), key, c->id, p->handle);
}

void locking_unlock(struct dispatch *d, struct client *c, const struct pl_request *r)
{
        table_id lock = meant(d, c, &r->unlock);
        struct table_holder h;
        struct table_key key;
        struct grant *g;
        struct pl_writer w;

        if (lock != 0 && table_lock(engine_table(d->engine), lock, &h, &key)) {
                g = registry_grant(&d->registry, lock);
                if (g != NULL) {
                        d->path_locks -= g->by_path;
                        registry_grant_remove(&d->registry, g);
                }
                unlock_by_id(d, c, lock, r->unlock.close && !h.shared);
                notices_moved(d, key);
        } else {
                lock = 0;
        }
        pl_reply_begin(&w, &d->out, &r->id);
        pl_write_bool(&w, "released", lock != 0);
        pl_reply_end(&w);
        dispatch_flush(d, c, r->id.kind != PL_ID_NONE);
}

void locking_cancel(struct dispatch *d, struct client *c, const struct pl_request *r)
{
        struct request *q = registry_request_by_id(c, &r->cancel.id);
        struct pl_writer w;

        if (q != NULL) {
                struct table_event ev = {.kind = EV_CANCEL, .session = c->id, .request = q->table_request};

                engine_submit(d->engine, &ev);
        }
        pl_reply_begin(&w, &d->out, &r->id);
        pl_write_bool(&w, "cancelled", q != NULL);
        pl_reply_end(&w);
        dispatch_flush(d, c, r->id.kind != PL_ID_NONE);
}
