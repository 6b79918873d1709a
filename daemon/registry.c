#include "registry.h"

#include <stdlib.h>
#include <string.h>

struct client *registry_client(const struct registry *r, uint64_t id)
{
        struct client *c;

        HASH_FIND(hh, r->clients, &id, sizeof id, c);
        return c;
}

struct client *registry_client_add(struct registry *r, uint64_t id, struct session *session, const struct peer *peer)
{
        struct client *c = calloc(1, sizeof *c);

        if (c == NULL)
                return NULL;
        c->id = id;
        c->session = session;
        c->peer = *peer;
        TAILQ_INIT(&c->deferred);
        HASH_ADD(hh, r->clients, id, sizeof c->id, c);
        if (c->hh.tbl == NULL) {
                free(c);
                return NULL;
        }
        return c;
}

void registry_client_remove(struct registry *r, struct client *c)
{
        HASH_DELETE(hh, r->clients, c);
        free(c);
}

struct request *registry_request_add(struct registry *r, struct client *c, const struct pl_id *id, const char *label)
{
        size_t len = strlen(label);
        struct request *q = calloc(1, sizeof *q + len + 1);

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
        struct grant *g = calloc(1, sizeof *g + LABEL_PREFIX + strlen(q->label) + 1);
        struct client *c = q->client;

        if (g == NULL)
                return NULL;
        g->lock = lock;
        g->client = c;
        g->key = q->key;
        g->bearer = q->bearer;
        g->handle = q->handle;
        g->by_path = q->by_path;
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
        free(g);
}
