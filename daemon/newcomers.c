/*
 * What a client is called is looked up a moment after it came, or when it is first shown. Most commands under a lock have come and gone by then, and two looks
 * into /proc and a pidfd are a fifth of what the daemon does for them. But not much later: whoever has connected may leave its connection to a child, and end.
 */
#include "dispatch_internal.h"

#include "log.h"

#define LOOK_AFTER_MS 1000
#define LOOKS_PER_TURN 16

static void look_at(struct dispatch *d, struct client *c)
{
        const char *command = peer_command(&c->peer);

        c->command_at_ms = engine_now(d->engine);
        log_event(LOG_DEBUG, "session_named", "session=%llu pid=%lld command=%s", (unsigned long long)c->id, (long long)c->peer.pid, log_quote(command));
}

/* The oldest that is still there; NULL: none. */
static struct client *first(struct dispatch *d, int64_t *since_ms)
{
        struct newcomers *n = &d->newcomers;
        struct client *c;

        for (; n->count > 0; n->count--, n->first = (n->first + 1) % NEWCOMERS_MAX) {
                c = registry_client(&d->registry, n->of[n->first].session);
                *since_ms = n->of[n->first].since_ms;
                if (c != NULL)
                        return c;
        }
        return NULL;
}

static void drop_first(struct newcomers *n)
{
        n->first = (n->first + 1) % NEWCOMERS_MAX;
        n->count--;
}

void newcomers_add(struct dispatch *d, const struct client *c)
{
        struct newcomers *n = &d->newcomers;
        struct client *oldest;
        int64_t since_ms;

        oldest = first(d, &since_ms);
        if (n->count == NEWCOMERS_MAX) {        /* they come faster than that */
                look_at(d, oldest);
                drop_first(n);
        }
        n->of[(n->first + n->count++) % NEWCOMERS_MAX] = (struct newcomer){c->id, engine_now(d->engine)};
        if (n->count == 1)
                dispatch_wake_at(d, engine_now(d->engine) + LOOK_AFTER_MS);
}

void newcomers_tick(struct dispatch *d)
{
        struct client *c;
        int64_t since_ms;
        int looks;

        for (looks = 0; (c = first(d, &since_ms)) != NULL; looks++) {
                if (looks == LOOKS_PER_TURN || since_ms + LOOK_AFTER_MS > engine_now(d->engine)) {
                        dispatch_wake_at(d, since_ms + LOOK_AFTER_MS);
                        return;
                }
                look_at(d, c);
                drop_first(&d->newcomers);
        }
}
