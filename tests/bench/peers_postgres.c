/* PostgreSQL's advisory locks, by prepared statements, and by libpq's pipeline mode. The address is a connection string. */
#include "peers.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>

struct peer {
        PGconn *c;
        bool pipelining, sharing;
        char shared[32], own[PEER_DEPTH_MAX][32];       /* the keys as text */
};

static void checked(struct peer *p, PGresult *r, ExecStatusType wanted, const char *what)
{
        if (PQresultStatus(r) != wanted)
                bench_fail(what, PQerrorMessage(p->c));
        PQclear(r);
}

static struct peer *open_postgres(const char *address, const char *folder, int client, int depth)
{
        struct peer *p = calloc(1, sizeof *p);
        int i;

        (void)folder;
        if (p == NULL)
                bench_fail("calloc", "out of memory");
        p->c = PQconnectdb(address);
        if (PQstatus(p->c) != CONNECTION_OK)
                bench_fail(address, PQerrorMessage(p->c));
        snprintf(p->shared, sizeof p->shared, "1");
        for (i = 0; i < depth; i++)
                snprintf(p->own[i], sizeof p->own[i], "%d", 1000 + client * PEER_DEPTH_MAX + i);
        checked(p, PQprepare(p->c, "lock", "SELECT pg_advisory_lock($1::bigint)", 1, NULL), PGRES_COMMAND_OK, "lock");
        checked(p, PQprepare(p->c, "share", "SELECT pg_advisory_lock_shared($1::bigint)", 1, NULL), PGRES_COMMAND_OK, "share");
        checked(p, PQprepare(p->c, "unlock", "SELECT pg_advisory_unlock($1::bigint)", 1, NULL), PGRES_COMMAND_OK, "unlock");
        checked(p, PQprepare(p->c, "unshare", "SELECT pg_advisory_unlock_shared($1::bigint)", 1, NULL), PGRES_COMMAND_OK, "unshare");
        return p;
}

static const char *key_of(const struct peer *p, int which)
{
        return which < 0 ? p->shared : p->own[which];
}

static void run(struct peer *p, const char *statement, int which)
{
        const char *const values[] = {key_of(p, which)};

        checked(p, PQexecPrepared(p->c, statement, 1, values, NULL, NULL, 0), PGRES_TUPLES_OK, statement);
}

static void lock(struct peer *p, int which)
{
        run(p, "lock", which);
}

static void lock_shared(struct peer *p, int which)
{
        run(p, "share", which);
        p->sharing = true;
}

static void unlock(struct peer *p, int which)
{
        run(p, p->sharing ? "unshare" : "unlock", which);
        p->sharing = false;
}

static void pairs(struct peer *p, int count)
{
        int i;

        if (!p->pipelining && PQenterPipelineMode(p->c) != 1)
                bench_fail("PQenterPipelineMode", PQerrorMessage(p->c));
        p->pipelining = true;
        for (i = 0; i < count; i++) {
                const char *const values[] = {key_of(p, i)};

                PQsendQueryPrepared(p->c, "lock", 1, values, NULL, NULL, 0);
                PQsendQueryPrepared(p->c, "unlock", 1, values, NULL, NULL, 0);
        }
        PQpipelineSync(p->c);
        for (i = 0; i < 2 * count; i++) {
                checked(p, PQgetResult(p->c), PGRES_TUPLES_OK, "a pipelined statement");
                if (PQgetResult(p->c) != NULL)
                        bench_fail("a pipelined statement", "has two results");
        }
        checked(p, PQgetResult(p->c), PGRES_PIPELINE_SYNC, "the end of the pipeline");
}

const struct peer_kind peer_postgres = {"postgres", open_postgres, lock, lock_shared, unlock, pairs};
