#include "registry.h"

#include <stdlib.h>
#include <string.h>

/* ---- what the indices go by ---- */

#define CLIENT(l) chains_owner(l, struct client, by_session)
#define BY_ID(l) chains_owner(l, struct request, by_id)
#define GRANT(l) chains_owner(l, struct grant, by_lock)
#define BY_LABEL(l) chains_owner(l, struct grant, by_label)

static uint64_t id_hash(const struct client *c, const struct pl_id *id)
{
        return chains_mix(chains_mix(c->id) ^ (id->kind == PL_ID_INTEGER ? (uint64_t)id->number : hash_bytes(id->text, strlen(id->text))));
}

/* Of one of `texts`. */
static uint64_t label_hash(const struct client *c, int64_t handle, const char *label)
{
        return chains_mix(chains_mix(c->id ^ ((uint64_t)handle << 32)) ^ (uintptr_t)label);
}

static uint64_t hash_of_client(const struct link *l)
{
        return chains_mix(CLIENT(l)->id);
}

static uint64_t hash_of_id(const struct link *l)
{
        return id_hash(BY_ID(l)->client, &BY_ID(l)->id);
}

static uint64_t hash_of_grant(const struct link *l)
{
        return chains_mix(GRANT(l)->lock);
}

static uint64_t hash_of_label(const struct link *l)
{
        const struct grant *g = BY_LABEL(l);

        return label_hash(g->client, g->handle, g->label);
}

bool registry_init(struct registry *r, bool everybody)
{
        size_t part = everybody ? sizeof(struct part) : 0;

        r->everybody = everybody;
        pool_init(&r->requests, sizeof(struct request) + part, true);
        pool_init(&r->grant_pool, sizeof(struct grant) + part, false);
        return chains_init(&r->clients, hash_of_client) && chains_init(&r->ids, hash_of_id) && chains_init(&r->grants, hash_of_grant) &&
               chains_init(&r->labels, hash_of_label) && labels_init(&r->texts);
}

void registry_clear(struct registry *r)
{
        chains_clear(&r->clients);
        pool_clear(&r->requests);
        pool_clear(&r->grant_pool);
        chains_clear(&r->ids);
        chains_clear(&r->grants);
        chains_clear(&r->labels);
        labels_clear(&r->texts);
}

/* ---- clients ---- */

struct client *registry_client(const struct registry *r, uint64_t id)
{
        struct link *l;

        for (l = chains_first(&r->clients, chains_mix(id)); l != NULL; l = chains_next(l))
                if (CLIENT(l)->id == id)
                        return CLIENT(l);
        return NULL;
}

size_t registry_clients(const struct registry *r)
{
        return r->clients.members;
}

struct client *registry_client_add(struct registry *r, uint64_t id, struct session *session, const struct peer *peer, struct account *account)
{
        struct client *c = zeroed(sizeof *c);

        if (c == NULL || !chains_reserve(&r->clients, 1)) {
                free(c);
                return NULL;
        }
        c->id = id;
        c->session = session;
        c->peer = *peer;
        c->account = account;
        TAILQ_INIT(&c->deferred);
        LIST_INIT(&c->children);
        chains_add(&r->clients, &c->by_session);
        return c;
}

void registry_client_rename(struct registry *r, struct client *c, uint64_t id)
{
        chains_remove(&r->clients, &c->by_session);
        c->id = id;
        chains_add(&r->clients, &c->by_session);
}

void registry_client_remove(struct registry *r, struct client *c)
{
        chains_remove(&r->clients, &c->by_session);
        registry_forget_given_back(c);
        account_remove(c->account, ACCOUNT_SESSIONS);
        free(c->name);
        free(c);
}

/* ---- stakes ---- */

static struct stake_key stake_key(const struct client *c, struct table_key file)
{
        return (struct stake_key){.who = peer_is_known(&c->peer) ? (uint64_t)c->peer.uid : c->id, .file = file};
}

static struct stake *find_stake(const struct registry *r, const struct client *c, struct table_key file)
{
        struct stake_key key = stake_key(c, file);
        struct stake *s;

        HASH_FIND(hh, r->stakes, &key, sizeof key, s);
        return s;
}

const struct stake *registry_stake(const struct registry *r, const struct client *c, struct table_key file)
{
        return find_stake(r, c, file);
}

/* Perhaps empty: whoever gets it puts something in. NULL when out of memory. */
static struct stake *get_stake(struct registry *r, const struct client *c, struct table_key file)
{
        struct stake *s = find_stake(r, c, file);

        if (s != NULL || (s = zeroed(sizeof *s)) == NULL)
                return s;
        s->key = stake_key(c, file);
        LIST_INIT(&s->grants);
        LIST_INIT(&s->requests);
        HASH_ADD(hh, r->stakes, key, sizeof s->key, s);
        if (s->hh.tbl == NULL) {
                free(s);
                return NULL;
        }
        return s;
}

static void drop_stake_if_empty(struct registry *r, struct stake *s)
{
        if (!LIST_EMPTY(&s->grants) || !LIST_EMPTY(&s->requests))
                return;
        HASH_DELETE(hh, r->stakes, s);
        free(s);
}

static void leave_stake(struct registry *r, struct part *p)
{
        if (!r->everybody || p->stake == NULL)
                return;
        LIST_REMOVE(p, entry);
        drop_stake_if_empty(r, p->stake);
        p->stake = NULL;
}

bool registry_request_stake(struct registry *r, struct request *q)
{
        struct stake *s;

        if (!r->everybody)
                return true;
        leave_stake(r, q->part);
        s = get_stake(r, q->client, q->key);
        if (s == NULL)
                return false;
        *q->part = (struct part){.stake = s, .of = q};
        LIST_INSERT_HEAD(&s->requests, q->part, entry);
        return true;
}

/* ---- requests ---- */

static void free_request(struct registry *r, struct request *q)
{
        if (q->id.kind == PL_ID_STRING)
                free((char *)q->id.text);
        if (q->label != NULL)
                labels_drop(&r->texts, q->label);
        free(q->listener);
        pool_give(&r->requests, q);
}

struct request *registry_request_add(struct registry *r, struct client *c, const struct pl_id *id, const char *label)
{
        struct request *q = chains_reserve(&r->ids, 1) ? pool_take(&r->requests) : NULL;

        if (q == NULL)
                return NULL;
        q->id = *id;
        if (id->kind == PL_ID_STRING)
                q->id.text = strdup(id->text);
        q->label = labels_get(&r->texts, label);
        if (q->label == NULL || (id->kind == PL_ID_STRING && q->id.text == NULL)) {
                free_request(r, q);
                return NULL;
        }
        q->cookie = pool_id(&r->requests, q);
        q->client = c;
        if (id->kind != PL_ID_NONE)
                chains_add(&r->ids, &q->by_id);
        c->request_count++;
        account_add(c->account, ACCOUNT_WAITING);
        q->next = c->waiting;
        if (q->next != NULL)
                q->next->prev = q;
        c->waiting = q;
        q->older = r->newest;
        if (r->newest != NULL)
                r->newest->newer = q;
        else
                r->oldest = q;
        r->newest = q;
        if (r->unlogged == NULL)
                r->unlogged = q;
        return q;
}

struct request *registry_request(const struct registry *r, uint64_t cookie)
{
        return pool_find(&r->requests, cookie);
}

struct request *registry_request_by_id(const struct registry *r, const struct client *c, const struct pl_id *id)
{
        struct link *l;

        for (l = chains_first(&r->ids, id_hash(c, id)); l != NULL; l = chains_next(l))
                if (BY_ID(l)->client == c && pl_id_equal(&BY_ID(l)->id, id))
                        return BY_ID(l);
        return NULL;
}

void registry_request_remove(struct registry *r, struct request *q)
{
        if (q->id.kind != PL_ID_NONE)
                chains_remove(&r->ids, &q->by_id);
        q->client->request_count--;
        account_remove(q->client->account, ACCOUNT_WAITING);
        leave_stake(r, q->part);
        if (q->prev != NULL)
                q->prev->next = q->next;
        else
                q->client->waiting = q->next;
        if (q->next != NULL)
                q->next->prev = q->prev;
        if (r->unlogged == q)
                r->unlogged = q->newer;
        if (q->older != NULL)
                q->older->newer = q->newer;
        else
                r->oldest = q->newer;
        if (q->newer != NULL)
                q->newer->older = q->older;
        else
                r->newest = q->older;
        free_request(r, q);
}

/* ---- grants ---- */

/* The newest of the session and handle with that label, which is one of `texts`. */
static struct grant *find_by_label(const struct registry *r, const struct client *c, int64_t handle, const char *label)
{
        const struct grant *g;
        struct link *l;

        for (l = chains_first(&r->labels, label_hash(c, handle, label)); l != NULL; l = chains_next(l)) {
                g = BY_LABEL(l);
                if (g->client == c && g->handle == handle && g->label == label)
                        return BY_LABEL(l);
        }
        return NULL;
}

/* Newest first: g takes the place of the one that was meant by its label until now. */
static void label_add(struct registry *r, struct grant *g)
{
        struct grant *newest = find_by_label(r, g->client, g->handle, g->label);

        if (newest != NULL) {
                chains_remove(&r->labels, &newest->by_label);
                g->same_older = newest;
                newest->is_newest = false;
                newest->same_newer = g;
        }
        g->is_newest = true;
        chains_add(&r->labels, &g->by_label);
}

static void label_remove(struct registry *r, struct grant *g)
{
        struct grant *older = g->same_older;

        if (!g->is_newest) {
                g->same_newer->same_older = older;
                if (older != NULL)
                        older->same_newer = g->same_newer;
                return;
        }
        chains_remove(&r->labels, &g->by_label);
        if (older == NULL)
                return;
        older->is_newest = true;
        chains_add(&r->labels, &older->by_label);
}

struct grant *registry_grant_add(struct registry *r, const struct request *q, table_id lock, int64_t waited_ms)
{
        struct grant *g = chains_reserve(&r->grants, 1) && chains_reserve(&r->labels, 1) ? pool_take(&r->grant_pool) : NULL;
        struct client *c = q->client;

        if (g == NULL)
                return NULL;
        g->lock = lock;
        g->client = c;
        g->handle = (uint32_t)q->handle & INT32_MAX;
        g->by_path = q->by_path;
        g->waited_ms = (uint32_t)(waited_ms < INT32_MAX ? waited_ms : INT32_MAX) & INT32_MAX;
        g->label = labels_keep(q->label);
        chains_add(&r->grants, &g->by_lock);
        if (g->label[0] != '\0')
                label_add(r, g);
        if (r->everybody && q->part->stake != NULL) {     /* the request's, so that nothing can fail */
                *g->part = (struct part){.stake = q->part->stake, .of = g};
                LIST_INSERT_HEAD(&g->part->stake->grants, g->part, entry);
        }
        account_add(c->account, ACCOUNT_LOCKS);
        c->grant_count++;
        return g;
}

struct grant *registry_grant(const struct registry *r, table_id lock)
{
        struct link *l;

        for (l = chains_first(&r->grants, chains_mix(lock)); l != NULL; l = chains_next(l))
                if (GRANT(l)->lock == lock)
                        return GRANT(l);
        return NULL;
}

struct grant *registry_grant_by_label(const struct registry *r, const struct client *c, int64_t handle, const char *label)
{
        label = labels_find(&r->texts, label);
        return label != NULL ? find_by_label(r, c, handle, label) : NULL;
}

void registry_grant_remove(struct registry *r, struct grant *g)
{
        if (g->label[0] != '\0')
                label_remove(r, g);
        chains_remove(&r->grants, &g->by_lock);
        g->client->grant_count--;
        account_remove(g->client->account, ACCOUNT_LOCKS);
        leave_stake(r, g->part);
        labels_drop(&r->texts, g->label);
        pool_give(&r->grant_pool, g);
}

void registry_give_back(struct client *c, const struct grant *g, struct table_key key, const struct table_holder *h, int64_t now_ms)
{
        size_t len = strlen(g->label) + 1;

        registry_forget_given_back(c);
        c->given_back = malloc(sizeof *c->given_back + len);
        if (c->given_back == NULL)
                return;
        *c->given_back = (struct given_back){.key = key, .mode = h->mode, .since_ms = h->since_ms - g->waited_ms, .at_ms = now_ms};
        memcpy(c->given_back->label, g->label, len);
}

void registry_forget_given_back(struct client *c)
{
        free(c->given_back);
        c->given_back = NULL;
}
