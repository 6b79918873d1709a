#include "dispatch_internal.h"

#include "log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct dispatch *dispatch_create(struct files *files, const struct dispatch_options *options, const struct dispatch_hooks *hooks)
{
        struct dispatch *d = calloc(1, sizeof *d);

        if (d == NULL)
                return NULL;
        if (!registry_init(&d->registry)) {
                registry_clear(&d->registry);
                free(d);
                return NULL;
        }
        d->files = files;
        d->options = *options;
        d->hooks = *hooks;
        d->registry.everybody = options->accounts != NULL;
        d->wake_ms = TABLE_NEVER;
        TAILQ_INIT(&d->lists);
        TAILQ_INIT(&d->looked_up);
        LIST_INIT(&d->deferring);
        LIST_INIT(&d->orphans);
        notices_init(d);
        return d;
}

void dispatch_attach(struct dispatch *d, struct engine *engine, struct outside *outside)
{
        d->engine = engine;
        d->outside = outside;
        d->started_ms = engine_now(engine);
        d->listing = (struct listing){.registry = &d->registry, .engine = engine, .files = d->files, .outside = outside};
}

void dispatch_destroy(struct dispatch *d)
{
        if (d == NULL)
                return;
        kept_clear(&d->lists);
        kept_clear(&d->looked_up);
        pl_buf_clear(&d->out);
        registry_clear(&d->registry);
        free(d);
}

size_t dispatch_sessions(const struct dispatch *d)
{
        return HASH_COUNT(d->registry.clients);
}

/* ---- answers ---- */

/* The last word of a session: it is not known which request it is about. */
static void say_no_memory(struct dispatch *d, const struct client *c)
{
        static const char no_memory[] =
                "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32603,\"message\":\"out of memory\",\"data\":{\"name\":\"INTERNAL_ERROR\"}}}\n";

        d->hooks.send(c->session, no_memory, sizeof no_memory - 1);
        d->hooks.fail(c->session, "out_of_memory");
}

void dispatch_flush(struct dispatch *d, const struct client *c, bool wanted)
{
        if (wanted && !d->out.failed)
                d->hooks.send(c->session, d->out.data, d->out.len);
        else if (wanted)
                say_no_memory(d, c);
        d->out.len = 0;
        d->out.failed = false;
}

void dispatch_flush_answer(struct dispatch *d, const struct client *c, const struct pl_id *id)
{
        dispatch_flush(d, c, id->kind != PL_ID_NONE);
}

void dispatch_refuse(struct dispatch *d, const struct client *c, const struct pl_id *id, int code, const char *text)
{
        struct pl_writer w;

        pl_error_begin(&w, &d->out, id, code, text);
        pl_error_end(&w);
        dispatch_flush_answer(d, c, id);
}

void dispatch_refuse_for_memory(struct dispatch *d, const struct client *c, const struct pl_id *id)
{
        dispatch_refuse(d, c, id, PL_E_INTERNAL_ERROR, "out of memory");
}

void dispatch_refuse_member(struct dispatch *d, const struct client *c, const struct pl_id *id, const char *member, const char *text)
{
        struct pl_writer w;

        pl_error_begin(&w, &d->out, id, PL_E_INVALID_PARAMS, text);
        pl_write_string(&w, "member", member);
        pl_error_end(&w);
        dispatch_flush_answer(d, c, id);
}

void dispatch_refuse_limit(struct dispatch *d, const struct client *c, const struct pl_id *id, const char *limit, const char *text)
{
        struct pl_writer w;

        pl_error_begin(&w, &d->out, id, PL_E_LIMIT, text);
        pl_write_string(&w, "limit", limit);
        pl_error_end(&w);
        dispatch_flush_answer(d, c, id);
}

void dispatch_refuse_os(struct dispatch *d, const struct client *c, const struct pl_id *id, const struct file_error *e, const char *path)
{
        struct pl_writer w;
        char text[256];

        snprintf(text, sizeof text, "%s: %s: %s", e->syscall, path, pl_errno_text(e->error));
        pl_error_begin(&w, &d->out, id, PL_E_OS_ERROR, text);
        pl_write_string(&w, "syscall", e->syscall);
        pl_write_string(&w, "errno", pl_errno_name(e->error));
        if (e->code != 0)
                pl_write_integer(&w, "code", (int64_t)e->code);
        pl_error_end(&w);
        dispatch_flush_answer(d, c, id);
}

void dispatch_answer_empty(struct dispatch *d, const struct client *c, const struct pl_id *id)
{
        struct pl_writer w;

        pl_reply_begin(&w, &d->out, id);
        pl_reply_end(&w);
        dispatch_flush_answer(d, c, id);
}

/* ---- the small methods ---- */

static void outside_refreshed(void *arg)
{
        struct dispatch *d = arg;

        list_outside_refreshed(d);
        notices_outside_refreshed(d);
}

static size_t bearers_held(void *arg, uint64_t device, uint64_t inode)
{
        const struct dispatch *d = arg;

        return table_bearers_held(engine_table(d->engine), (struct table_key){.device = device, .inode = inode});
}

static bool asked_for(void *arg, uint64_t device, uint64_t inode)
{
        const struct dispatch *d = arg;
        const struct kept *k;

        if (table_any_bearer(engine_table(d->engine), (struct table_key){.device = device, .inode = inode}) != 0)
                return true;
        /* Those with a key come first. Whose paths we do not open have none: thousands of lists of theirs are not gone through for each of the system's rows. */
        for (k = TAILQ_FIRST(&d->lists); k != NULL && k->has_key; k = TAILQ_NEXT(k, entry)) {
                if (k->key.device == device && k->key.inode == inode)
                        return true;
        }
        return false;
}

const struct outside_hooks dispatch_outside_hooks = {.refreshed = outside_refreshed, .bearers_held = bearers_held, .asked_for = asked_for};

static void stats(struct dispatch *d, const struct client *c, const struct pl_request *r)
{
        const struct metrics *m = &d->metrics;
        struct oslock_stats os;
        struct table_counts n;
        struct pl_writer w;
        int i;

        table_count(engine_table(d->engine), &n);
        engine_os_stats(d->engine, &os);
        pl_reply_begin(&w, &d->out, &r->id);
        pl_write_open(&w, "counters", '{');
        pl_write_integer(&w, "sessions", (int64_t)m->sessions_total);
        for (i = 0; i < PL_METHOD_COUNT; i++)
                pl_write_integer(&w, pl_method_name((enum pl_method)i), (int64_t)m->requests[i]);
        pl_write_integer(&w, "refused_lines", (int64_t)m->refused_lines);
        pl_write_integer(&w, "granted", (int64_t)m->granted);
        pl_write_integer(&w, "relocked", (int64_t)m->relocked);
        pl_write_integer(&w, "lock_failed", (int64_t)m->lock_failed);
        pl_write_integer(&w, "timed_out", (int64_t)m->timed_out);
        pl_write_integer(&w, "deadlocks", (int64_t)m->deadlocks);
        pl_write_integer(&w, "cancelled", (int64_t)m->cancelled);
        pl_write_integer(&w, "lost", (int64_t)m->lost);
        pl_write_integer(&w, "reopened", (int64_t)m->reopened);
        pl_write_integer(&w, "kernel_waits", (int64_t)os.waits_total);
        pl_write_integer(&w, "kernel_retries", (int64_t)os.tries_total);
        pl_write_close(&w, '}');
        pl_write_open(&w, "gauges", '{');
        pl_write_integer(&w, "sessions", (int64_t)dispatch_sessions(d));
        pl_write_integer(&w, "files", (int64_t)n.resources);
        pl_write_integer(&w, "locks", (int64_t)n.locks);
        pl_write_integer(&w, "path_locks", (int64_t)d->path_locks);
        pl_write_integer(&w, "waiting", (int64_t)n.waiting);
        pl_write_integer(&w, "descriptors", (int64_t)files_count(d->files));
        pl_write_integer(&w, "descriptors_open", (int64_t)files_descriptors(d->files)->used);
        pl_write_integer(&w, "kernel_waits", (int64_t)os.waiting);
        pl_write_integer(&w, "kernel_wait_threads", (int64_t)os.threads);
        pl_write_integer(&w, "kernel_wait_retries", (int64_t)os.retrying);
        pl_write_close(&w, '}');
        pl_write_open(&w, "histograms", '{');
        pl_write_open(&w, "waited_ms", '[');
        for (i = 0; i < METRICS_WAIT_BUCKETS; i++) {
                pl_write_open(&w, NULL, '{');
                if (i < METRICS_WAIT_BUCKETS - 1)
                        pl_write_integer(&w, "below", (int64_t)1 << i);
                pl_write_integer(&w, "count", (int64_t)m->waited[i]);
                pl_write_close(&w, '}');
        }
        pl_write_close(&w, ']');
        pl_write_close(&w, '}');
        pl_reply_end(&w);
        dispatch_flush_answer(d, c, &r->id);
}

static void stop(struct dispatch *d, const struct client *c, const struct pl_request *r)
{
        char text[128];

        if (!peer_allowed(&c->peer, d->options.own_uid)) {
                dispatch_refuse(d, c, &r->id, PL_E_DENIED, "only the daemon's own user and root may stop it");
                return;
        }
        if (d->path_locks > 0 && !r->stop.force) {
                snprintf(text, sizeof text, "%zu locks by path are held, which end with the daemon; use force to stop all the same", d->path_locks);
                dispatch_refuse(d, c, &r->id, PL_E_DENIED, text);
                return;
        }
        dispatch_answer_empty(d, c, &r->id);
        log_event(LOG_INFO, "stop_requested", "session=%llu pid=%lld uid=%lld command=%s", (unsigned long long)c->id,
                  (long long)c->peer.pid, (long long)c->peer.uid, log_quote(c->peer.command));
        d->hooks.stop(d->hooks.arg);
}

/* ---- doors ---- */

/* Root and the daemon's own user have none: they could end it anyway. */
static bool has_account(const struct dispatch *d, const struct peer *peer)
{
        return d->options.accounts != NULL && !peer_allowed(peer, d->options.own_uid);
}

struct client *dispatch_open(struct dispatch *d, struct session *s, const struct peer *peer, const char **text)
{
        struct account *account = NULL;
        struct client *c;

        if (dispatch_sessions(d) >= d->options.sessions_max) {
                *text = "sessions";
                return NULL;
        }
        *text = "memory";
        if (has_account(d, peer)) {
                if (accounts_full(d->options.accounts, peer->uid, ACCOUNT_SESSIONS)) {
                        *text = "sessions_per_uid";
                        return NULL;
                }
                account = account_open(d->options.accounts, peer->uid);
                if (account == NULL)
                        return NULL;
        }
        c = registry_client_add(&d->registry, engine_next_number(d->engine), s, peer, account);
        if (c == NULL) {
                account_remove(account, ACCOUNT_SESSIONS);
                return NULL;
        }
        d->metrics.sessions_total++;
        log_event(LOG_DEBUG, "session_opened", "session=%llu pid=%lld uid=%lld command=%s", (unsigned long long)c->id,
                  (long long)peer->pid, (long long)peer->uid, log_quote(peer->command));
        return c;
}

struct account *dispatch_account(const struct client *c)
{
        return c->account;
}

bool dispatch_opens_paths(const struct dispatch *d, const struct client *c)
{
        return d->options.accounts == NULL || (c->peer.uid == d->options.own_uid && peer_is_known(&c->peer));
}

static void refuse_line(struct dispatch *d, struct client *c, const struct pl_fault *fault)
{
        int fd;

        /* Its descriptor leaves the queue all the same, or every later request would get its neighbour's. */
        if (fault->took_fd && locking_claim(c, &fd))
                files_discard(d->files, c->account, fd);
        d->metrics.refused_lines++;
        if (fault->code == PL_E_INTERNAL_ERROR) {
                /* It could not even be read, for want of memory: whether it took a descriptor is not known, so the next one might get another's. */
                say_no_memory(d, c);
                return;
        }
        if (fault->silent)
                return;
        pl_fault_write(&d->out, fault);
        dispatch_flush(d, c, true);
}

void dispatch_carry_out(struct dispatch *d, struct client *c, struct incoming *in)
{
        const struct pl_request *r = &in->request;

        if (c->gone && (r->method == PL_LIST || r->method == PL_STATS || r->method == PL_PING))
                return;
        switch (r->method) {
        case PL_HELLO:
                hello(d, c, r);
                break;
        case PL_LOCK:
                locking_lock(d, c, in);
                break;
        case PL_UNLOCK:
                locking_unlock(d, c, in);
                break;
        case PL_CANCEL:
                locking_cancel(d, c, r);
                break;
        case PL_LIST:
                list_request(d, c, in);
                break;
        case PL_WATCH:
                watch_begin(d, c, in);
                break;
        case PL_BREAK:
                locking_break(d, c, r);
                break;
        case PL_STATS:
                stats(d, c, r);
                break;
        case PL_PING:
                dispatch_answer_empty(d, c, &r->id);
                break;
        case PL_STOP:
                stop(d, c, r);
                break;
        case PL_METHOD_COUNT:
                break;
        }
}

static bool is_waiting(const struct dispatch *d, const struct client *c, const struct pl_id *id)
{
        return id->kind != PL_ID_NONE && ((c->request_count > 0 && registry_request_by_id(&d->registry, c, id) != NULL) || deferred_has(c, id));
}

void dispatch_line(struct dispatch *d, struct client *c, const char *line, size_t len)
{
        enum pl_method method;
        struct pl_fault fault;
        struct incoming in;     /* its request is filled by the decoder */

        in.account = c->account;
        in.since_ms = engine_now(d->engine);
        in.has_fd = false;
        in.fd = -1;

        if (pl_request_decode(line, len, &in.request, &fault) != 0) {
                refuse_line(d, c, &fault);
                c->spoke = true;
                return;
        }
        method = in.request.method;
        d->metrics.requests[method]++;
        /* Descriptors are claimed in the order of the lines, whenever these are carried out. */
        if (method == PL_LOCK && in.request.lock.fd)
                in.has_fd = locking_claim(c, &in.fd);
        if (is_waiting(d, c, &in.request.id))
                dispatch_refuse(d, c, &in.request.id, PL_E_INVALID_REQUEST, "a request with this id is still waiting");
        else if (c->held_up && method != PL_PING && method != PL_CANCEL)
                deferred_add(d, c, &in);
        else
                dispatch_carry_out(d, c, &in);
        c->spoke = true;
        incoming_clear(d, &in);
}

bool dispatch_is_full(const struct client *c)
{
        return c->deferred_count >= PL_DEFERRED_MAX;
}

void dispatch_go_on(struct dispatch *d, struct client *c)
{
        if (!c->releasing)
                return;
        c->releasing = false;
        deferred_release(d, c);
}

void dispatch_gone(struct client *c)
{
        c->gone = true;
}

void dispatch_long_line(struct dispatch *d, struct client *c)
{
        struct pl_fault fault;

        pl_fault_line_too_long(&fault);
        refuse_line(d, c, &fault);
}

bool dispatch_has_room(const struct dispatch *d, const struct client *c)
{
        if (account_full(c->account, ACCOUNT_DESCRIPTORS))
                return false;
        switch (files_descriptors(d->files)->level) {
        case DESCRIPTORS_PLENTY:
                return true;
        case DESCRIPTORS_NO_HOARDING:
        case DESCRIPTORS_NO_CONNECTIONS:
                return c->fd_count == 0 && c->deferred_fds == 0;
        case DESCRIPTORS_EXHAUSTED:
                break;
        }
        return false;
}

bool dispatch_descriptor(struct dispatch *d, struct client *c, int fd)
{
        files_received(d->files, c->account, fd);
        if (c->fds == NULL)
                c->fds = malloc(PL_FDS_UNCLAIMED_MAX * sizeof *c->fds);
        if (c->fds == NULL || c->fd_count == PL_FDS_UNCLAIMED_MAX) {
                files_discard(d->files, c->account, fd);
                return false;
        }
        c->fds[(c->fd_first + c->fd_count++) % PL_FDS_UNCLAIMED_MAX] = fd;
        return true;
}

void dispatch_close(struct dispatch *d, struct client *c)
{
        struct table_event ev = {.kind = EV_SESSION_END, .session = c->id};
        int fd;

        log_event(LOG_DEBUG, "session_closed", "session=%llu locks=%zu waiting=%zu", (unsigned long long)c->id, c->grant_count, c->request_count);
        while (locking_claim(c, &fd))
                files_discard(d->files, c->account, fd);
        deferred_close(d, c);
        watch_end(d, c);
        hello_close(d, c);
        while (c->waiting != NULL) {
                watch_request(d, c->waiting, "cancelled", NULL);
                locking_forget(d, c->waiting);
        }
        while (c->grants != NULL)
                locking_ended(d, c->grants, "released");
        engine_submit(d->engine, &ev);
        registry_client_remove(&d->registry, c);
}

void dispatch_tell_lost(struct dispatch *d, const struct grant *g, const char *by)
{
        struct pl_writer w;

        pl_notification_begin(&w, &d->out, "lost");
        pl_write_integer(&w, "lock", (int64_t)g->lock);
        pl_write_string(&w, "path", g->label);
        pl_write_string(&w, "by", by);
        pl_reply_end(&w);
        dispatch_flush(d, g->client, true);
}

void dispatch_report(void *arg, const struct table_effect *fx)
{
        if (fx->kind == FX_REPLY)
                outcome_replied(arg, fx);
        else if (fx->kind == FX_LOST)
                outcome_lost(arg, fx);
        else if (fx->kind == FX_OS_LOCK)
                outcome_under_way(arg, fx);
        else if (fx->kind == FX_MOVED)
                notices_moved(arg, fx->key);
        else
                outcome_waiting(arg, fx);
}

void dispatch_tick(struct dispatch *d)
{
        d->wake_ms = TABLE_NEVER;
        locking_tick(d);
        deferred_tick(d);
        notices_tick(d);
        watch_tick(d);
}

void dispatch_wake_at(struct dispatch *d, int64_t ms)
{
        if (ms >= d->wake_ms)
                return;
        d->wake_ms = ms;
        d->hooks.wake_at(d->hooks.arg, ms);
}

void dispatch_stop(struct dispatch *d, const char *by)
{
        struct request *q;
        struct grant *g;
        struct link *l;
        size_t i;

        d->stopping = true;
        deferred_stop(d);
        list_stop(d);
        /* From the youngest on, so that nobody is granted by the cancelling of one before him. */
        while ((q = d->registry.newest) != NULL) {
                if (locking_withdraw(d, q, PL_E_SHUTTING_DOWN))
                        continue;
                dispatch_refuse(d, q->client, &q->id, PL_E_SHUTTING_DOWN, NULL);
                locking_forget(d, q);
        }
        CHAINS_FOREACH(g, &d->registry.grants, i, l, struct grant, by_lock) {
                if (!g->by_path)
                        continue;
                dispatch_tell_lost(d, g, by);
                watch_grant(d, g, "lost");
        }
}
