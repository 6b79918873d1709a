/*
 * The end of a session. It may hold tens of thousands of locks, and giving one back closes a file: that is done in shares (turns.h), as the lines of a session
 * are. What it waits for ends at once, and so does its being somebody's parent or child: nothing is granted to one who has gone, nor refused because of him.
 *
 * Until they are given back its locks are held, by the kernel's word as well. But whoever asks for one of them finds it given back: nobody is refused, or
 * must wait, for a session that is over.
 */
#include "dispatch_internal.h"

#include "log.h"

#include <inttypes.h>

#define LOCKS_PER_PIECE 8       /* of a share: few sessions have more locks than go in one turn */

/* Of passed descriptors the duplicate is only closed: a child that inherited the description keeps the lock, as with flock(1). */
static void give_back(struct dispatch *d, struct client *c, table_id lock)
{
        struct grant *g = registry_grant(&d->registry, lock);
        struct table_holder h;
        struct table_key key;
        struct seen seen;

        /* No grant: its file was being compared with its path, and it was never told. */
        if (g != NULL && table_lock(engine_table(d->engine), lock, &h, &key)) {
                seen = locking_seen(&h, key);
                locking_ended(d, g, &seen, "released");
        }
        locking_give_up(d, c, lock, true);
}

/* False: it has none. */
static bool give_back_newest(struct dispatch *d, struct client *c)
{
        table_id lock = table_newest_lock(engine_table(d->engine), c->id);

        if (lock != 0)
                give_back(d, c, lock);
        return lock != 0;
}

/* All but its locks. */
static void take_leave(struct dispatch *d, struct client *c)
{
        struct table_event ev = {.kind = EV_SESSION_END, .session = c->id, .locks_stay = true};
        int fd;

        log_event(LOG_DEBUG, "session_closed", "session=%" PRIu64 " locks=%" PRIu32 " waiting=%" PRIu32, c->id, c->grant_count, c->request_count);
        c->ending = true;
        d->ending++;
        while (locking_claim(c, &fd))
                files_discard(d->files, c->account, fd);
        deferred_close(d, c);
        watch_end(d, c);
        hello_close(d, c);
        while (c->waiting != NULL) {
                watch_request(d, c->waiting, "cancelled", NULL);
                locking_forget(d, c->waiting);
        }
        if (table_newest_lock(engine_table(d->engine), c->id) != 0)
                engine_submit(d->engine, &ev);
}

static void forget(struct dispatch *d, struct client *c)
{
        struct table_event ev = {.kind = EV_SESSION_END, .session = c->id};

        engine_submit(d->engine, &ev);
        registry_client_remove(&d->registry, c);
        d->ending--;
}

bool dispatch_end(struct dispatch *d, struct client *c)
{
        int n;

        if (!c->ending)
                take_leave(d, c);
        while (table_newest_lock(engine_table(d->engine), c->id) != 0) {
                if (!d->hooks.take_share(c->session))
                        return false;
                for (n = 0; n < LOCKS_PER_PIECE && give_back_newest(d, c); n++)
                        ;
        }
        forget(d, c);
        return true;
}

void dispatch_close(struct dispatch *d, struct client *c)
{
        if (!c->ending)
                take_leave(d, c);
        while (give_back_newest(d, c))
                ;
        forget(d, c);
}

void ending_gives_way(struct dispatch *d, struct table_key key)
{
        const struct table *t = engine_table(d->engine);
        struct table_holder h;
        struct client *c;
        size_t i = 0;

        while (d->ending > 0 && table_holder_at(t, key, i, &h)) {
                c = registry_client(&d->registry, h.session);
                if (c != NULL && c->ending)
                        give_back(d, c, h.lock);        /* the next one has its place */
                else
                        i++;
        }
}

size_t ending_path_locks(const struct dispatch *d)
{
        const struct grant *g;
        const struct link *l;
        size_t i, count = 0;

        if (d->ending == 0)
                return 0;
        CHAINS_FOREACH(g, &d->registry.grants, i, l, struct grant, by_lock)
                count += g->by_path && g->client->ending;
        return count;
}
