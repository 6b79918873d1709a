#include "sight.h"

#include <stdio.h>
#include <string.h>

static bool sees_all(const struct registry *r, const struct client *viewer)
{
        return !r->everybody || viewer->peer.uid == 0;
}

bool sight_owns(const struct registry *r, const struct client *viewer, const struct client *owner)
{
        if (sees_all(r, viewer) || viewer == owner)
                return true;
        return owner != NULL && peer_same_user(&viewer->peer, &owner->peer);
}

bool sight_knows_file(const struct registry *r, const struct client *viewer, struct table_key file)
{
        return sees_all(r, viewer) || registry_stake(r, viewer, file) != NULL;
}

/* The path of what was asked for by path is the one that was named: its description is shared, and may have been replaced. */
static void own_path(const struct listing *l, bool by_path, const char *label, uint64_t bearer, char *out, size_t size)
{
        if (by_path)
                snprintf(out, size, "%s", label);
        else
                files_own_path(l->files, bearer, out, size);
}

void sight_path(const struct listing *l, const struct client *viewer, struct table_key file, uint64_t bearer, char *out, size_t size)
{
        const struct table *t = engine_table(l->engine);
        const struct part *part;
        const struct stake *s;
        const struct request *q;
        const struct grant *g;
        struct table_holder h;
        uint64_t any;

        if (sees_all(l->registry, viewer)) {
                any = table_any_bearer(t, file);
                files_path(l->files, any != 0 ? any : bearer, out, size);
                return;
        }
        out[0] = '\0';
        s = registry_stake(l->registry, viewer, file);
        if (s == NULL)
                return;
        if ((part = LIST_FIRST(&s->grants)) != NULL) {
                g = part->of;
                /* One that the table does not have has just been lost: on `bearer`, as all that are lost in one step of it. */
                own_path(l, g->by_path, g->label, table_lock(t, g->lock, &h, NULL) ? h.bearer : bearer, out, size);
        } else if ((part = LIST_FIRST(&s->requests)) != NULL) {
                q = part->of;
                own_path(l, q->by_path, q->label, q->bearer, out, size);
        }
}

static bool asked_for(const struct stake *s, const char *name)
{
        const struct part *part;

        LIST_FOREACH(part, &s->grants, entry) {
                if (strcmp(((const struct grant *)part->of)->label, name) == 0)
                        return true;
        }
        LIST_FOREACH(part, &s->requests, entry) {
                if (strcmp(((const struct request *)part->of)->label, name) == 0)
                        return true;
        }
        return false;
}

/* Root: whoever has named it so. */
static bool anybody_asked_for(const struct listing *l, struct table_key file, const char *name)
{
        const struct table *t = engine_table(l->engine);
        const struct request *q;
        const struct grant *g;
        struct table_holder h;
        struct table_waiter w;
        size_t i;

        for (i = 0; table_holder_at(t, file, i, &h); i++) {
                g = registry_grant(l->registry, h.lock);
                if (g != NULL && strcmp(g->label, name) == 0)
                        return true;
        }
        for (i = 0; table_waiter_at(t, file, i, &w); i++) {
                q = registry_request(l->registry, w.cookie);
                if (q != NULL && strcmp(q->label, name) == 0)
                        return true;
        }
        return false;
}

bool sight_is_called(const struct listing *l, const struct client *viewer, struct table_key file, const char *name)
{
        char path[PL_PATH_BYTES_MAX];
        const struct stake *s;

        if (!sees_all(l->registry, viewer) && registry_stake(l->registry, viewer, file) == NULL)
                return false;
        sight_path(l, viewer, file, 0, path, sizeof path);
        if (strcmp(path, name) == 0)
                return true;
        if (sees_all(l->registry, viewer))
                return anybody_asked_for(l, file, name);
        s = registry_stake(l->registry, viewer, file);
        return asked_for(s, name);
}
