/*
 * Requests that are kept until something is known. While a path is looked up off the loop, which can take as long as a dead file server stays
 * dead, the later requests of that session stand behind it in their order; cancel and ping do not.
 */
#include "dispatch_internal.h"

#include <stdlib.h>

void incoming_clear(struct dispatch *d, struct incoming *in)
{
        if (in->has_fd)
                files_discard(d->files, in->account, in->fd);
        in->has_fd = false;
        pl_request_clear(&in->request);
}

struct kept *kept_add(struct kept_list *list, struct dispatch *d, struct client *c, struct incoming *in)
{
        struct kept *k = malloc(sizeof *k);

        if (k == NULL)
                return NULL;
        *k = (struct kept){.d = d, .client = c, .incoming = *in};
        in->request.doc = NULL; /* moved */
        in->has_fd = false;
        TAILQ_INSERT_TAIL(list, k, entry);
        return k;
}

void kept_remove(struct kept_list *list, struct kept *k)
{
        TAILQ_REMOVE(list, k, entry);
        incoming_clear(k->d, &k->incoming);
        free(k);
}

void kept_clear(struct kept_list *list)
{
        struct kept *k;

        while ((k = TAILQ_FIRST(list)) != NULL)
                kept_remove(list, k);
}

static void on_found(void *arg, uint64_t ticket, const struct files_found *found)
{
        struct kept *k = arg;
        struct dispatch *d = k->d;
        struct client *c = k->client;

        (void)ticket;
        if (c != NULL) {
                c->looked_up = NULL;
                k->then(d, c, &k->incoming, found);
        }
        kept_remove(&d->looked_up, k);
        if (c != NULL)
                deferred_release(d, c);
}

/* Keep the request while its path is identified off the loop. */
static void look_up(struct dispatch *d, struct client *c, struct incoming *in, const char *path, identified_fn *then)
{
        struct kept *k = kept_add(&d->looked_up, d, c, in);

        if (k == NULL) {
                dispatch_refuse_for_memory(d, c, &in->request.id);
                return;
        }
        k->then = then;
        if (files_look_up(d->files, path, FILES_TO_IDENTIFY, on_found, k, 0) != 0) {
                dispatch_refuse_for_memory(d, c, &k->incoming.request.id);
                kept_remove(&d->looked_up, k);
                return;
        }
        c->held_up = true;
        c->looked_up = k;
}

void deferred_identify(struct dispatch *d, struct client *c, struct incoming *in, const char *path, identified_fn *then)
{
        struct files_found found = {0};

        found.result = files_identify(d->files, path, &found.key, &found.error);
        if (found.result == FILES_AWAY)
                look_up(d, c, in, path, then);
        else
                then(d, c, in, &found);
}

/* When a deferred request must be answered at the latest. */
static int64_t deadline_of(const struct incoming *in)
{
        const struct pl_lock_params *p = &in->request.lock;

        return in->request.method == PL_LOCK && p->timeout_ms > 0 ? in->since_ms + p->timeout_ms : TABLE_NEVER;
}

void deferred_add(struct dispatch *d, struct client *c, struct incoming *in)
{
        int64_t deadline = deadline_of(in);
        bool has_fd = in->has_fd;

        if (kept_add(&c->deferred, d, c, in) == NULL) {
                dispatch_refuse_for_memory(d, c, &in->request.id);
                return;
        }
        c->deferred_fds += has_fd;
        if (c->deferred_count++ == 0)
                LIST_INSERT_HEAD(&d->deferring, c, deferring);
        dispatch_wake_at(d, deadline);
}

static void drop(struct kept *k)
{
        struct client *c = k->client;

        c->deferred_fds -= k->incoming.has_fd;
        kept_remove(&c->deferred, k);
        if (--c->deferred_count == 0)
                LIST_REMOVE(c, deferring);
}

void deferred_release(struct dispatch *d, struct client *c)
{
        bool was_full = dispatch_is_full(c);
        struct incoming in;
        struct kept *k;

        c->held_up = false;
        while (!c->held_up && (k = TAILQ_FIRST(&c->deferred)) != NULL) {
                if (!d->hooks.take_share(c->session)) {
                        c->held_up = c->releasing = true;
                        d->hooks.again(c->session);
                        break;
                }
                c->deferred_fds -= k->incoming.has_fd;
                in = k->incoming;       /* out of the list first: a `stop` among them answers all that is there */
                k->incoming = (struct incoming){.fd = -1};
                drop(k);
                dispatch_carry_out(d, c, &in);
                incoming_clear(d, &in);
        }
        if (was_full && !dispatch_is_full(c))
                d->hooks.resume(c->session);
}

static void answer(struct dispatch *d, struct kept *k, int code)
{
        if (code == PL_E_TIMED_OUT)
                locking_refuse_timed_out(d, k->client, &k->incoming.request.id);
        else
                dispatch_refuse(d, k->client, &k->incoming.request.id, code, NULL);
        drop(k);
}

bool deferred_has(const struct client *c, const struct pl_id *id)
{
        const struct kept *k;

        TAILQ_FOREACH(k, &c->deferred, entry) {
                if (pl_id_equal(&k->incoming.request.id, id))
                        return true;
        }
        return (c->looked_up != NULL && pl_id_equal(&c->looked_up->incoming.request.id, id)) ||
               (c->list_waits != NULL && pl_id_equal(&c->list_waits->incoming.request.id, id));
}

bool deferred_cancel(struct dispatch *d, const struct client *c, const struct pl_id *id)
{
        struct kept *k;

        TAILQ_FOREACH(k, &c->deferred, entry) {
                if (k->incoming.request.method == PL_LOCK && pl_id_equal(&k->incoming.request.id, id)) {
                        answer(d, k, PL_E_CANCELLED);
                        return true;
                }
        }
        return false;
}

void deferred_stop(struct dispatch *d)
{
        struct client *c;

        while ((c = LIST_FIRST(&d->deferring)) != NULL)
                answer(d, TAILQ_FIRST(&c->deferred), PL_E_SHUTTING_DOWN);
}

static void tick(struct dispatch *d, struct client *c, int64_t now)
{
        struct kept *k, *next;

        for (k = TAILQ_FIRST(&c->deferred); k != NULL; k = next) {
                next = TAILQ_NEXT(k, entry);
                if (deadline_of(&k->incoming) <= now)
                        answer(d, k, PL_E_TIMED_OUT);
                else
                        dispatch_wake_at(d, deadline_of(&k->incoming));
        }
}

void deferred_tick(struct dispatch *d)
{
        int64_t now = engine_now(d->engine);
        struct client *c, *next;

        for (c = LIST_FIRST(&d->deferring); c != NULL; c = next) {
                next = LIST_NEXT(c, deferring);
                tick(d, c, now);
        }
}

void deferred_close(struct dispatch *d, struct client *c)
{
        struct kept *k;

        if (c->list_waits != NULL)
                kept_remove(&d->lists, c->list_waits);
        while ((k = TAILQ_FIRST(&c->deferred)) != NULL)
                drop(k);
        if (c->looked_up != NULL)
                c->looked_up->client = NULL;    /* the look-up still comes back to it */
}
