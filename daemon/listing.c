/*
 * A page is one instant: it is written in one go. Resources are walked by slot, which they keep while they live, so that a walk in pages
 * meets each exactly once; a file whose rows do not fit goes on behind the last lock that was looked at: ids of locks are unique and grow in the order
 * of the list.
 *
 * A page ends before the row that would be one too many, and when it has looked at so much that others have waited long enough, even if it shows
 * nothing yet. A row's size is known only when it is written, so one that does not fit is taken back. A file is begun with its first row that
 * is wanted: a filter that matches nothing costs only the looking.
 */
#include "listing.h"

#include "rows.h"
#include "sight.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLOSING_BYTES 256       /* what may follow the last row: brackets, empty members, `next` */

struct cursor {
        uint64_t slot;
        uint64_t lock;          /* holders up to this lock were looked at; 0: none */
        uint64_t waiters, outsiders;    /* so many of these were */
};

/* The member of the file under way that is open. */
enum member { MEMBER_NONE, MEMBER_HOLDERS, MEMBER_WAITERS, MEMBER_OUTSIDE };

struct page {
        const struct listing *l;
        const struct client *viewer;
        const struct pl_list_params *params;
        const char *name;       /* NULL: any file */
        struct pl_writer *w;
        int64_t rows_left, looks_left;
        struct table_key key;   /* the file under way */
        enum member member;
        char path[PL_PATH_BYTES_MAX];
};

/* Where a row that may have to be taken back began. */
struct mark {
        struct pl_writer w;
        size_t len;
        enum member member;
};

/* The path of a file: as the system knows it by one of its bearers; one that only outsiders have: as it was asked for. */
static const char *path_of(struct page *p)
{
        uint64_t bearer = table_any_bearer(engine_table(p->l->engine), p->key);

        if (bearer == 0)
                return p->params->path != NULL ? p->params->path : "";
        sight_path(p->l, p->viewer, p->key, bearer, p->path, sizeof p->path);
        return p->path;
}

static void open_file(struct page *p)
{
        char number[24];

        pl_write_open(p->w, NULL, '{');
        if (!sight_knows_file(p->l->registry, p->viewer, p->key)) {
                pl_write_null(p->w, "path");
                pl_write_null(p->w, "device");
                pl_write_null(p->w, "inode");
                return;
        }
        pl_write_string(p->w, "path", path_of(p));
        snprintf(number, sizeof number, "%" PRIu64, p->key.device);
        pl_write_string(p->w, "device", number);
        snprintf(number, sizeof number, "%" PRIu64, p->key.inode);
        pl_write_string(p->w, "inode", number);
}

/* Members come in their order; those without rows are there too. */
static void open_member(struct page *p, enum member member)
{
        static const char *const names[] = {[MEMBER_HOLDERS] = "holders", [MEMBER_WAITERS] = "waiters", [MEMBER_OUTSIDE] = "outside"};

        if (p->member == MEMBER_NONE)
                open_file(p);
        while (p->member < member) {
                if (p->member != MEMBER_NONE)
                        pl_write_close(p->w, ']');
                pl_write_open(p->w, names[++p->member], '[');
        }
}

static void close_file(struct page *p)
{
        if (p->member == MEMBER_NONE)
                return;
        open_member(p, MEMBER_OUTSIDE);
        pl_write_close(p->w, ']');
        pl_write_close(p->w, '}');
        p->member = MEMBER_NONE;
}

/* False: the page has rows enough. */
static bool begin_row(struct page *p, enum member member, struct mark *m)
{
        if (p->rows_left == 0)
                return false;
        *m = (struct mark){.w = *p->w, .len = p->w->buf->len, .member = p->member};
        open_member(p, member);
        return true;
}

/* False: it did not fit, and was taken back. (One row and its file alone are at most 60 KiB, escaped as badly as can be.) */
static bool end_row(struct page *p, const struct mark *m)
{
        if (p->w->buf->len <= PL_LIST_BYTES_MAX - CLOSING_BYTES) {
                p->rows_left--;
                return true;
        }
        *p->w = m->w;
        p->w->buf->len = m->len;
        p->member = m->member;
        return false;
}

/* False: the page has taken long enough. */
static bool look(struct page *p)
{
        return p->looks_left-- > 0;
}

static bool matches(const struct page *p, uint64_t session)
{
        const struct client *c;

        if (p->params->session < 0 && p->params->pid < 0)
                return true;
        c = registry_client(p->l->registry, session);
        /* Whose id he must not see he cannot ask for either. */
        if (p->params->session >= 0 && ((uint64_t)p->params->session != session || !sight_owns(p->l->registry, p->viewer, c)))
                return false;
        return p->params->pid < 0 || (c != NULL && c->peer.pid == p->params->pid);
}

/* Each of these: true when all rows were looked at; else *c says where to go on. */
static bool write_holders(struct page *p, struct cursor *c)
{
        const struct table *t = engine_table(p->l->engine);
        struct table_holder h;
        struct mark m;
        size_t i;

        if (p->params->state == PL_STATE_WAITING)
                return true;
        for (i = 0; table_holder_at(t, p->key, i, &h); i++) {
                if (h.lock <= c->lock)
                        continue;
                if (!look(p))
                        return false;
                if (matches(p, h.session)) {
                        if (!begin_row(p, MEMBER_HOLDERS, &m))
                                return false;
                        rows_holder(p->l, p->w, p->viewer, &h);
                        if (!end_row(p, &m))
                                return false;
                }
                c->lock = h.lock;
        }
        return true;
}

static bool write_waiters(struct page *p, struct cursor *c)
{
        const struct table *t = engine_table(p->l->engine);
        struct table_waiter wt;
        struct mark m;

        if (p->params->state == PL_STATE_HELD)
                return true;
        for (; table_waiter_at(t, p->key, c->waiters, &wt); c->waiters++) {
                if (!look(p))
                        return false;
                if (!matches(p, wt.session))
                        continue;
                if (!begin_row(p, MEMBER_WAITERS, &m))
                        return false;
                rows_waiter(p->l, p->w, p->viewer, &wt);
                if (!end_row(p, &m))
                        return false;
        }
        return true;
}

static bool write_outsiders(struct page *p, struct cursor *c)
{
        const struct outside_holder *row;
        struct rows_outsiders o;
        struct mark m;

        if (!p->params->outside || p->params->state == PL_STATE_WAITING || p->params->session >= 0 || p->params->pid >= 0)
                return true;
        if (!sight_knows_file(p->l->registry, p->viewer, p->key))
                return true;
        rows_outsiders_begin(p->l, p->key, &o);
        while ((row = rows_outsiders_next(&o)) != NULL) {
                if (o.at <= c->outsiders)
                        continue;
                if (!look(p) || !begin_row(p, MEMBER_OUTSIDE, &m))
                        return false;
                rows_outsider(p->w, row);
                if (!end_row(p, &m))
                        return false;
                c->outsiders = o.at;
        }
        return true;
}

static bool write_file(struct page *p, struct table_key key, struct cursor *c)
{
        bool all;

        p->key = key;
        if (p->name != NULL && !sight_is_called(p->l, p->viewer, key, p->name))
                return look(p);
        all = look(p) && write_holders(p, c) && write_waiters(p, c) && write_outsiders(p, c);
        close_file(p);
        return all;
}

static int parse_cursor(const char *text, struct cursor *c)
{
        int end = 0;

        if (sscanf(text, "%" SCNu64 ".%" SCNu64 ".%" SCNu64 ".%" SCNu64 "%n", &c->slot, &c->lock, &c->waiters, &c->outsiders, &end) != 4)
                return -1;
        return text[end] == '\0' ? 0 : -1;
}

/* True when nothing is left; else *c says where to go on. */
static bool write_all(struct page *p, struct cursor *c)
{
        uint64_t next = c->slot;
        struct table_key key;

        for (; table_walk(engine_table(p->l->engine), &next, &key); *c = (struct cursor){.slot = next}) {
                /* The walk may have skipped free slots: a place within a file is good for that very file only. */
                if (next != c->slot + 1)
                        *c = (struct cursor){.slot = next - 1};
                if (!write_file(p, key, c))
                        return false;
        }
        return true;
}

int listing_write(const struct listing *l, struct pl_writer *w, const struct client *viewer, const struct pl_list_params *params, const struct table_key *only,
                  const char *name)
{
        struct page p = {.l = l, .viewer = viewer, .params = params, .name = name, .w = w, .rows_left = params->limit, .looks_left = LISTING_LOOKS_MAX};
        struct cursor c = {0};
        char text[96];
        bool all;

        if (params->after != NULL && parse_cursor(params->after, &c) != 0)
                return -1;
        pl_write_open(w, "locks", '[');
        all = only != NULL ? write_file(&p, *only, &c) : write_all(&p, &c);
        pl_write_close(w, ']');
        if (!all) {
                snprintf(text, sizeof text, "%" PRIu64 ".%" PRIu64 ".%" PRIu64 ".%" PRIu64, c.slot, c.lock, c.waiters, c.outsiders);
                pl_write_string(w, "next", text);
        }
        return 0;
}
