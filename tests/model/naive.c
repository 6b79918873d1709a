/*
 * The second, naive model: plain lists of who holds and who wishes, and walks over all of them. It does not foresee when the system answers, so it
 * decides nothing; it is asked.
 */
#include "walk.h"

struct wish *wish_of(uint64_t cookie)
{
        size_t i;

        for (i = 0; i < w.wish_count; i++)
                if (w.wishes[i].live && w.wishes[i].cookie == cookie)
                        return &w.wishes[i];
        return NULL;
}

struct hold *hold_of_lock(table_id lock)
{
        size_t i;

        for (i = 0; i < w.hold_count; i++)
                if (w.holds[i].live && w.holds[i].lock == lock)
                        return &w.holds[i];
        return NULL;
}

bool same_owner(const struct hold *h, const struct wish *q)
{
        if (h->file != q->file || h->shared != q->shared)
                return false;
        return h->shared ? h->session == q->session && h->handle == q->handle : h->bearer == q->bearer;
}

/* The lock that the wish's owner has; of a passed description any co-holder's. */
struct hold *own_hold(const struct wish *q)
{
        size_t i;

        for (i = 0; i < w.hold_count; i++)
                if (w.holds[i].live && same_owner(&w.holds[i], q))
                        return &w.holds[i];
        return NULL;
}

/* This very session's lock, not a co-holder's. */
struct hold *session_hold(const struct wish *q)
{
        size_t i;

        for (i = 0; i < w.hold_count; i++)
                if (w.holds[i].live && same_owner(&w.holds[i], q) && w.holds[i].session == q->session)
                        return &w.holds[i];
        return NULL;
}

bool is_held(uint64_t bearer)
{
        size_t i;

        for (i = 0; i < w.hold_count; i++)
                if (w.holds[i].live && w.holds[i].bearer == bearer)
                        return true;
        return false;
}

/* The wish of a passed description that bears SH and wants more; `session` 0: anybody's. */
struct wish *trial_of(uint64_t bearer, uint64_t session)
{
        size_t i;

        for (i = 0; i < w.wish_count; i++) {
                struct wish *q = &w.wishes[i];

                if (q->live && q->upgrade && !q->shared && q->bearer == bearer && (session == 0 || q->session == session))
                        return q;
        }
        return NULL;
}

bool others_conflict(const struct wish *q)
{
        size_t i;

        for (i = 0; i < w.hold_count; i++) {
                const struct hold *h = &w.holds[i];

                if (h->live && h->file == q->file && !same_owner(h, q) && (q->mode == TABLE_EX || h->mode == TABLE_EX))
                        return true;
        }
        return false;
}

bool stands_before(const struct wish *a, const struct wish *b)
{
        if (a->upgrade != b->upgrade)
                return a->upgrade;
        return a->since != b->since ? a->since < b->since : a->order < b->order;
}

struct wish *head_of(int file)
{
        struct wish *head = NULL;
        size_t i;

        for (i = 0; i < w.wish_count; i++)
                if (w.wishes[i].live && w.wishes[i].file == file && (head == NULL || stands_before(&w.wishes[i], head)))
                        head = &w.wishes[i];
        return head;
}

bool blocking_wish_waits(int file, const struct wish *but)
{
        size_t i;

        for (i = 0; i < w.wish_count; i++)
                if (w.wishes[i].live && &w.wishes[i] != but && w.wishes[i].file == file && !w.wishes[i].nonblock)
                        return true;
        return false;
}

struct wish *upgrader_of(int file, const struct wish *but)
{
        size_t i;

        for (i = 0; i < w.wish_count; i++)
                if (w.wishes[i].live && &w.wishes[i] != but && w.wishes[i].file == file && w.wishes[i].upgrade)
                        return &w.wishes[i];
        return NULL;
}

/* The owner has a request that waits: one more is refused. */
bool waits_already(const struct wish *q)
{
        size_t i;

        for (i = 0; i < w.wish_count; i++) {
                const struct wish *o = &w.wishes[i];

                if (o->live && o->shared == q->shared && o->file == q->file &&
                    (o->shared ? o->session == q->session && o->handle == q->handle : o->bearer == q->bearer))
                        return true;
        }
        return false;
}

void add_hold(const struct wish *q, const struct table_effect *fx, uint64_t bearer)
{
        struct hold *h = w.holds;

        while (h->live)
                check(++h < w.holds + HOLDS_MAX, "too many locks for this model");
        if (h == w.holds + w.hold_count)
                w.hold_count++;
        w.left_over[bearer] = TABLE_NONE;
        *h = (struct hold){.live = true, .shared = q->shared, .file = q->file, .session = q->session, .bearer = bearer, .token = fx->token,
                           .handle = q->handle, .mode = fx->mode, .lock = fx->lock};
}
