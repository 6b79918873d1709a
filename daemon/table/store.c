/* The records: slots with generations, hash indexes, the heap of deadlines. Nothing here decides who gets a lock. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- slots ---- */

bool slots_reserve(struct slots *s)
{
        struct slot *grown;
        size_t cap;

        if (s->free != 0 || s->count < s->cap)
                return true;
        cap = s->cap == 0 ? 64 : s->cap * 2;
        if (cap > (1u << 20))
                cap = s->cap + (1u << 20);
        grown = realloc(s->items, cap * sizeof *grown);
        if (grown == NULL)
                return false;
        s->items = grown;
        s->cap = cap;
        return true;
}

/* Ids stay below 2^53, so that JSON carries them whole: 24 bits of slot, 29 of generation. */
#define SLOT_BITS 24
#define GENERATION_MASK 0x1fffffffu

table_id slots_put(struct slots *s, void *record)
{
        struct slot *slot;

        if (s->free != 0) {
                slot = &s->items[s->free - 1];
                s->free = slot->next_free;
        } else {
                slot = &s->items[s->count++];
                slot->generation = 0;
        }
        slot->record = record;
        slot->next_free = 0;
        slot->generation = (slot->generation + 1) & GENERATION_MASK;
        if (slot->generation == 0)
                slot->generation = 1;
        return (table_id)slot->generation << SLOT_BITS | (table_id)(slot - s->items);
}

void *slots_get(const struct slots *s, table_id id)
{
        size_t index = id & ((1u << SLOT_BITS) - 1);

        if (index >= s->count || s->items[index].generation != id >> SLOT_BITS)
                return NULL;
        return s->items[index].record;
}

void slots_remove(struct slots *s, table_id id)
{
        uint32_t index = (uint32_t)(id & ((1u << SLOT_BITS) - 1));

        s->items[index].record = NULL;
        s->items[index].next_free = s->free;
        s->free = index + 1;
}

/* ---- resources, bearers, sessions ---- */

struct resource *store_find_resource(const struct table *t, struct table_key key)
{
        struct resource *r;

        HASH_FIND(hh, t->resources, &key, sizeof key, r);
        return r;
}

struct resource *store_resource(struct table *t, struct table_key key)
{
        struct resource *r = store_find_resource(t, key);

        if (r != NULL)
                return r;
        r = zeroed(sizeof *r);
        if (r == NULL || !slots_reserve(&t->resource_slots)) {
                free(r);
                return NULL;
        }
        r->key = key;
        TAILQ_INIT(&r->holders);
        TAILQ_INIT(&r->queue);
        HASH_ADD(hh, t->resources, key, sizeof r->key, r);
        if (r->hh.tbl == NULL) {
                free(r);
                return NULL;
        }
        r->slot = slots_put(&t->resource_slots, r);
        t->counts.resources++;
        return r;
}

void store_free_resource(struct table *t, struct resource *r)
{
        if (r->holder_count > 0 || r->waiter_count > 0 || r->op != NULL)
                return;
        HASH_DELETE(hh, t->resources, r);
        slots_remove(&t->resource_slots, r->slot);
        t->counts.resources--;
        free(r);
}

struct bearer *store_bearer(struct table *t, uint64_t id, bool shared)
{
        struct bearer *b;

        HASH_FIND(hh, t->bearers, &id, sizeof id, b);
        if (b == NULL) {
                b = zeroed(sizeof *b);
                if (b == NULL)
                        return NULL;
                b->id = id;
                b->shared = shared;
                HASH_ADD(hh, t->bearers, id, sizeof b->id, b);
                if (b->hh.tbl == NULL) {
                        free(b);
                        return NULL;
                }
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
        HASH_DELETE(hh, t->bearers, b);
        free(b);
}

struct session_records *store_find_session(const struct table *t, uint64_t id)
{
        struct session_records *s;

        HASH_FIND(hh, t->sessions, &id, sizeof id, s);
        return s;
}

struct session_records *store_session(struct table *t, uint64_t id)
{
        struct session_records *s = store_find_session(t, id);

        if (s != NULL)
                return s;
        s = zeroed(sizeof *s);
        if (s == NULL)
                return NULL;
        s->id = id;
        HASH_ADD(hh, t->sessions, id, sizeof s->id, s);
        if (s->hh.tbl == NULL) {
                free(s);
                return NULL;
        }
        return s;
}

void store_leave_session(struct table *t, uint64_t id)
{
        struct session_records *s = store_find_session(t, id);

        if (--s->count > 0)
                return;
        HASH_DELETE(hh, t->sessions, s);
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
                        q->resource->leading = led ? q->resource->leading - 1 : q->resource->leading + 1;
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
                q->resource->leading -= store_leads(q->records);
        q->queued = false;      /* the others of its session are told of its coming and going */
        count_places(q->records, queued ? 1 : -1);
        q->queued = queued;
        if (queued)
                q->resource->leading += store_leads(q->records);
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

/*
 * A grant must not fail, so its entry in the two indices of holders must not allocate. uthash allocates when the first entry comes and when it grows: an
 * anchor that is nobody's holder keeps both from becoming empty, and they grow when a request comes, which may fail (then they only get slower).
 */
#define INDEX_CHAIN_MAX 4

static void pin(UT_hash_table *index)
{
        index->noexpand = 1;
}

bool store_init_holders(struct table *t)
{
        struct holder *h = &t->anchor;

        memset(&h->owner, 0xff, sizeof h->owner);
        h->id = UINT64_MAX;
        HASH_ADD(by_id, t->locks, id, sizeof h->id, h);
        if (h->by_id.tbl == NULL)
                return false;
        HASH_ADD(hh, t->owners, owner, sizeof h->owner, h);
        if (h->hh.tbl == NULL)
                return false;
        pin(h->by_id.tbl);
        pin(h->hh.tbl);
        return true;
}

static void grow(UT_hash_table *index)
{
        bool failed = false;

        if (index->num_items / index->num_buckets < INDEX_CHAIN_MAX)
                return;
        HASH_EXPAND_BUCKETS(, index, failed);
        (void)failed;
        pin(index);
}

struct holder *store_holder(const struct table *t, const struct owner *o)
{
        struct holder *h;

        HASH_FIND(hh, t->owners, o, sizeof *o, h);
        return h;
}

struct holder *store_lock(const struct table *t, table_id id)
{
        struct holder *h;

        HASH_FIND(by_id, t->locks, &id, sizeof id, h);
        return h;
}

struct request *store_waiting(const struct table *t, const struct owner *o)
{
        struct request *q;

        HASH_FIND(hh, t->waiting, o, sizeof *o, q);
        return q;
}

struct request *store_request(struct table *t, struct resource *r, struct bearer *b, const struct table_event *ev)
{
        struct session_records *s = store_session(t, ev->session);
        struct request *q;

        if (s == NULL)
                return NULL;
        s->count++;
        q = zeroed(sizeof *q);
        if (q == NULL)
                goto fail;
        q->reserve = zeroed(sizeof *q->reserve);
        if (q->reserve == NULL || !slots_reserve(&t->request_slots) || !heap_reserve(t))
                goto fail;
        q->resource = r;
        q->bearer = b;
        q->session = ev->session;
        q->records = s;
        q->cookie = ev->cookie;
        q->group = ev->group;
        q->handle = ev->handle;
        q->mode = ev->mode;
        q->nonblock = ev->nonblock || ev->deadline_ms <= ev->now_ms;
        q->detach = ev->detach;
        q->since_ms = ev->since_ms;
        q->deadline_ms = q->nonblock ? TABLE_NEVER : ev->deadline_ms;  /* it is answered before anything could be late */
        q->retry_ms = TABLE_NEVER;
        q->owner = (struct owner){.shared = ev->shared, .place = ev->shared ? r->slot : b->id};
        if (ev->shared) {
                q->owner.session = ev->session;
                q->owner.handle = ev->handle;
        }
        HASH_ADD(hh, t->waiting, owner, sizeof q->owner, q);
        if (q->hh.tbl == NULL)
                goto fail;
        grow(t->anchor.by_id.tbl);
        grow(t->anchor.hh.tbl);
        q->id = slots_put(&t->request_slots, q);
        LIST_INSERT_HEAD(&s->requests, q, of_session);
        return q;
fail:
        if (q != NULL)
                free(q->reserve);
        free(q);
        store_leave_session(t, ev->session);
        return NULL;
}

void store_free_request(struct table *t, struct request *q)
{
        if (q->state == REQUEST_WAITING)
                HASH_DELETE(hh, t->waiting, q);
        heap_remove(t, q);
        slots_remove(&t->request_slots, q->id);
        LIST_REMOVE(q, of_session);
        store_leave_session(t, q->session);
        free(q->reserve);
        free(q);
}

struct holder *store_hold(struct table *t, struct request *q, enum table_mode mode, uint64_t token)
{
        struct session_records *s = store_find_session(t, q->session);
        struct resource *r = q->resource;
        struct holder *h = q->reserve;

        q->reserve = NULL;
        h->resource = r;
        h->bearer = q->bearer;
        h->session = q->session;
        h->records = s;
        h->handle = q->handle;
        h->mode = mode;
        h->token = token;
        h->since_ms = t->now_ms;
        h->owner = q->owner;
        h->owner.session = q->session;
        h->id = next_token(t);
        HASH_ADD(by_id, t->locks, id, sizeof h->id, h);
        HASH_ADD(hh, t->owners, owner, sizeof h->owner, h);
        TAILQ_INSERT_TAIL(&r->holders, h, entry);       /* its id is the greatest */
        LIST_INSERT_HEAD(&s->holders, h, of_session);
        s->count++;
        count_places(s, 1);
        r->bearer_count += h->bearer->holders++ == 0;
        h->bearer->left = TABLE_NONE;
        h->bearer->token = token;
        r->holder_count++;
        r->exclusive_count += mode == TABLE_EX;
        r->moved = true;
        t->counts.locks++;
        return h;
}

void store_free_holder(struct table *t, struct holder *h)
{
        struct resource *r = h->resource;

        HASH_DELETE(hh, t->owners, h);
        TAILQ_REMOVE(&r->holders, h, entry);
        LIST_REMOVE(h, of_session);
        count_places(h->records, -1);
        HASH_DELETE(by_id, t->locks, h);
        r->bearer_count -= --h->bearer->holders == 0;
        if (h->bearer->trial == h)
                h->bearer->trial = NULL;
        r->holder_count--;
        r->exclusive_count -= h->mode == TABLE_EX;
        r->moved = true;
        t->counts.locks--;
        store_leave_session(t, h->session);
        free(h);
}

/* ---- deadlines: a binary heap, each request knows its place ---- */

int64_t request_due(const struct request *q)
{
        return q->retry_ms < q->deadline_ms ? q->retry_ms : q->deadline_ms;
}

bool heap_reserve(struct table *t)
{
        struct request **grown;
        size_t cap;

        /* Every waiting request may enter: keep a place for each. */
        if (t->counts.waiting + t->heap_count + 2 < t->heap_cap)
                return true;
        cap = t->heap_cap == 0 ? 64 : t->heap_cap * 2;
        grown = realloc(t->heap, cap * sizeof(*grown));
        if (grown == NULL)
                return false;
        t->heap = grown;
        t->heap_cap = cap;
        return true;
}

static void place(struct table *t, size_t i, struct request *q)
{
        t->heap[i] = q;
        q->heap_index = i;
}

static void sift(struct table *t, size_t i, struct request *q)
{
        while (i > 1 && request_due(q) < request_due(t->heap[i / 2])) {
                place(t, i, t->heap[i / 2]);
                i /= 2;
        }
        for (;;) {
                size_t child = 2 * i;

                if (child > t->heap_count)
                        break;
                if (child < t->heap_count && request_due(t->heap[child + 1]) < request_due(t->heap[child]))
                        child++;
                if (request_due(t->heap[child]) >= request_due(q))
                        break;
                place(t, i, t->heap[child]);
                i = child;
        }
        place(t, i, q);
}

void heap_remove(struct table *t, struct request *q)
{
        size_t i = q->heap_index;
        struct request *last;

        if (i == 0)
                return;
        last = t->heap[t->heap_count--];
        if (last != q)
                sift(t, i, last);
        q->heap_index = 0;
}

void heap_update(struct table *t, struct request *q)
{
        heap_remove(t, q);
        if (request_due(q) != TABLE_NEVER)
                sift(t, ++t->heap_count, q);
}
