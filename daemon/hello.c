/* hello: who a session is. Its id, when it comes back after a lost connection; its parent; and what the table has to know of these for its search for deadlocks. */
#include "dispatch_internal.h"

#include "log.h"

#include <string.h>

/*
 * After a lost connection the session goes on under its old id, unless somebody has that or no daemon can have given it. Whose it was is not known after a
 * restart, and not asked: a stranger who takes it gets the number alone, neither a lock nor a parent or child of another user.
 */
static bool go_on_as(struct dispatch *d, struct client *c, int64_t session)
{
        if (session <= 0 || !reclaim_token_is_credible(d, session) || registry_client(&d->registry, (uint64_t)session) != NULL)
                return false;
        engine_raise_numbers(d->engine, (uint64_t)session);
        log_event(LOG_DEBUG, "session_goes_on", "session=%lld opened_as=%llu", (long long)session, (unsigned long long)c->id);
        registry_client_rename(&d->registry, c, (uint64_t)session);
        newcomers_add(d, c);    /* nobody has the other id any more */
        return true;
}

/* ---- parents ---- */

static bool may_be_parent(const struct client *parent, const struct client *c)
{
        return parent != NULL && parent != c && !parent->ending && peer_same_user(&parent->peer, &c->peer);
}

/* False: out of memory. */
static bool tell_table(struct dispatch *d, const struct client *c)
{
        struct table_event ev = {.kind = EV_SESSION, .session = c->id, .concurrent = c->concurrent, .parent = c->parent != NULL ? c->parent->id : 0};

        engine_submit(d->engine, &ev);
        return table_knows_session(engine_table(d->engine), c->id);
}

/* Among the children of its parent, or, if that is not there, among the orphans. */
static void set_parent(struct dispatch *d, struct client *c, struct client *parent)
{
        c->parent = parent;
        if (parent != NULL)
                LIST_INSERT_HEAD(&parent->children, c, of_parent);
        else
                LIST_INSERT_HEAD(&d->orphans, c, of_parent);
}

/* It is back: after its connection broke, or before its children after our restart. */
static void adopt_children(struct dispatch *d, struct client *c)
{
        struct client *child, *next;

        for (child = LIST_FIRST(&d->orphans); child != NULL; child = next) {
                next = LIST_NEXT(child, of_parent);
                if (child->claimed_parent != c->id || !may_be_parent(c, child))
                        continue;
                LIST_REMOVE(child, of_parent);
                set_parent(d, child, c);
                (void)tell_table(d, child);
        }
}

static bool introduce(struct dispatch *d, struct client *c, const struct pl_hello_params *hello)
{
        struct client *parent = registry_client(&d->registry, (uint64_t)hello->parent);

        c->concurrent = hello->concurrent;
        if (hello->parent > 0 && parent != c && reclaim_token_is_credible(d, hello->parent)) {
                c->claimed_parent = (uint64_t)hello->parent;
                set_parent(d, c, may_be_parent(parent, c) ? parent : NULL);
        }
        return (c->parent == NULL && !c->concurrent) || tell_table(d, c);
}

void hello_close(struct dispatch *d, struct client *c)
{
        struct client *child;

        if (c->claimed_parent != 0)
                LIST_REMOVE(c, of_parent);
        c->claimed_parent = 0;
        while ((child = LIST_FIRST(&c->children)) != NULL) {    /* the table learns it from the session's end */
                LIST_REMOVE(child, of_parent);
                set_parent(d, child, NULL);
        }
}

/* ---- the method ---- */

static void answer(struct dispatch *d, const struct client *c, const struct pl_id *id)
{
        struct pl_writer w;

        pl_reply_begin(&w, &d->out, id);
        pl_write_string(&w, "server", "portalockd");
        pl_write_string(&w, "version", PORTALOCK_VERSION);
        pl_write_integer(&w, "protocol", PL_PROTOCOL_VERSION);
        pl_write_integer(&w, "session", (int64_t)c->id);
        pl_write_open(&w, "features", '[');
        if (d->options.descriptors)
                pl_write_string(&w, NULL, "descriptors");
        pl_write_string(&w, NULL, "watch");
        pl_write_string(&w, NULL, "break");
        pl_write_close(&w, ']');
        pl_write_open(&w, "limits", '{');
        pl_write_integer(&w, "line", PL_LINE_MAX);
        pl_write_integer(&w, "depth", PL_DEPTH_MAX);
        pl_write_integer(&w, "descriptors_unclaimed", PL_FDS_UNCLAIMED_MAX);
        pl_write_integer(&w, "waiting_per_session", PL_WAITING_PER_SESSION_MAX);
        pl_write_integer(&w, "locks_per_session", PL_LOCKS_PER_SESSION_MAX);
        pl_write_integer(&w, "list_rows", PL_LIST_ROWS_MAX);
        pl_write_integer(&w, "watches_per_session", PL_WATCHES_PER_SESSION_MAX);
        pl_write_integer(&w, "reclaim_window_ms", PL_RECLAIM_WINDOW_MS);
        pl_write_close(&w, '}');
        pl_reply_end(&w);
        dispatch_flush_answer(d, c, id);
}

void hello(struct dispatch *d, struct client *c, const struct pl_request *r)
{
        bool back;

        if (c->spoke) {
                dispatch_refuse(d, c, &r->id, PL_E_INVALID_REQUEST, "hello must be the first request of a session");
                return;
        }
        back = go_on_as(d, c, r->hello.session);
        if (!introduce(d, c, &r->hello)) {
                dispatch_refuse_for_memory(d, c, &r->id);
                return;
        }
        if (back)
                adopt_children(d, c);
        if (r->hello.client != NULL && r->hello.client[0] != '\0')
                c->name = strdup(r->hello.client);      /* no memory: it has none */
        answer(d, c, &r->id);
}
