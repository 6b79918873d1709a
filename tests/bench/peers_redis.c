/* Redis: SET NX with compare-and-delete, retried after a millisecond; and a list whose single element is the lock (BLPOP, LPUSH). */
#include "peers.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RELEASE "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end"

struct peer {
        redisContext *c;
        int client;
        char me[32], script[64];
};

static redisReply *checked(struct peer *p, redisReply *r, const char *what)
{
        if (r == NULL)
                bench_fail(what, p->c->errstr);
        if (r->type == REDIS_REPLY_ERROR)
                bench_fail(what, r->str);
        return r;
}

static struct peer *open_redis(const char *address, const char *folder, int client, int depth)
{
        struct peer *p = calloc(1, sizeof *p);
        redisReply *r;

        (void)folder;
        (void)depth;
        p->c = redisConnectUnix(address);
        if (p->c == NULL || p->c->err != 0)
                bench_fail(address, p->c != NULL ? p->c->errstr : "out of memory");
        p->client = client;
        snprintf(p->me, sizeof p->me, "owner-%d", (int)getpid());
        r = checked(p, redisCommand(p->c, "SCRIPT LOAD %s", RELEASE), "SCRIPT LOAD");
        snprintf(p->script, sizeof p->script, "%s", r->str);
        freeReplyObject(r);
        return p;
}

static void key_of(const struct peer *p, int which, char out[64])
{
        if (which < 0)
                snprintf(out, 64, "shared.lock");
        else
                snprintf(out, 64, "a-name-of-the-usual-length-%05d-%02d.lock", p->client, which);
}

static void lock(struct peer *p, int which)
{
        char key[64];
        redisReply *r;
        bool taken;

        key_of(p, which, key);
        for (;;) {
                r = checked(p, redisCommand(p->c, "SET %s %s NX PX 30000", key, p->me), "SET NX");
                taken = r->type == REDIS_REPLY_STATUS;
                freeReplyObject(r);
                if (taken)
                        return;
                usleep(1000);
        }
}

static void unlock(struct peer *p, int which)
{
        char key[64];
        redisReply *r;

        key_of(p, which, key);
        r = checked(p, redisCommand(p->c, "EVALSHA %s 1 %s %s", p->script, key, p->me), "EVALSHA");
        if (r->integer != 1)
                bench_fail("compare-and-delete", "it was not ours");
        freeReplyObject(r);
}

static void pairs(struct peer *p, int count)
{
        redisReply *r;
        char key[64];
        int i;

        for (i = 0; i < count; i++) {
                key_of(p, i, key);
                redisAppendCommand(p->c, "SET %s %s NX PX 30000", key, p->me);
                redisAppendCommand(p->c, "EVALSHA %s 1 %s %s", p->script, key, p->me);
        }
        for (i = 0; i < 2 * count; i++) {
                if (redisGetReply(p->c, (void **)&r) != REDIS_OK)
                        bench_fail("a pipelined command", p->c->errstr);
                freeReplyObject(r);
        }
}

static void list_lock(struct peer *p, int which)
{
        char key[64];

        key_of(p, which, key);
        freeReplyObject(checked(p, redisCommand(p->c, "BLPOP list:%s 0", key), "BLPOP"));
}

static void list_unlock(struct peer *p, int which)
{
        char key[64];

        key_of(p, which, key);
        freeReplyObject(checked(p, redisCommand(p->c, "LPUSH list:%s 1", key), "LPUSH"));
}

const struct peer_kind peer_redis = {"redis", open_redis, lock, unlock, pairs};
const struct peer_kind peer_redis_list = {"redis-list", open_redis, list_lock, list_unlock, NULL};
