/* Redis: SET NX with compare-and-delete, retried after a millisecond; and a list whose single element is the lock (BLPOP, LPUSH). */
#include "peers.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define RELEASE "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end"

struct command {
        char *text;     /* formatted once */
        size_t len;
};

struct name {
        struct command lock, unlock;
};

struct peer {
        redisContext *c;
        char script[64];
        struct name own[PEER_DEPTH_MAX], shared;
};

static redisReply *checked(struct peer *p, redisReply *r, const char *what)
{
        if (r == NULL)
                bench_fail(what, p->c->errstr);
        if (r->type == REDIS_REPLY_ERROR)
                bench_fail(what, r->str);
        return r;
}

static struct command formatted(const char *format, const char *a, const char *b, const char *c)
{
        struct command out = {NULL, 0};
        int len = redisFormatCommand(&out.text, format, a, b, c);

        if (len < 0)
                bench_fail(format, "cannot be formatted");
        out.len = (size_t)len;
        return out;
}

static void prepare(const struct peer *p, struct name *n, const char *key, bool list)
{
        char me[32];

        snprintf(me, sizeof me, "owner-%d", (int)getpid());
        n->lock = list ? formatted("BLPOP list:%s 0", key, NULL, NULL) : formatted("SET %s %s NX PX 30000", key, me, NULL);
        n->unlock = list ? formatted("LPUSH list:%s 1", key, NULL, NULL) : formatted("EVALSHA %s 1 %s %s", p->script, key, me);
}

static struct peer *open_redis(const char *address, int client, int depth, bool list)
{
        struct peer *p = calloc(1, sizeof *p);
        redisReply *r;
        char key[64];
        int i;

        if (p == NULL)
                bench_fail("calloc", "out of memory");
        p->c = redisConnectUnix(address);
        if (p->c == NULL || p->c->err != 0)
                bench_fail(address, p->c != NULL ? p->c->errstr : "out of memory");
        r = checked(p, redisCommand(p->c, "SCRIPT LOAD %s", RELEASE), "SCRIPT LOAD");
        snprintf(p->script, sizeof p->script, "%s", r->str);
        freeReplyObject(r);
        prepare(p, &p->shared, "shared.lock", list);
        for (i = 0; i < depth; i++) {
                snprintf(key, sizeof key, "a-name-of-the-usual-length-%05d-%02d.lock", client, i);
                prepare(p, &p->own[i], key, list);
        }
        return p;
}

static struct peer *open_set(const char *address, const char *folder, int client, int depth)
{
        (void)folder;
        return open_redis(address, client, depth, false);
}

static const struct name *name_of(const struct peer *p, int which)
{
        return which < 0 ? &p->shared : &p->own[which];
}

static redisReply *ask(struct peer *p, const struct command *c)
{
        redisReply *r = NULL;

        redisAppendFormattedCommand(p->c, c->text, c->len);
        if (redisGetReply(p->c, (void **)&r) != REDIS_OK)
                bench_fail("a command", p->c->errstr);
        return checked(p, r, "a command");
}

static void lock(struct peer *p, int which)
{
        const struct name *n = name_of(p, which);

        for (;;) {
                redisReply *r = ask(p, &n->lock);
                bool taken = r->type == REDIS_REPLY_STATUS;

                freeReplyObject(r);
                if (taken)
                        return;
                usleep(1000);
        }
}

static void unlock(struct peer *p, int which)
{
        redisReply *r = ask(p, &name_of(p, which)->unlock);

        if (r->integer != 1)
                bench_fail("compare-and-delete", "it was not ours");
        freeReplyObject(r);
}

static void pairs(struct peer *p, int count)
{
        redisReply *r;
        int i;

        for (i = 0; i < count; i++) {
                redisAppendFormattedCommand(p->c, p->own[i].lock.text, p->own[i].lock.len);
                redisAppendFormattedCommand(p->c, p->own[i].unlock.text, p->own[i].unlock.len);
        }
        for (i = 0; i < 2 * count; i++) {
                if (redisGetReply(p->c, (void **)&r) != REDIS_OK)
                        bench_fail("a pipelined command", p->c->errstr);
                freeReplyObject(checked(p, r, "a pipelined command"));
        }
}

static void list_lock(struct peer *p, int which)
{
        freeReplyObject(ask(p, &name_of(p, which)->lock));
}

static void list_unlock(struct peer *p, int which)
{
        freeReplyObject(ask(p, &name_of(p, which)->unlock));
}

/* The element of the shared list is put there by servers.py. */
static struct peer *open_list(const char *address, const char *folder, int client, int depth)
{
        struct peer *p = open_redis(address, client, depth, true);
        int i;

        (void)folder;
        for (i = 0; i < depth; i++)
                list_unlock(p, i);
        return p;
}

const struct peer_kind peer_redis = {"redis", open_set, lock, NULL, unlock, pairs};
const struct peer_kind peer_redis_list = {"redis-list", open_list, list_lock, NULL, list_unlock, NULL};
