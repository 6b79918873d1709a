/*
 * A page is one instant: it is written in one go. Resources are walked by slot, which they keep while they live, so that a walk in pages
 * meets each exactly once; a file whose rows do not fit goes on after the last lock (or waiter) that was shown.
 */
#include "listing.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cursor {
        uint64_t slot;
        uint64_t token;         /* holders up to this token were shown; 0: none */
        uint64_t waiters;       /* so many waiters were shown */
};

struct page {
        const struct listing *l;
        const struct pl_list_params *params;
        struct pl_writer *w;
        int64_t rows_left;
        size_t bytes_max;       /* length of the buffer at which the page is full */
        char path[PL_PATH_BYTES_MAX];
};

static const char *mode_name(enum table_mode mode)
{
        return pl_mode_name(mode == TABLE_EX ? PL_MODE_EX : PL_MODE_SH);
}

static void write_peer(struct pl_writer *w, const struct client *c)
{
        struct peer peer = {0};

        if (c != NULL) {
                peer = c->peer;
                peer_refresh(&peer);
        }
        pl_write_integer(w, "pid", peer.pid);
        pl_write_integer(w, "uid", c != NULL ? peer.uid : -1);
        pl_write_string(w, "command", peer.command);
        if (c != NULL && c->name[0] != '\0')
                pl_write_string(w, "client", c->name);
}

static void write_holder(const struct listing *l, struct pl_writer *w, const struct table_holder *h)
{
        struct grant *g = registry_grant(l->registry, h->lock);

        pl_write_open(w, NULL, '{');
        pl_write_integer(w, "lock", (int64_t)h->lock);
        pl_write_integer(w, "session", (int64_t)h->session);
        write_peer(w, registry_client(l->registry, h->session));
        pl_write_string(w, "mode", mode_name(h->mode));
        pl_write_integer(w, "token", (int64_t)h->token);
        pl_write_integer(w, "held_ms", engine_now(l->engine) - h->since_ms);
        pl_write_integer(w, "handle", h->handle);
        if (g != NULL && g->label[0] != '\0')
                pl_write_string(w, "label", g->label);
        pl_write_close(w, '}');
}

static void write_waiter(const struct listing *l, struct pl_writer *w, const struct table_waiter *t)
{
        struct request *q = registry_request(l->registry, t->cookie);

        pl_write_open(w, NULL, '{');
        pl_write_integer(w, "session", (int64_t)t->session);
        write_peer(w, registry_client(l->registry, t->session));
        pl_write_string(w, "mode", mode_name(t->mode));
        pl_write_integer(w, "waiting_ms", engine_now(l->engine) - t->since_ms);
        if (t->deadline_ms == TABLE_NEVER)
                pl_write_null(w, "timeout_ms");
        else
                pl_write_integer(w, "timeout_ms", t->deadline_ms - t->since_ms);
        pl_write_integer(w, "position", (int64_t)t->position);
        if (q != NULL && q->label[0] != '\0')
                pl_write_string(w, "label", q->label);
        pl_write_close(w, '}');
}

static void write_outsider(struct pl_writer *w, int64_t pid, const char *command, bool exclusive)
{
        pl_write_open(w, NULL, '{');
        pl_write_integer(w, "pid", pid);
        pl_write_string(w, "command", command);
        pl_write_string(w, "mode", pl_mode_name(exclusive ? PL_MODE_EX : PL_MODE_SH));
        pl_write_close(w, '}');
}

/* Rows with our pid beyond those of the holders' descriptions are locks that outlived their session: detached, or inherited by a child. */
static size_t write_outsiders(const struct listing *l, struct pl_writer *w, struct table_key key, size_t max)
{
        size_t count, i, written = 0, own = table_bearers_held(engine_table(l->engine), key);
        const struct outside_holder *o = outside_of(l->outside, key.device, key.inode, &count);

        for (i = 0; i < count && written < max; i++) {
                if (o[i].ours && own > 0) {
                        own--;
                        continue;
                }
                write_outsider(w, o[i].ours ? 0 : o[i].pid, o[i].command, o[i].exclusive);
                written++;
        }
        return written;
}

void listing_holders(const struct listing *l, struct pl_writer *w, struct table_key key)
{
        const struct table *t = engine_table(l->engine);
        struct table_holder h;
        size_t i;

        pl_write_open(w, "holders", '[');
        for (i = 0; i < LISTING_HOLDERS_MAX && table_holder_at(t, key, i, &h); i++)
                write_holder(l, w, &h);
        (void)write_outsiders(l, w, key, LISTING_HOLDERS_MAX - i);
        pl_write_close(w, ']');
}

static bool matches(const struct page *p, uint64_t session)
{
        const struct client *c;

        if (p->params->session >= 0 && (uint64_t)p->params->session != session)
                return false;
        if (p->params->pid < 0)
                return true;
        c = registry_client(p->l->registry, session);
        return c != NULL && c->peer.pid == p->params->pid;
}

static bool is_full(const struct page *p)
{
        return p->rows_left <= 0 || p->w->buf->len >= p->bytes_max;
}

/* The path of a file: as the system knows it by one of its bearers; one that only outsiders have: as it was asked for. */
static const char *path_of(struct page *p, struct table_key key)
{
        uint64_t bearer = table_any_bearer(engine_table(p->l->engine), key);

        if (bearer == 0)
                return p->params->path != NULL ? p->params->path : "";
        files_path(p->l->files, bearer, p->path, sizeof p->path);
        return p->path;
}

/* True when all rows of the file are written; else *c says where to go on. */
static bool write_rows(struct page *p, struct table_key key, struct cursor *c)
{
        const struct table *t = engine_table(p->l->engine);
        struct table_holder h;
        struct table_waiter wt;
        uint64_t last = c->token;
        size_t i;

        pl_write_open(p->w, "holders", '[');
        for (i = 0; p->params->state != PL_STATE_WAITING && table_holder_at(t, key, i, &h); i++) {
                if (c->token != 0 && h.token <= c->token)
                        continue;
                if (!matches(p, h.session))
                        continue;
                /* Co-holders share a token: they are never parted, so that the token is a safe place to go on from. */
                if (is_full(p) && h.token != last)
                        break;
                write_holder(p->l, p->w, &h);
                p->rows_left--;
                last = h.token;
        }
        pl_write_close(p->w, ']');
        c->token = last;
        if (p->params->state != PL_STATE_WAITING && table_holder_at(t, key, i, &h)) {
                pl_write_open(p->w, "waiters", '[');
                pl_write_close(p->w, ']');
                return false;
        }
        pl_write_open(p->w, "waiters", '[');
        for (i = 0; p->params->state != PL_STATE_HELD && table_waiter_at(t, key, i, &wt); i++) {
                if (i < c->waiters || !matches(p, wt.session))
                        continue;
                if (is_full(p))
                        break;
                write_waiter(p->l, p->w, &wt);
                p->rows_left--;
        }
        pl_write_close(p->w, ']');
        c->waiters = i;
        return p->params->state == PL_STATE_HELD || !table_waiter_at(t, key, i, &wt);
}

static bool write_file(struct page *p, struct table_key key, struct cursor *c)
{
        bool first = c->token == 0 && c->waiters == 0, all;
        struct pl_writer before = *p->w;
        size_t len = p->w->buf->len;
        int64_t rows = p->rows_left;
        size_t outsiders = 0;
        char number[24];

        pl_write_open(p->w, NULL, '{');
        pl_write_string(p->w, "path", path_of(p, key));
        snprintf(number, sizeof number, "%" PRIu64, key.device);
        pl_write_string(p->w, "device", number);
        snprintf(number, sizeof number, "%" PRIu64, key.inode);
        pl_write_string(p->w, "inode", number);
        all = write_rows(p, key, c);
        pl_write_open(p->w, "outside", '[');
        if (p->params->outside && first && p->params->state != PL_STATE_WAITING && p->params->session < 0 && p->params->pid < 0)
                outsiders = write_outsiders(p->l, p->w, key, LISTING_HOLDERS_MAX);
        pl_write_close(p->w, ']');
        pl_write_close(p->w, '}');
        if (all && rows == p->rows_left && outsiders == 0) {
                /* Nothing of it matched: unsay it. */
                p->w->buf->len = len;
                *p->w = before;
        }
        return all;
}

static int parse_cursor(const char *text, struct cursor *c)
{
        int end = 0;

        if (sscanf(text, "%" SCNu64 ".%" SCNu64 ".%" SCNu64 "%n", &c->slot, &c->token, &c->waiters, &end) != 3)
                return -1;
        return text[end] == '\0' ? 0 : -1;
}

/* A file that only outsiders hold, asked for by its path. */
static void write_foreign_file(struct page *p, struct table_key key)
{
        struct cursor none = {0};

        if (p->params->state != PL_STATE_WAITING)
                (void)write_file(p, key, &none);
}

int listing_write(const struct listing *l, struct pl_writer *w, const struct pl_list_params *params, const struct table_key *only)
{
        const struct table *t = engine_table(l->engine);
        struct page p = {.l = l, .params = params, .w = w, .rows_left = params->limit};
        struct cursor c = {0};
        struct table_key key;
        uint64_t next;
        bool more = false;
        char text[80];

        p.bytes_max = w->buf->len + PL_LIST_BYTES_MAX - 4 * PL_PATH_BYTES_MAX;
        if (params->after != NULL && parse_cursor(params->after, &c) != 0)
                return -1;
        pl_write_open(w, "locks", '[');
        if (only != NULL && !table_knows(t, *only)) {
                write_foreign_file(&p, *only);
                pl_write_close(w, ']');
                return 0;
        }
        if (only != NULL && params->after == NULL)
                (void)table_first(t, *only, &c.slot);
        for (next = c.slot; table_walk(t, &next, &key); c = (struct cursor){.slot = next}) {
                if (only != NULL && memcmp(&key, only, sizeof key) != 0)
                        break;
                /* The walk may have skipped free slots: a place within a file is good for that very file only. */
                if (next != c.slot + 1)
                        c = (struct cursor){.slot = next - 1};
                more = is_full(&p) || !write_file(&p, key, &c);
                if (more)
                        break;
        }
        pl_write_close(w, ']');
        if (more) {
                snprintf(text, sizeof text, "%" PRIu64 ".%" PRIu64 ".%" PRIu64, c.slot, c.token, c.waiters);
                pl_write_string(w, "next", text);
        }
        return 0;
}
