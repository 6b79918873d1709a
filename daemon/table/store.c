/* The records and the indices by which they are found. Nothing here decides who gets a lock. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- what the indices go by ---- */

#define RESOURCE(l) chains_owner(l, struct resource, by_key)
#define BEARER(l) chains_owner(l, struct bearer, by_id)
#define SESSION(l) chains_owner(l, struct session_records, by_id)
#define LOCK(l) chains_owner(l, struct holder, by_id)
#define HOLDER(l) chains_owner(l, struct holder, by_owner)
#define WAITING(l) chains_owner(l, struct request, by_owner)

static uint64_t key_hash(struct table_key key)
{
        return chains_mix(chains_mix(key.device) ^ key.inode);
}

static uint64_t owner_hash(const struct owner *o)
{
        return chains_mix(chains_mix(chains_mix(o->place) ^ o->session) ^ (uint64_t)o->handle);
}

static bool same_owner(const struct owner *a, const struct owner *b)
{
        return a->place == b->place && a->session == b->session && a->handle == b->handle && a->shared == b->shared;
}

static struct owner owner_of(const struct holder *h)
{
        bool shared = h->bearer->shared;

        return (struct owner){.shared = shared, .place = shared ? (uintptr_t)h->resource : h->bearer->id, .session = h->records->id, .handle = shared ? h->handle : 0};
}

struct owner store_owner(const struct request *q)
{
        return (struct owner){.shared = q->shared, .place = q->shared ? (uintptr_t)q->resource : q->bearer->id, .session = q->records->id,
                              .handle = q->shared ? q->handle : 0};
}

/* Of a passed description: itself, for it may wait only once. */
static struct owner owner_waiting(const struct request *q)
{
        struct owner o = store_owner(q);

        o.session = q->shared ? o.session : 0;
        return o;
}

static uint64_t resource_hash(const struct link *l)
{
        return key_hash(RESOURCE(l)->key);
}

static uint64_t bearer_hash(const struct link *l)
{
        return chains_mix(BEARER(l)->id);
}

static uint64_t session_hash(const struct link *l)
{
        return chains_mix(SESSION(l)->id);
}

static uint64_t lock_hash(const struct link *l)
{
        return chains_mix(LOCK(l)->id);
}

static uint64_t holder_hash(const struct link *l)
{
        struct owner o = owner_of(HOLDER(l));

        return owner_hash(&o);
}

static uint64_t waiting_hash(const struct link *l)
{
        struct owner o = owner_waiting(WAITING(l));

        return owner_hash(&o);
}

bool store_init(struct table *t)
{
        pool_init(&t->request_pool, sizeof(struct request), true);
        pool_init(&t->line_pool, sizeof(struct line), false);
        pool_init(&t->resource_pool, sizeof(struct resource), true);
        pool_init(&t->holder_pool, sizeof(struct holder), false);
        pool_init(&t->bearer_pool, sizeof(struct bearer), false);
        return chains_init(&t->resources, resource_hash) && chains_init(&t->bearers, bearer_hash) && chains_init(&t->sessions, session_hash) &&
               chains_init(&t->locks, lock_hash) && chains_init(&t->owners, holder_hash) && chains_init(&t->waiting, waiting_hash);
}

void store_clear(struct table *t)
{
        struct link *l, *next;
        size_t i;

        for (i = 0; i < t->sessions.count; i++)
                for (l = chains_list(&t->sessions, i); l != NULL; l = next) {
                        next = chains_next(l);
                        free(SESSION(l));
                }
        pool_clear(&t->request_pool);
        pool_clear(&t->line_pool);
        pool_clear(&t->resource_pool);
        pool_clear(&t->holder_pool);
        pool_clear(&t->bearer_pool);
        chains_clear(&t->resources);
        chains_clear(&t->bearers);
        chains_clear(&t->sessions);
        chains_clear(&t->locks);
        chains_clear(&t->owners);
        chains_clear(&t->waiting);
}

/* ---- resources, bearers, sessions ---- */

struct resource *store_find_resource(const struct table *t, struct table_key key)
{
        struct link *l;

        for (l = chains_first(&t->resources, key_hash(key)); l != NULL; l = chains_next(l))
                if (RESOURCE(l)->key.inode == key.inode && RESOURCE(l)->key.device == key.device)
                        return RESOURCE(l);
        return NULL;
}

static struct line nobody = {.queue = TAILQ_HEAD_INITIALIZER(nobody.queue)};

bool store_has_line(const struct resource *r)
{
        return r->line != &nobody;
}

static bool begin_line(struct table *t, struct resource *r)
{
        struct line *line;

        if (store_has_line(r))
                return true;
        line = pool_take(&t->line_pool);
        if (line == NULL)
                return false;
        TAILQ_INIT(&line->queue);
        r->line = line;
        return true;
}

static void end_line(struct table *t, struct resource *r)
{
        if (!store_has_line(r) || r->line->waiter_count > 0 || r->line->op != NULL)
                return;
        pool_give(&t->line_pool, r->line);
        r->line = &nobody;
}

/* An event may touch them all. */
static bool room_to_touch(struct table *t)
{
        size_t need = t->counts.resources + 1, cap = need * 2;
        struct resource **touched;

        if (need <= t->touched_cap)
                return true;
        touched = malloc(cap * sizeof *touched);
        if (touched == NULL)
                return false;
        free(t->touched);       /* nothing is in it yet */
        t->touched = touched;
        t->touched_cap = cap;
        return true;
}

struct resource *store_resource(struct table *t, struct table_key key)
{
        struct resource *r = store_find_resource(t, key);

        if (r != NULL)
                return r;
        if (!chains_reserve(&t->resources, 1) || !room_to_touch(t) || (r = pool_take(&t->resource_pool)) == NULL)
                return NULL;
        r->key = key;
        TAILQ_INIT(&r->holders);
        r->line = &nobody;
        chains_add(&t->resources, &r->by_key);
        t->counts.resources++;
        return r;
}

void store_free_resource(struct table *t, struct resource *r)
{
        end_line(t, r);
        if (r->holder_count > 0 || store_has_line(r))
                return;
        chains_remove(&t->resources, &r->by_key);
        t->counts.resources--;
        pool_give(&t->resource_pool, r);
}

static struct bearer *find_bearer(const struct table *t, uint64_t id)
{
        struct link *l;

        for (l = chains_first(&t->bearers, chains_mix(id)); l != NULL; l = chains_next(l))
                if (BEARER(l)->id == id)
                        return BEARER(l);
        return NULL;
}

struct bearer *store_bearer(struct table *t, uint64_t id, bool shared)
{
        struct bearer *b = find_bearer(t, id);

        if (b == NULL) {
                if (!chains_reserve(&t->bearers, 1) || (b = pool_take(&t->bearer_pool)) == NULL)
                        return NULL;
                b->id = id;
                b->shared = shared;
                chains_add(&t->bearers, &b->by_id);
        }
        b->users++;
        return b;
}

void store_keep_bearer(struct table *t, struct bearer *b)
{
        emit(t, FX_OS_KEEP)->bearer = b->id;
        b->users++;
}

void store_drop_bearer(struct table *t, struct bearer *b)
{
        emit(t, FX_OS_DROP)->bearer = b->id;
        if (--b->users > 0)
                return;
        chains_remove(&t->bearers, &b->by_id);
        pool_give(&t->bearer_pool, b);
}

struct session_records *store_find_session(const struct table *t, uint64_t id)
{
        struct link *l;

        for (l = chains_first(&t->sessions, chains_mix(id)); l != NULL; l = chains_next(l))
                if (SESSION(l)->id == id)
                        return SESSION(l);
        return NULL;
}

struct session_records *store_session(struct table *t, uint64_t id)
{
        struct session_records *s = store_find_session(t, id);

        if (s != NULL)
                return s;
        s = zeroed(sizeof *s);
        if (s == NULL || !chains_reserve(&t->sessions, 1)) {
                free(s);
                return NULL;
        }
        s->id = id;
        chains_add(&t->sessions, &s->by_id);
        return s;
}

void store_leave_session(struct table *t, uint64_t id)
{
        struct session_records *s = store_find_session(t, id);

        if (--s->count > 0)
                return;
        chains_remove(&t->sessions, &s->by_id);
        free(s);
}

/*
 * A session leads on if somebody may wait for it anywhere but behind the one request that it has. Usually it does not: then a search of the wait-for
 * graph that comes along a queue need not look at it, nor at a queue of such.
 */
bool store_leads(const struct session_records *s)
{
        return !s->concurrent && (s->places > 1 || s->parent != NULL);
}

static void tell_queues(struct session_records *s, bool led)
{
        struct request *q;

        if (store_leads(s) == led)
                return;
        LIST_FOREACH(q, &s->requests, of_session)
                if (q->queued)
                        q->resource->line->leading = led ? q->resource->line->leading - 1 : q->resource->line->leading + 1;
}

static void count_places(struct session_records *s, int change)
{
        bool led = store_leads(s);

        s->places = change > 0 ? s->places + 1 : s->places - 1;
        tell_queues(s, led);
}

void store_queued(struct request *q, bool queued)
{
        if (!queued)
                q->resource->line->leading -= store_leads(q->records);
        q->queued = false;      /* the others of its session are told of its coming and going */
        count_places(q->records, queued ? 1 : -1);
        q->queued = queued;
        if (queued)
                q->resource->line->leading += store_leads(q->records);
}

static void leave_parent(struct table *t, struct session_records *s)
{
        struct session_records *parent = s->parent;
        bool led = store_leads(s);

        if (parent == NULL)
                return;
        LIST_REMOVE(s, of_parent);
        s->parent = NULL;
        tell_queues(s, led);
        store_leave_session(t, parent->id);
}

static bool descends_from(const struct session_records *s, uint64_t id)
{
        for (; s != NULL; s = s->parent)
                if (s->id == id)
                        return true;
        return false;
}

bool store_introduce(struct table *t, uint64_t id, uint64_t parent, bool concurrent)
{
        struct session_records *s = store_session(t, id), *p = NULL;
        bool led;

        if (s == NULL)
                return false;
        if (descends_from(store_find_session(t, parent), id))
                parent = 0;     /* nobody is his own ancestor */
        if (parent != 0 && (p = store_session(t, parent)) == NULL) {
                s->count++;
                store_leave_session(t, id);
                return false;
        }
        if (p != NULL)
                p->count++;     /* before it leaves the old one, which may be the same and have nothing else */
        leave_parent(t, s);     /* if it has said so before */
        led = store_leads(s);
        s->count += !s->introduced;
        s->introduced = true;
        s->concurrent = concurrent;
        s->parent = p;
        if (p != NULL)
                LIST_INSERT_HEAD(&p->children, s, of_parent);
        tell_queues(s, led);
        return true;
}

void store_take_leave(struct table *t, struct session_records *s)
{
        s->count++;
        leave_parent(t, s);
        while (!LIST_EMPTY(&s->children))
                leave_parent(t, LIST_FIRST(&s->children));
        s->count -= s->introduced;
        s->introduced = false;
        store_leave_session(t, s->id);
}

/* ---- holders and requests ---- */

struct holder *store_holder(const struct table *t, const struct owner *o)
{
        struct link *l;
        struct owner own;

        for (l = chains_first(&t->owners, owner_hash(o)); l != NULL; l = chains_next(l)) {
                own = owner_of(HOLDER(l));
                if (same_owner(&own, o))
                        return HOLDER(l);
        }
        return NULL;
}

struct holder *store_lock(const struct table *t, table_id id)
{
        struct link *l;

        for (l = chains_first(&t->locks, chains_mix(id)); l != NULL; l = chains_next(l))
                if (LOCK(l)->id == id)
                        return LOCK(l);
        return NULL;
}

struct request *store_waiting(const struct table *t, const struct owner *o)
{
        struct link *l;
        struct owner own;

        for (l = chains_first(&t->waiting, owner_hash(o)); l != NULL; l = chains_next(l)) {
                own = owner_waiting(WAITING(l));
                if (same_owner(&own, o))
                        return WAITING(l);
        }
        return NULL;
}

struct request *store_upgrade(const struct resource *r)
{
        struct request *head = TAILQ_FIRST(&r->line->queue);

        return head != NULL && head->upgrade != NULL ? head : NULL;
}

struct request *waiting_upgrade(const struct holder *h)
{
        struct request *u = store_upgrade(h->resource);

        return u != NULL && u->upgrade == h ? u : NULL;
}

struct holder *store_holder_by(const struct resource *r, const struct bearer *b)
{
        struct holder *h;

        TAILQ_FOREACH(h, &r->holders, entry)
                if (h->bearer == b)
                        return h;
        return NULL;
}

void store_set_trial(struct holder *h, bool on_trial)
{
        if (h->on_trial || on_trial)
                h->bearer->has_trial = on_trial;
        h->on_trial = on_trial;
}

void store_become_ghost(struct table *t, struct request *q)
{
        chains_remove(&t->waiting, &q->by_owner);
        q->state = REQUEST_GHOST;
}

/* A grant must not fail: room for the holder and its places in the indices comes with the request. */
static bool room_for_grants(struct table *t)
{
        size_t count = t->counts.waiting + 2;

        return pool_reserve(&t->holder_pool, count) && chains_reserve(&t->locks, count) && chains_reserve(&t->owners, count);
}

struct request *store_request(struct table *t, struct resource *r, struct bearer *b, const struct table_event *ev)
{
        struct session_records *s = store_session(t, ev->session);
        struct request *q;

        if (s == NULL)
                return NULL;
        s->count++;
        if (!begin_line(t, r) || !heap_reserve(t) || !chains_reserve(&t->waiting, 1) || !room_for_grants(t) || (q = pool_take(&t->request_pool)) == NULL) {
                store_leave_session(t, ev->session);
                return NULL;
        }
        s->group = ev->group;
        q->resource = r;
        q->bearer = b;
        q->records = s;
        q->cookie = ev->cookie;
        q->handle = (int32_t)ev->handle;
        q->shared = ev->shared;
        q->mode = ev->mode;
        q->nonblock = ev->nonblock || ev->deadline_ms <= ev->now_ms;
        q->detach = ev->detach;
        q->since_ms = ev->since_ms;
        q->deadline_ms = q->nonblock ? TABLE_NEVER : ev->deadline_ms;  /* it is answered before anything could be late */
        chains_add(&t->waiting, &q->by_owner);
        LIST_INSERT_HEAD(&s->requests, q, of_session);
        return q;
}

void store_free_request(struct table *t, struct request *q)
{
        if (q->state == REQUEST_WAITING)
                chains_remove(&t->waiting, &q->by_owner);
        heap_remove(t, q);
        LIST_REMOVE(q, of_session);
        store_leave_session(t, q->records->id);
        pool_give(&t->request_pool, q);
}

void store_end_request(struct table *t, struct request *q)
{
        struct bearer *b = q->bearer;

        store_free_request(t, q);
        store_drop_bearer(t, b);
}

struct holder *store_hold(struct table *t, struct request *q, enum table_mode mode, uint64_t token)
{
        struct session_records *s = q->records;
        struct resource *r = q->resource;
        struct holder *h = pool_take(&t->holder_pool);  /* promised by room_for_grants() */

        h->resource = r;
        h->bearer = q->bearer;
        h->records = s;
        h->handle = q->handle;
        h->mode = mode;
        h->token = token;
        h->since_ms = t->now_ms;
        h->id = next_token(t);
        chains_add(&t->locks, &h->by_id);
        chains_add(&t->owners, &h->by_owner);
        TAILQ_INSERT_TAIL(&r->holders, h, entry);       /* its id is the greatest */
        LIST_INSERT_HEAD(&s->holders, h, of_session);
        s->count++;
        count_places(s, 1);
        r->bearer_count += h->bearer->holders++ == 0;
        h->bearer->left = TABLE_NONE;
        r->holder_count++;
        r->exclusive |= mode == TABLE_EX;
        r->moved = true;
        t->counts.locks++;
        return h;
}

void store_free_holder(struct table *t, struct holder *h)
{
        struct resource *r = h->resource;

        chains_remove(&t->owners, &h->by_owner);
        TAILQ_REMOVE(&r->holders, h, entry);
        LIST_REMOVE(h, of_session);
        count_places(h->records, -1);
        chains_remove(&t->locks, &h->by_id);
        r->bearer_count -= --h->bearer->holders == 0;
        store_set_trial(h, false);
        r->holder_count--;
        if (h->mode == TABLE_EX)
                r->exclusive = h->bearer->holders > 0;
        r->moved = true;
        t->counts.locks--;
        store_leave_session(t, h->records->id);
        pool_give(&t->holder_pool, h);
}
