/*
 * Outsiders are told from our own locks in what the system lists. A row with our pid is a lock of ours as long as there are such; those beyond are locks
 * that outlived their session: detached, or inherited by a child. But the last look may be a second old: if the daemon has let go of a lock of the file
 * since, its rows there may be just that lock. And whatever cannot be held beside what the daemon holds now is gone by now.
 */
#include "rows.h"

#include "sight.h"

#include <inttypes.h>
#include <stdio.h>

#define COMMAND_KEEP_MS 1000    /* a look into /proc costs 25 us: a client's command is looked up at most so often */
#define BLOCKERS_NAMED 3

const char *rows_mode_name(enum table_mode mode)
{
        return pl_mode_name(mode == TABLE_EX ? PL_MODE_EX : PL_MODE_SH);
}

void rows_secret(struct pl_writer *w, const char *name, bool shown, int64_t value)
{
        if (shown)
                pl_write_integer(w, name, value);
        else
                pl_write_null(w, name);
}

void rows_path(const struct listing *l, struct pl_writer *w, const struct client *viewer, struct table_key key, const char *path)
{
        if (sight_knows_file(l->registry, viewer, key))
                pl_write_string(w, "path", path);
        else
                pl_write_null(w, "path");
}

void rows_peer(const struct listing *l, struct pl_writer *w, const struct client *viewer, struct client *c)
{
        int64_t now = engine_now(l->engine);

        if (c != NULL && now - c->command_at_ms >= COMMAND_KEEP_MS) {
                peer_refresh(&c->peer);
                c->command_at_ms = now;
        }
        pl_write_integer(w, "pid", c != NULL ? c->peer.pid : 0);
        pl_write_integer(w, "uid", c != NULL ? c->peer.uid : -1);
        pl_write_string(w, "command", c != NULL ? peer_command(&c->peer) : "");
        if (c != NULL && c->name != NULL && sight_owns(l->registry, viewer, c))
                pl_write_string(w, "client", c->name);
}

void rows_holder(const struct listing *l, struct pl_writer *w, const struct client *viewer, const struct table_holder *h)
{
        struct client *owner = registry_client(l->registry, h->session);
        struct grant *g = registry_grant(l->registry, h->lock);
        bool own = sight_owns(l->registry, viewer, owner);

        pl_write_open(w, NULL, '{');
        rows_secret(w, "lock", own, (int64_t)h->lock);
        rows_secret(w, "session", own, (int64_t)h->session);
        rows_peer(l, w, viewer, owner);
        pl_write_string(w, "mode", rows_mode_name(h->mode));
        rows_secret(w, "token", own, (int64_t)h->token);
        pl_write_integer(w, "held_ms", engine_now(l->engine) - h->since_ms);
        rows_secret(w, "handle", own, h->handle);
        if (own && g != NULL && g->label[0] != '\0')
                pl_write_string(w, "label", g->label);
        pl_write_close(w, '}');
}

void rows_waiter(const struct listing *l, struct pl_writer *w, const struct client *viewer, const struct table_waiter *t)
{
        struct client *owner = registry_client(l->registry, t->session);
        struct request *q = registry_request(l->registry, t->cookie);
        bool own = sight_owns(l->registry, viewer, owner);

        pl_write_open(w, NULL, '{');
        rows_secret(w, "session", own, (int64_t)t->session);
        rows_peer(l, w, viewer, owner);
        pl_write_string(w, "mode", rows_mode_name(t->mode));
        pl_write_integer(w, "waiting_ms", engine_now(l->engine) - t->since_ms);
        if (t->deadline_ms == TABLE_NEVER)
                pl_write_null(w, "timeout_ms");
        else
                pl_write_integer(w, "timeout_ms", t->deadline_ms - t->since_ms);
        pl_write_integer(w, "position", (int64_t)t->position);
        if (own && q != NULL && q->label[0] != '\0')
                pl_write_string(w, "label", q->label);
        pl_write_close(w, '}');
}

/* ---- outsiders ---- */

void rows_outsider(struct pl_writer *w, const struct outside_holder *o)
{
        pl_write_open(w, NULL, '{');
        pl_write_integer(w, "pid", o->pid);
        pl_write_string(w, "command", o->command);
        pl_write_string(w, "mode", rows_mode_name(o->exclusive ? TABLE_EX : TABLE_SH));
        pl_write_close(w, '}');
}

void rows_outsiders_begin(const struct listing *l, struct table_key key, struct rows_outsiders *o)
{
        const struct table *t = engine_table(l->engine);
        struct table_holder h;
        size_t i, ours = 0;

        *o = (struct rows_outsiders){.held = TABLE_NONE};
        o->rows = outside_of(l->outside, key.device, key.inode, &o->count);
        if (o->count == 0)
                return;
        o->trust_ours = outside_knows_ours(l->outside, key.device, key.inode);
        o->own = table_bearers_held(t, key);    /* so many of the system's rows with our pid are accounted for */
        for (i = 0; i < o->count; i++)
                ours += o->rows[i].ours;
        o->reclaimed = o->own > ours ? o->own - ours : 0;
        if (table_holder_at(t, key, 0, &h))
                o->held = h.mode;               /* all are alike: an exclusive one has only co-holders beside it */
}

static bool is_outside(struct rows_outsiders *o, const struct outside_holder *row)
{
        if (o->held == TABLE_EX || (o->held == TABLE_SH && row->exclusive))
                return false;
        if (!row->ours && row->command[0] == '\0' && o->reclaimed > 0) {
                o->reclaimed--;
                return false;
        }
        if (!row->ours)
                return true;
        if (o->own > 0) {
                o->own--;
                return false;
        }
        return o->trust_ours;
}

const struct outside_holder *rows_outsiders_next(struct rows_outsiders *o)
{
        const struct outside_holder *row;

        while (o->at < o->count) {
                row = &o->rows[o->at++];
                if (is_outside(o, row))
                        return row;
        }
        return NULL;
}

/* ---- all who hold a file ---- */

void rows_holders(const struct listing *l, struct pl_writer *w, const struct client *viewer, struct table_key key)
{
        const struct table *t = engine_table(l->engine);
        const struct outside_holder *row;
        struct rows_outsiders outsiders;
        struct table_holder h;
        size_t i;

        pl_write_open(w, "holders", '[');
        for (i = 0; i < ROWS_HOLDERS_MAX && table_holder_at(t, key, i, &h); i++)
                rows_holder(l, w, viewer, &h);
        rows_outsiders_begin(l, key, &outsiders);
        for (; i < ROWS_HOLDERS_MAX && (row = rows_outsiders_next(&outsiders)) != NULL; i++)
                rows_outsider(w, row);
        pl_write_close(w, ']');
}

static uint64_t mix(uint64_t mark, uint64_t value)
{
        return (mark ^ value) * 0x100000001b3u;         /* as FNV-1a does with bytes */
}

uint64_t rows_holders_mark(const struct listing *l, struct table_key key)
{
        const struct table *t = engine_table(l->engine);
        const struct outside_holder *row;
        struct rows_outsiders outsiders;
        uint64_t mark = 0xcbf29ce484222325u;
        struct table_holder h;
        size_t i;

        for (i = 0; i < ROWS_HOLDERS_MAX && table_holder_at(t, key, i, &h); i++)
                mark = mix(mix(mark, h.lock), h.mode);
        rows_outsiders_begin(l, key, &outsiders);
        for (; i < ROWS_HOLDERS_MAX && (row = rows_outsiders_next(&outsiders)) != NULL; i++)
                mark = mix(mix(mark, (uint64_t)row->pid), row->exclusive);
        return mark;
}

/* ---- in words ---- */

struct names {
        char *out;
        size_t size, len, named;
};

static void add_name(struct names *n, const char *command, int64_t pid)
{
        int len = snprintf(n->out + n->len, n->size - n->len, "%s%s[%" PRId64 "]", n->named++ > 0 ? "," : "", command, pid);

        n->len += (size_t)len < n->size - n->len ? (size_t)len : n->size - n->len - 1;
}

/* An upgrade waits for all holders but itself. */
static table_id own_lock(const struct table *t, const struct request *q)
{
        struct table_waiter head;

        if (!table_waiter_at(t, q->key, 0, &head) || head.cookie != q->cookie || !head.upgrade)
                return 0;
        return table_lock_of(t, q->key, q->client->id, q->handle);
}

void rows_blockers(const struct listing *l, const struct request *q, char *out, size_t size)
{
        const struct table *t = engine_table(l->engine);
        struct names names = {.out = out, .size = size};
        const struct outside_holder *row;
        struct rows_outsiders outsiders;
        table_id own = own_lock(t, q);
        size_t i, more = table_holder_count(t, q->key) - (own != 0);
        struct client *c;
        struct table_holder h;

        out[0] = '\0';
        for (i = 0; names.named < BLOCKERS_NAMED && table_holder_at(t, q->key, i, &h); i++) {
                if (h.lock == own)
                        continue;
                c = registry_client(l->registry, h.session);
                add_name(&names, c != NULL ? peer_command(&c->peer) : "", c != NULL ? c->peer.pid : 0);
                more--;
        }
        rows_outsiders_begin(l, q->key, &outsiders);
        while ((row = rows_outsiders_next(&outsiders)) != NULL) {
                if (names.named < BLOCKERS_NAMED)
                        add_name(&names, row->command, row->pid);
                else
                        more++;
        }
        if (more > 0)
                snprintf(out + names.len, size - names.len, " and %zu more", more);
}

void rows_cycle_step(const struct listing *l, struct pl_writer *w, const struct client *viewer, const struct table_cycle_step *step)
{
        char path[PL_PATH_BYTES_MAX];

        pl_write_open(w, NULL, '{');
        rows_peer(l, w, viewer, registry_client(l->registry, step->session));
        if (step->mode == TABLE_NONE) {
                pl_write_bool(w, "child", true);
        } else {
                sight_path(l, viewer, step->key, 0, path, sizeof path);
                rows_path(l, w, viewer, step->key, path);
                pl_write_string(w, "mode", rows_mode_name(step->mode));
        }
        pl_write_close(w, '}');
}
