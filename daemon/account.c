#include "account.h"

#include <assert.h>
#include <stdlib.h>

static size_t least(size_t a, size_t b)
{
        return a < b ? a : b;
}

void accounts_init(struct accounts *a, size_t descriptors)
{
        *a = (struct accounts){.limit = {[ACCOUNT_SESSIONS] = least(ACCOUNT_SESSIONS_MAX, descriptors / 4),
                                         [ACCOUNT_WAITING] = ACCOUNT_WAITING_MAX,
                                         [ACCOUNT_LOCKS] = ACCOUNT_LOCKS_MAX,
                                         [ACCOUNT_WATCHES] = ACCOUNT_WATCHES_MAX,
                                         [ACCOUNT_DESCRIPTORS] = descriptors / 4}};
}

void accounts_watch(struct accounts *a, void (*freed)(void *arg), void *arg)
{
        a->freed = freed;
        a->arg = arg;
}

static struct account *find(const struct accounts *a, int64_t uid)
{
        struct account *u;

        HASH_FIND(hh, a->by_uid, &uid, sizeof uid, u);
        return u;
}

struct account *account_open(struct accounts *a, int64_t uid)
{
        struct account *u = find(a, uid);

        if (u == NULL) {
                u = calloc(1, sizeof *u);
                if (u == NULL)
                        return NULL;
                u->accounts = a;
                u->uid = uid;
                HASH_ADD(hh, a->by_uid, uid, sizeof u->uid, u);
                if (u->hh.tbl == NULL) {
                        free(u);
                        return NULL;
                }
        }
        account_add(u, ACCOUNT_SESSIONS);
        return u;
}

bool accounts_full(const struct accounts *a, int64_t uid, enum account_item item)
{
        return account_full(find(a, uid), item);
}

bool account_full(const struct account *u, enum account_item item)
{
        return u != NULL && u->used[item] >= u->accounts->limit[item];
}

void account_add(struct account *u, enum account_item item)
{
        if (u == NULL)
                return;
        u->used[item]++;
        u->total++;
}

void account_remove(struct account *u, enum account_item item)
{
        struct accounts *a;
        bool was_full;

        if (u == NULL)
                return;
        assert(u->used[item] > 0);
        a = u->accounts;
        was_full = account_full(u, item);
        u->used[item]--;
        if (--u->total == 0) {
                HASH_DELETE(hh, a->by_uid, u);
                free(u);
        }
        if (was_full && item == ACCOUNT_DESCRIPTORS && a->freed != NULL)
                a->freed(a->arg);
}

void account_backlog(struct account *u, size_t before, size_t now)
{
        if (u != NULL)
                u->backlog += now - before;
}

bool account_clogged(const struct account *u)
{
        return u != NULL && u->backlog > ACCOUNT_BACKLOG_BYTES_MAX;
}

uint64_t account_user(const struct account *u)
{
        return u != NULL ? (uint64_t)u->uid + 1 : 0;
}
