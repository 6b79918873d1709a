/*
 * Requests that are kept until something is known. While a path is looked up off the loop, which can take as long as a dead file server stays
 * dead, the later requests of that session stand behind it in their order; cancel and ping do not.
 */
#include "dispatch_internal.h"

#include <stdlib.h>

void incoming_clear(struct dispatch *d, struct incoming *in)
{
        if (in->has_fd)
                files_discard(d->files, in->fd);
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

void deferred_look_up(struct dispatch *d, struct client *c, struct incoming *in, files_found_fn *found)
{
        const char *path = in->request.method == PL_LIST ? in->request.list.path : in->request.unlock.path;
        struct kept *k = kept_add(&d->looked_up, d, c, in);

        if (k == NULL) {
                dispatch_refuse(d, c, &in->request.id, PL_E_INTERNAL_ERROR, "out of memory");
        } else if (files_look_up(d->files, path, FILES_TO_IDENTIFY, found, k, 0) != 0) {
                dispatch_refuse(d, c, &k->incoming.request.id, PL_E_INTERNAL_ERROR, "out of memory");
                kept_remove(&d->looked_up, k);
        } else {
                c->held_up = true;
        }
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

        if (kept_add(&d->deferred, d, c, in) == NULL) {
                dispatch_refuse(d, c, &in->request.id, PL_E_INTERNAL_ERROR, "out of memory");
                return;
        }
        c->deferred_count++;
        dispatch_wake_at(d, deadline);
}

static void drop(struct dispatch *d, struct kept *k)
{
        k->client->deferred_count--;
        kept_remove(&d->deferred, k);
}

static struct kept *first_of(struct dispatch *d, const struct client *c)
{
        struct kept *k;

        TAILQ_FOREACH(k, &d->deferred, entry) {
                if (k->client == c)
                        return k;
        }
        return NULL;
}

void deferred_release(struct dispatch *d, struct client *c)
{
        bool was_full = dispatch_is_full(c);
        struct incoming in;
        struct kept *k;

        c->held_up = false;
        while (!c->held_up && c->deferred_count > 0 && (k = first_of(d, c)) != NULL) {
                in = k->incoming;       /* out of the list first: a `stop` among them answers all that is there */
                k->incoming = (struct incoming){.fd = -1};
                drop(d, k);
                dispatch_carry_out(d, c, &in);
                incoming_clear(d, &in);
        }
        if (was_full && !dispatch_is_full(c))
                d->hooks.resume(c->session);
}

static void answer(struct dispatch *d, struct kept *k, int code)
{
        dispatch_refuse(d, k->client, &k->incoming.request.id, code, NULL);
        drop(d, k);
}

bool deferred_cancel(struct dispatch *d, const struct client *c, const struct pl_id *id)
{
        struct kept *k;

        TAILQ_FOREACH(k, &d->deferred, entry) {
                if (k->client == c && k->incoming.request.method == PL_LOCK && pl_id_equal(&k->incoming.request.id, id)) {
                        answer(d, k, PL_E_CANCELLED);
                        return true;
                }
        }
        return false;
}

void deferred_stop(struct dispatch *d)
{
        struct kept *k;

        while ((k = TAILQ_FIRST(&d->deferred)) != NULL)
                answer(d, k, PL_E_SHUTTING_DOWN);
}

void deferred_tick(struct dispatch *d)
{
        int64_t now = engine_now(d->engine);
        struct kept *k, *next;

        for (k = TAILQ_FIRST(&d->deferred); k != NULL; k = next) {
                next = TAILQ_NEXT(k, entry);
                if (deadline_of(&k->incoming) <= now)
                        answer(d, k, PL_E_TIMED_OUT);
                else
                        dispatch_wake_at(d, deadline_of(&k->incoming));
        }
}

static void forget(struct kept_list *list, const struct client *c)
{
        struct kept *k, *next;

        for (k = TAILQ_FIRST(list); k != NULL; k = next) {
                next = TAILQ_NEXT(k, entry);
                if (k->client == c)
                        kept_remove(list, k);
        }
}

void deferred_close(struct dispatch *d, struct client *c)
{
        struct kept *k;

        if (c->list_waits)
                forget(&d->lists, c);
        if (c->deferred_count > 0)
                forget(&d->deferred, c);
        if (!c->held_up)
                return;
        TAILQ_FOREACH(k, &d->looked_up, entry) {
                if (k->client == c)
                        k->client = NULL;       /* the look-up still comes back to it */
        }
}
