/*
 * lock, unlock, cancel, break: from the request to the table's event. What comes of it is told by outcomes.c.
 *
 * A path that leads to where looking might hang (files.h) is opened and compared off the loop; until then the request is not in the table.
 */
#include "dispatch_internal.h"

#include "log.h"
#include "rows.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool locking_claim(struct client *c, int *fd)
{
        if (c->fd_count == 0)
                return false;
        *fd = c->fds[c->fd_first];
        c->fd_first = (c->fd_first + 1) % PL_FDS_UNCLAIMED_MAX;
        if (--c->fd_count == 0) {
                free(c->fds);
                c->fds = NULL;
        }
        return true;
}

/* Of several users none may overtake another by an age that he claims; in a user's own daemon all are one group. */
static uint64_t group_of(const struct dispatch *d, const struct client *c)
{
        if (d->options.accounts == NULL)
                return 0;
        return peer_is_known(&c->peer) ? (uint64_t)c->peer.uid + 1 : (UINT64_C(1) << 32) + c->id;
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
                .claims = q->claims,
                .claimed_token = q->claimed_token,
                .group = group_of(d, q->client),
                .since_ms = q->since_ms,
                .deadline_ms = q->deadline_ms,
        };

        engine_submit(d->engine, &ev);
}

void locking_forget(struct dispatch *d, struct request *q)
{
        notices_forget(d, q);
        d->opening -= q->place == REQUEST_OPENING;
        registry_request_remove(&d->registry, q);
}

void locking_ended(struct dispatch *d, struct grant *g, const char *event)
{
        if (event != NULL)
                watch_grant(d, g, event);
        outside_released(d->outside, g->key.device, g->key.inode);
        d->path_locks -= g->by_path;
        registry_grant_remove(&d->registry, g);
}

void locking_give_up(struct dispatch *d, const struct client *c, table_id lock, bool close_only)
{
        struct table_event ev = {.kind = EV_UNLOCK, .session = c->id, .lock = lock, .close_only = close_only};

        engine_submit(d->engine, &ev);
}

/*
 * Why a lock request cannot even be tried. True: it was refused. A claim never waits, and what it asks for the client has: after our restart new requests of
 * the same user may have taken its place, and that must not cost a lock.
 */
static bool refuse_early(struct dispatch *d, const struct client *c, const struct pl_request *r, bool has_fd, int fd)
{
        if (r->lock.fd && !has_fd)
                dispatch_refuse_member(d, c, &r->id, "fd", "params.fd is true, but no descriptor was received with or before this request");
        else if (d->stopping)
                dispatch_refuse(d, c, &r->id, PL_E_SHUTTING_DOWN, NULL);
        else if (r->lock.reclaim_token >= 0 && !r->lock.fd)
                dispatch_refuse(d, c, &r->id, PL_E_LOST, "a lock by path ends with its session and its daemon: lock again");
        else if (r->lock.reclaim_token >= 0 && !reclaim_token_is_credible(d, r->lock.reclaim_token))
                dispatch_refuse(d, c, &r->id, PL_E_LOST, "no grant can have had this token yet");
        else if (!r->lock.fd && !dispatch_opens_paths(d, c))
                dispatch_refuse(d, c, &r->id, PL_E_DENIED, "this daemon serves all users and opens no path for another than its own: open the file, and pass its descriptor");
        else if (r->lock.fd && fd < 0 && account_full(c->account, ACCOUNT_DESCRIPTORS))
                dispatch_refuse_limit(d, c, &r->id, "descriptors_per_uid", "the descriptor was not received: this user's sessions have passed too many");
        else if (r->lock.fd && fd < 0)
                dispatch_refuse_limit(d, c, &r->id, "descriptors", "the descriptor could not be received: too many are open");
        else if (r->lock.reclaim_token < 0 && c->request_count >= PL_WAITING_PER_SESSION_MAX)
                dispatch_refuse_limit(d, c, &r->id, "waiting_per_session", "this session has too many waiting requests");
        else if (c->grant_count >= PL_LOCKS_PER_SESSION_MAX)
                dispatch_refuse_limit(d, c, &r->id, "locks_per_session", "this session holds too many locks");
        else if (r->lock.reclaim_token < 0 && account_full(c->account, ACCOUNT_WAITING))
                dispatch_refuse_limit(d, c, &r->id, "waiting_per_uid", "this user's sessions have too many waiting requests");
        else if (r->lock.reclaim_token < 0 ? account_full(c->account, ACCOUNT_LOCKS) : account_full_twice(c->account, ACCOUNT_LOCKS))
                dispatch_refuse_limit(d, c, &r->id, "locks_per_uid", "this user's sessions hold too many locks");
        else
                return false;
        return true;
}

static void refuse_file(struct dispatch *d, const struct client *c, const struct pl_id *id, enum files_result result,
                        const struct file_error *e, const char *path)
{
        if (result == FILES_FULL)
                dispatch_refuse_limit(d, c, id, "descriptors", "the daemon has too many open files");
        else
                dispatch_refuse_os(d, c, id, e, path);
}

void locking_refuse_timed_out(struct dispatch *d, const struct client *c, const struct pl_id *id)
{
        struct pl_writer w;

        d->metrics.timed_out++;
        pl_error_begin(&w, &d->out, id, PL_E_TIMED_OUT, NULL);
        pl_write_open(&w, "holders", '[');      /* the file is not even open: nobody is known */
        pl_write_close(&w, ']');
        pl_error_end(&w);
        dispatch_flush_answer(d, c, id);
}

void locking_refuse_for_memory(struct dispatch *d, struct request *q)
{
        dispatch_refuse_for_memory(d, q->client, &q->id);
        locking_forget(d, q);
}

static void time_is_over(struct dispatch *d, struct request *q)
{
        watch_request(d, q, "timed_out", NULL);
        locking_refuse_timed_out(d, q->client, &q->id);
        locking_forget(d, q);
}

/* Its file is known, or it cannot be had. */
static void opened(struct dispatch *d, struct request *q, enum files_result result, struct table_key key, uint64_t bearer, const struct file_error *e)
{
        q->key = key;
        q->bearer = bearer;
        if (result == FILES_OK && q->deadline_ms <= engine_now(d->engine) && q->reopened > 0) {
                files_drop(d->files, bearer);   /* the time ran out while the file was replaced */
                time_is_over(d, q);
                return;
        }
        if (result != FILES_OK) {
                refuse_file(d, q->client, &q->id, result, e, q->label[0] != '\0' ? q->label : "the descriptor");
                locking_forget(d, q);
                return;
        }
        if (!registry_request_stake(&d->registry, q)) {
                files_drop(d->files, bearer);
                locking_refuse_for_memory(d, q);
                return;
        }
        submit(d, q, bearer);
}

static void on_opened(void *arg, uint64_t cookie, const struct files_found *found)
{
        struct dispatch *d = arg;
        struct request *q = registry_request(&d->registry, cookie);
        struct client *c;
        bool held_up;

        if (q == NULL) {        /* withdrawn meanwhile */
                if (found->bearer != 0)
                        files_drop(d->files, found->bearer);
                return;
        }
        c = q->client;
        held_up = q->holds_up;
        q->place = REQUEST_IN_TABLE;
        q->holds_up = false;
        d->opening--;
        opened(d, q, found->result, found->key, found->bearer, &found->error);
        if (held_up)
                deferred_release(d, c);
}

static void open_away(struct dispatch *d, struct request *q, bool hold_up)
{
        static const struct file_error full = {.syscall = "open", .error = EMFILE};
        int r = files_look_up(d->files, q->label, q->create ? FILES_TO_CREATE : FILES_TO_OPEN, on_opened, d, q->cookie);

        if (r == -EMFILE) {
                opened(d, q, FILES_FULL, q->key, 0, &full);
                return;
        }
        if (r != 0) {
                locking_refuse_for_memory(d, q);
                return;
        }
        q->place = REQUEST_OPENING;
        q->holds_up = hold_up;
        q->client->held_up |= hold_up;
        d->opening++;
        dispatch_wake_at(d, q->deadline_ms);
}

void locking_open(struct dispatch *d, struct request *q, bool hold_up)
{
        struct table_key key = {0};
        struct file_error e = {0};
        enum files_result result;
        uint64_t bearer = 0;

        q->recalled = q->reopened == 0 && files_recall(d->files, q->label, &key, &bearer);
        if (q->recalled) {
                opened(d, q, FILES_OK, key, bearer, &e);
                return;
        }
        result = files_open(d->files, q->label, q->create, &key, &bearer, &e);
        if (result == FILES_AWAY)
                open_away(d, q, hold_up);
        else
                opened(d, q, result, key, bearer, &e);
}

bool reclaim_token_is_credible(const struct dispatch *d, int64_t number)
{
        return number >= 0 && (uint64_t)number <= engine_number_bound(d->engine);
}

/*
 * One that waited already when the daemon died, or the connection broke, comes back to its place: by age. Only for a while after our start: later nobody
 * could tell such a claim from a lie. The deadline counts from the receipt all the same.
 */
static int64_t arrival(const struct dispatch *d, const struct incoming *in)
{
        int64_t waited = in->request.lock.reclaim_waited_ms, boot_age;

        if (waited <= 0 || in->since_ms >= d->started_ms + PL_RECLAIM_WINDOW_MS)
                return in->since_ms;
        boot_age = engine_boot_age_ms();
        return in->since_ms - (waited < boot_age ? waited : boot_age);
}

static struct request *add_request(struct dispatch *d, struct client *c, const struct incoming *in)
{
        const struct pl_lock_params *p = &in->request.lock;
        struct request *q = registry_request_add(&d->registry, c, &in->request.id, p->path != NULL ? p->path : "");

        if (q == NULL)
                return NULL;
        q->mode = p->mode == PL_MODE_EX ? TABLE_EX : TABLE_SH;
        q->handle = p->handle;
        q->by_path = !p->fd;
        q->create = p->create;
        q->notify = p->notify && in->request.id.kind != PL_ID_NONE;
        q->nonblock = p->nonblock || p->timeout_ms == 0;
        q->detach = p->detach;
        q->claims = p->reclaim_token < 0 ? TABLE_NONE : p->reclaim_mode == PL_MODE_EX ? TABLE_EX : TABLE_SH;
        q->claimed_token = p->reclaim_token < 0 ? 0 : (uint64_t)p->reclaim_token;
        q->since_ms = arrival(d, in);
        q->deadline_ms = p->timeout_ms > 0 && !q->nonblock ? in->since_ms + p->timeout_ms : TABLE_NEVER;
        return q;
}

/*
 * A client whose file was replaced while it waited gives the lock on the old one back and asks for the new one. That it says how long it has waited is
 * not believed, but for what we have just seen of it: the age of the request for a lock of that label on another file.
 */
static void keep_place(struct client *c, const struct incoming *in, struct table_key key, struct request *q)
{
        const struct given_back *old = &c->given_back;
        bool follows = old->label != NULL && in->request.lock.reclaim_waited_ms >= 0 && in->since_ms - old->at_ms < PL_FOLLOW_MS &&
                       strcmp(old->label, q->label) == 0 && old->mode == q->mode && (old->key.device != key.device || old->key.inode != key.inode);

        if (follows && old->since_ms < q->since_ms)
                q->since_ms = old->since_ms;
        registry_forget_given_back(c);
}

void locking_lock(struct dispatch *d, struct client *c, struct incoming *in)
{
        struct table_key key = {0};
        struct file_error e = {0};
        enum files_result result;
        uint64_t bearer = 0;
        struct request *q;

        if (refuse_early(d, c, &in->request, in->has_fd, in->fd))
                return;
        q = add_request(d, c, in);
        if (q == NULL) {
                dispatch_refuse_for_memory(d, c, &in->request.id);
        } else if (q->by_path) {
                registry_forget_given_back(c);
                locking_open(d, q, true);
        } else {
                in->has_fd = false;     /* adopted */
                result = files_adopt(d->files, c->account, in->fd, &key, &bearer, &e);
                keep_place(c, in, key, q);
                opened(d, q, result, key, bearer, &e);
        }
}

/* ---- unlock, cancel ---- */

/* The lock that an unlock means, as far as names tell: 0 when none. An id may be that of somebody else's. */
static table_id meant(struct dispatch *d, const struct client *c, const struct pl_unlock_params *p)
{
        const struct grant *g;

        if (p->lock >= 0)
                return (table_id)p->lock;
        g = registry_grant_by_label(&d->registry, c, p->handle, p->path);
        return g != NULL ? g->lock : 0;
}

static void unlock(struct dispatch *d, struct client *c, const struct pl_request *r, table_id lock)
{
        struct table_holder h;
        struct pl_writer w;
        struct grant *g;

        if (lock != 0 && table_lock(engine_table(d->engine), lock, &h, NULL) && h.session == c->id) {
                g = registry_grant(&d->registry, lock);
                /* Not what was held for long: it is the wait that counts. */
                if (g != NULL && !g->by_path && g->label[0] != '\0' && engine_now(d->engine) - h.since_ms < PL_FOLLOW_MS)
                        registry_give_back(c, g, engine_now(d->engine));
                if (g != NULL)
                        locking_ended(d, g, "released");
                locking_give_up(d, c, lock, r->unlock.close && !h.shared);
        } else {
                lock = 0;
        }
        pl_reply_begin(&w, &d->out, &r->id);
        pl_write_bool(&w, "released", lock != 0);
        pl_reply_end(&w);
        dispatch_flush_answer(d, c, &r->id);
}

static void unlock_identified(struct dispatch *d, struct client *c, struct incoming *in, const struct files_found *found)
{
        const struct pl_request *r = &in->request;

        unlock(d, c, r, found->result == FILES_OK ? table_lock_of(engine_table(d->engine), found->key, c->id, r->unlock.handle) : 0);
}

void locking_unlock(struct dispatch *d, struct client *c, struct incoming *in)
{
        const struct pl_unlock_params *p = &in->request.unlock;
        table_id lock = meant(d, c, p);

        if (lock != 0 || !dispatch_opens_paths(d, c))
                unlock(d, c, &in->request, lock);
        else
                deferred_identify(d, c, in, p->path, unlock_identified);
}

bool locking_withdraw(struct dispatch *d, struct request *q, int code)
{
        struct table_event ev = {.kind = EV_CANCEL, .session = q->client->id, .request = q->table_request};
        struct client *c = q->client;
        uint64_t cookie = q->cookie;
        bool held_up = q->holds_up;

        switch (q->place) {
        case REQUEST_CHECKING:
                return false;
        case REQUEST_IN_TABLE:
                /* Answered by OUT_CANCELLED; not if it never waits and is about to be answered otherwise. */
                engine_submit(d->engine, &ev);
                return registry_request(&d->registry, cookie) == NULL;
        case REQUEST_OPENING:
                if (code == PL_E_TIMED_OUT) {
                        time_is_over(d, q);
                } else {
                        dispatch_refuse(d, c, &q->id, code, NULL);
                        locking_forget(d, q);
                }
                if (held_up)
                        deferred_release(d, c);
                break;
        }
        return true;
}

void locking_cancel(struct dispatch *d, struct client *c, const struct pl_request *r)
{
        struct request *q = registry_request_by_id(&d->registry, c, &r->cancel.id);
        struct pl_writer w;
        bool cancelled;

        if (q != NULL)
                cancelled = locking_withdraw(d, q, PL_E_CANCELLED);
        else
                cancelled = deferred_cancel(d, c, &r->cancel.id);
        pl_reply_begin(&w, &d->out, &r->id);
        pl_write_bool(&w, "cancelled", cancelled);
        pl_reply_end(&w);
        dispatch_flush_answer(d, c, &r->id);
}

/* The oldest one whose time is over while its path is looked up. */
static struct request *overdue(struct dispatch *d, int64_t now)
{
        struct request *q;

        for (q = d->registry.oldest; q != NULL; q = q->newer) {
                if (q->place != REQUEST_OPENING)
                        continue;
                if (q->deadline_ms <= now)
                        return q;
                dispatch_wake_at(d, q->deadline_ms);
        }
        return NULL;
}

void locking_tick(struct dispatch *d)
{
        struct request *q;

        while (d->opening > 0 && (q = overdue(d, engine_now(d->engine))) != NULL)
                locking_withdraw(d, q, PL_E_TIMED_OUT);
}

void locking_break(struct dispatch *d, struct client *c, const struct pl_request *r)
{
        struct table_event ev = {.kind = EV_BREAK_LOCK, .lock = (table_id)r->break_.lock};
        const struct client *owner;
        struct table_holder h;
        char by[128];

        if (!table_lock(engine_table(d->engine), ev.lock, &h, NULL)) {
                dispatch_refuse(d, c, &r->id, PL_E_NOT_FOUND, "no lock has this id");
                return;
        }
        owner = registry_client(&d->registry, h.session);
        if (c->peer.uid != 0 && c != owner && (owner == NULL || !peer_same_user(&owner->peer, &c->peer))) {
                dispatch_refuse(d, c, &r->id, PL_E_DENIED, "only its owner's user and root may break a lock");
                return;
        }
        snprintf(by, sizeof by, "break by %s[%lld] (uid %lld)", c->peer.command, (long long)c->peer.pid, (long long)c->peer.uid);
        log_event(LOG_WARNING, "broken", "lock=%lld session=%llu by=%s", (long long)r->break_.lock, (unsigned long long)h.session, log_quote(by));
        d->broken_by = by;
        engine_submit(d->engine, &ev);
        d->broken_by = NULL;
        dispatch_answer_empty(d, c, &r->id);
}
