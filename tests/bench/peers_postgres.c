/* PostgreSQL's advisory locks, by prepared statements. The address is a connection string. */
#include "peers.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>

struct peer {
        PGconn *c;
        int client;
};

static void run(struct peer *p, const char *statement, int which)
{
        char key[32];
        const char *const values[] = {key};
        PGresult *r;

        snprintf(key, sizeof key, "%d", which < 0 ? 1 : 1000 + p->client * 64 + which);
        r = PQexecPrepared(p->c, statement, 1, values, NULL, NULL, 0);
        if (PQresultStatus(r) != PGRES_TUPLES_OK)
                bench_fail(statement, PQerrorMessage(p->c));
        PQclear(r);
}

static struct peer *open_postgres(const char *address, const char *folder, int client, int depth)
{
        struct peer *p = calloc(1, sizeof *p);

        (void)folder;
        (void)depth;
        p->c = PQconnectdb(address);
        if (PQstatus(p->c) != CONNECTION_OK)
                bench_fail(address, PQerrorMessage(p->c));
        p->client = client;
        PQclear(PQprepare(p->c, "lock", "SELECT pg_advisory_lock($1::bigint)", 1, NULL));
        PQclear(PQprepare(p->c, "unlock", "SELECT pg_advisory_unlock($1::bigint)", 1, NULL));
        return p;
}

static void lock(struct peer *p, int which)
{
        run(p, "lock", which);
}

static void unlock(struct peer *p, int which)
{
        run(p, "unlock", which);
}

const struct peer_kind peer_postgres = {"postgres", open_postgres, lock, unlock, NULL};
