#include "registry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct client *registry_client(const struct registry *r, uint64_t id)
{
        struct client *c;

        HASH_FIND(hh, r->clients, &id, sizeof id, c);
        return c;
}

struct client *registry_client_add(struct registry *r, uint64_t id, struct session *session, const struct peer *peer, struct account *account)
{
        struct client *c = calloc(1, sizeof *c);

        if (c == NULL)
                return NULL;
        c->id = id;
        c->session = session;
        c->peer = *peer;
        c->account = account;
        TAILQ_INIT(&c->deferred);
        LIST_INIT(&c->children);
        HASH_ADD(hh, r->clients, id, sizeof c->id, c);
        if (c->hh.tbl == NULL) {
                free(c);
                return NULL;
        }
        return c;
}

int registry_client_rename(struct registry *r, struct client *c, uint64_t id)
{
        HASH_DELETE(hh, r->clients, c);
        c->id = id;
        HASH_ADD(hh, r->clients, id, sizeof c->id, c);
        return c->hh.tbl != NULL ? 0 : -ENOMEM;
}

void registry_client_remove(struct registry *r, struct client *c)
{
        if (c->hh.tbl != NULL)
                HASH_DELETE(hh, r->clients, c);
        registry_forget_given_back(c);
        account_remove(c->account, ACCOUNT_SESSIONS);
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

static void leave_stake(struct registry *r, struct request *q)
{
        if (q->stake == NULL)
                return;
        LIST_REMOVE(q, of_stake);
        drop_stake_if_empty(r, q->stake);
        q->stake = NULL;
}

bool registry_request_stake(struct registry *r, struct request *q)
{
        struct stake *s;

        if (!r->everybody)
                return true;
        leave_stake(r, q);
        s = get_stake(r, q->client, q->key);
        if (s == NULL)
                return false;
        LIST_INSERT_HEAD(&s->requests, q, of_stake);
        q->stake = s;
        return true;
}

/* ---- requests ---- */

struct request *registry_request_add(struct registry *r, struct client *c, const struct pl_id *id, const char *label)
{
        size_t len = strlen(label);
        struct request *q = zeroed(sizeof *q + len + 1);

        if (q == NULL)
                return NULL;
        memcpy(q->label, label, len + 1);
        q->cookie = ++r->last_cookie;
        q->client = c;
        q->id = *id;
        HASH_ADD(hh, r->requests, cookie, sizeof q->cookie, q);
        if (q->hh.tbl == NULL) {
                free(q);
                return NULL;
        }
        if (id->kind != PL_ID_NONE) {
                /* pl_id is filled from zero, so that equal ids have equal bytes. */
                HASH_ADD(by_id, c->requests, id, sizeof q->id, q);
                if (q->by_id.tbl == NULL) {
                        HASH_DELETE(hh, r->requests, q);
                        free(q);
                        return NULL;
                }
        }
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
        struct request *q;

        HASH_FIND(hh, r->requests, &cookie, sizeof cookie, q);
        return q;
}

struct request *registry_request_by_id(const struct client *c, const struct pl_id *id)
{
        struct request *q;

        HASH_FIND(by_id, c->requests, id, sizeof *id, q);
        return q;
}

void registry_request_remove(struct registry *r, struct request *q)
{
        HASH_DELETE(hh, r->requests, q);
        if (q->id.kind != PL_ID_NONE)
                HASH_DELETE(by_id, q->client->requests, q);
        q->client->request_count--;
        account_remove(q->client->account, ACCOUNT_WAITING);
        leave_stake(r, q);
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
        free(q);
}

/* ---- grants ---- */

#define LABEL_PREFIX (sizeof(uint64_t) + sizeof(int64_t))

static size_t label_key(char *out, const struct client *c, int64_t handle, const char *label)
{
        size_t len = strlen(label);

        memcpy(out, &c->id, sizeof c->id);
        memcpy(out + sizeof c->id, &handle, sizeof handle);
        memcpy(out + LABEL_PREFIX, label, len + 1);
        return LABEL_PREFIX + len;
}

/* Newest first: g takes the place of the one that had its key. False when out of memory, with nothing changed. */
static bool label_add(struct registry *r, struct grant *g)
{
        struct grant *newest;

        HASH_FIND(by_label, r->labels, g->label_key, g->label_key_len, newest);
        HASH_ADD_KEYPTR(by_label, r->labels, g->label_key, g->label_key_len, g);
        if (g->by_label.tbl == NULL)
                return false;
        if (newest == NULL)
                return true;
        HASH_DELETE(by_label, r->labels, newest);
        g->same_older = newest;
        newest->same_newer = g;
        return true;
}

static void label_remove(struct registry *r, struct grant *g)
{
        if (g->same_older != NULL)
                g->same_older->same_newer = g->same_newer;
        if (g->same_newer != NULL) {
                g->same_newer->same_older = g->same_older;
                return;
        }
        if (g->same_older != NULL) {
                /* While g is still there, and without growing: so it cannot fail. */
                unsigned noexpand = r->labels->by_label.tbl->noexpand;

                r->labels->by_label.tbl->noexpand = 1;
                HASH_ADD_KEYPTR(by_label, r->labels, g->same_older->label_key, g->same_older->label_key_len, g->same_older);
                r->labels->by_label.tbl->noexpand = noexpand;
        }
        HASH_DELETE(by_label, r->labels, g);
}

struct grant *registry_grant_add(struct registry *r, const struct request *q, table_id lock)
{
        struct grant *g = zeroed(sizeof *g + LABEL_PREFIX + strlen(q->label) + 1);
        struct client *c = q->client;

        if (g == NULL)
                return NULL;
        g->lock = lock;
        g->client = c;
        g->key = q->key;
        g->bearer = q->bearer;
        g->handle = q->handle;
        g->by_path = q->by_path;
        g->since_ms = q->since_ms;
        g->label = g->label_key + LABEL_PREFIX;
        g->label_key_len = label_key(g->label_key, c, q->handle, q->label);
        HASH_ADD(hh, r->grants, lock, sizeof g->lock, g);
        if (g->hh.tbl == NULL) {
                free(g);
                return NULL;
        }
        if (q->label[0] != '\0' && !label_add(r, g)) {
                HASH_DELETE(hh, r->grants, g);
                free(g);
                return NULL;
        }
        if (q->stake != NULL) {         /* the request's, so that nothing can fail */
                LIST_INSERT_HEAD(&q->stake->grants, g, of_stake);
                g->stake = q->stake;
        }
        account_add(c->account, ACCOUNT_LOCKS);
        g->next = c->grants;
        if (g->next != NULL)
                g->next->prev = g;
        c->grants = g;
        c->grant_count++;
        return g;
}

struct grant *registry_grant(const struct registry *r, table_id lock)
{
        struct grant *g;

        HASH_FIND(hh, r->grants, &lock, sizeof lock, g);
        return g;
}

struct grant *registry_grant_by_label(const struct registry *r, const struct client *c, int64_t handle, const char *label)
{
        char key[LABEL_PREFIX + PL_PATH_BYTES_MAX + 1];
        size_t len = label_key(key, c, handle, label);
        struct grant *g;

        HASH_FIND(by_label, r->labels, key, len, g);
        return g;
}

void registry_grant_remove(struct registry *r, struct grant *g)
{
        if (g->label[0] != '\0')
                label_remove(r, g);
        HASH_DELETE(hh, r->grants, g);
        if (g->prev != NULL)
                g->prev->next = g->next;
        else
                g->client->grants = g->next;
        if (g->next != NULL)
                g->next->prev = g->prev;
        g->client->grant_count--;
        account_remove(g->client->account, ACCOUNT_LOCKS);
        if (g->stake != NULL) {
                LIST_REMOVE(g, of_stake);
                drop_stake_if_empty(r, g->stake);
        }
        free(g);
}

void registry_give_back(struct client *c, const struct grant *g, int64_t now_ms)
{
        registry_forget_given_back(c);
        c->given_back = (struct given_back){.label = strdup(g->label), .key = g->key, .mode = g->mode, .since_ms = g->since_ms, .at_ms = now_ms};
}

void registry_forget_given_back(struct client *c)
{
        free(c->given_back.label);
        c->given_back.label = NULL;
}
