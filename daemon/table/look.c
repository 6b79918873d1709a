/* Looking at the table without changing it. */
#include "internal.h"

static void show_holder(const struct holder *h, struct table_holder *out)
{
        *out = (struct table_holder){.lock = h->id, .session = h->records->id, .bearer = h->bearer->id, .token = h->token,
                                     .handle = h->handle, .since_ms = h->since_ms, .mode = h->mode, .shared = h->bearer->shared};
}

bool table_knows(const struct table *t, struct table_key key)
{
        return store_find_resource(t, key) != NULL;
}

bool table_knows_session(const struct table *t, uint64_t session)
{
        return store_find_session(t, session) != NULL;
}

bool table_cycle(const struct table *t, size_t at, size_t i, struct table_cycle_step *out)
{
        size_t first = at - 1;

        if (at == 0 || first + i >= t->cycle_count || (i > 0 && t->cycle_first[first + i]))
                return false;
        *out = t->cycle[first + i];
        return true;
}

size_t table_search_visits(const struct table *t)
{
        return t->visits;
}

bool table_lock(const struct table *t, table_id lock, struct table_holder *out, struct table_key *key)
{
        const struct holder *h = store_lock(t, lock);

        if (h == NULL)
                return false;
        if (out != NULL)
                show_holder(h, out);
        if (key != NULL)
                *key = h->resource->key;
        return true;
}

table_id table_lock_of(const struct table *t, struct table_key key, uint64_t session, int64_t handle)
{
        const struct resource *r = store_find_resource(t, key);
        const struct holder *h;
        struct owner o;

        if (r == NULL)
                return 0;
        o = (struct owner){.shared = true, .place = (uintptr_t)r, .session = session, .handle = handle};
        h = store_holder(t, &o);
        if (h != NULL)
                return h->id;
        TAILQ_FOREACH_REVERSE(h, &r->holders, holders, entry) {
                if (h->records->id == session && h->handle == handle)
                        return h->id;
        }
        return 0;
}

table_id table_newest_lock(const struct table *t, uint64_t session)
{
        const struct session_records *s = store_find_session(t, session);

        return s != NULL && !LIST_EMPTY(&s->holders) ? LIST_FIRST(&s->holders)->id : 0;
}

uint64_t table_any_bearer(const struct table *t, struct table_key key)
{
        const struct resource *r = store_find_resource(t, key);

        if (r == NULL)
                return 0;
        if (!TAILQ_EMPTY(&r->holders))
                return TAILQ_FIRST(&r->holders)->bearer->id;
        return TAILQ_EMPTY(&r->line->queue) ? 0 : TAILQ_FIRST(&r->line->queue)->bearer->id;
}

size_t table_bearers_held(const struct table *t, struct table_key key)
{
        const struct resource *r = store_find_resource(t, key);

        return r != NULL ? r->bearer_count : 0;
}

bool table_walk(const struct table *t, uint64_t *cursor, struct table_key *key)
{
        const struct resource *r = pool_next(&t->resource_pool, cursor);

        if (r == NULL)
                return false;
        *key = r->key;
        ++*cursor;
        return true;
}

/* The one looked at last, or found. */
static const struct resource *look_at(const struct table *t, const struct resource *last, struct table_key key)
{
        if (last != NULL && last->key.inode == key.inode && last->key.device == key.device)
                return last;
        return store_find_resource(t, key);
}

/* The cursors are a memory of the last look, no part of the table's state. */
bool table_holder_at(const struct table *table, struct table_key key, size_t i, struct table_holder *out)
{
        struct table *t = (struct table *)table;
        const struct resource *r = look_at(t, t->holder_cursor.resource, key);
        const struct holder *h;
        size_t at = 0;

        if (r == NULL || i >= r->holder_count)
                return false;
        h = TAILQ_FIRST(&r->holders);
        if (t->holder_cursor.resource == r && t->holder_cursor.index <= i) {
                h = t->holder_cursor.holder;
                at = t->holder_cursor.index;
        }
        for (; at < i; at++)
                h = TAILQ_NEXT(h, entry);
        t->holder_cursor.resource = r;
        t->holder_cursor.index = i;
        t->holder_cursor.holder = h;
        show_holder(h, out);
        return true;
}

bool table_waiter_at(const struct table *table, struct table_key key, size_t i, struct table_waiter *out)
{
        struct table *t = (struct table *)table;
        const struct resource *r = look_at(t, t->waiter_cursor.resource, key);
        const struct request *q;
        size_t at = 0;

        if (r == NULL || i >= r->line->waiter_count)
                return false;
        q = TAILQ_FIRST(&r->line->queue);
        if (t->waiter_cursor.resource == r && t->waiter_cursor.index <= i) {
                q = t->waiter_cursor.waiter;
                at = t->waiter_cursor.index;
        }
        for (; at < i; at++)
                q = TAILQ_NEXT(q, entry);
        t->waiter_cursor.resource = r;
        t->waiter_cursor.index = i;
        t->waiter_cursor.waiter = q;
        *out = (struct table_waiter){.request = pool_id(&t->request_pool, q), .session = q->records->id, .cookie = q->cookie, .mode = q->mode, .since_ms = q->since_ms,
                                     .deadline_ms = q->deadline_ms, .position = i + 1, .upgrade = q->upgrade != NULL,
                                     .in_kernel = r->line->op == q && q->op_waits, .shared = q->bearer->shared, .handle = q->handle};
        return true;
}

size_t table_holder_count(const struct table *t, struct table_key key)
{
        const struct resource *r = store_find_resource(t, key);

        return r != NULL ? r->holder_count : 0;
}

uint64_t table_position(const struct table *t, table_id request)
{
        const struct request *q = pool_find(&t->request_pool, request), *before = q, *behind = q;
        uint64_t n;

        if (q == NULL || q->state != REQUEST_WAITING)
                return 0;
        for (n = 1;; n++) {
                before = TAILQ_PREV(before, waiters, entry);
                if (before == NULL)
                        return n;
                behind = TAILQ_NEXT(behind, entry);
                if (behind == NULL)
                        return q->resource->line->waiter_count - n + 1;
        }
}

void table_count(const struct table *t, struct table_counts *out)
{
        *out = t->counts;
}
