/* When everything has come to rest: should somebody have been served? Is a lock left that nobody has, or gone that somebody had? */
#include "walk.h"

/* No lock without a holder: neither forgotten by the table nor granted to somebody who had left. What was left behind is as it was left. */
static void judge_leftovers(void)
{
        uint64_t d;

        for (d = 1; d < FAKE_DESCRIPTIONS; d++) {
                if (!is_open(d) || is_held(d) || trial_of(d, 0) != NULL)
                        continue;
                if (fake_bears(w.os, (int)d) == OSLOCK_NONE)
                        w.left_over[d] = TABLE_NONE;
                else if (w.left_over[d] == TABLE_NONE)
                        fail("a description bears a lock that nobody holds");
                else
                        check(fake_bears(w.os, (int)d) == os_mode(w.left_over[d]), "a lock that was left behind has become another");
        }
}

static void judge_head(const struct wish *head)
{
        const struct hold *own = own_hold(head);
        int but = !head->shared ? (int)head->bearer : own != NULL ? (int)own->bearer : 0;

        if (!others_conflict(head) && !fake_conflicts(w.os, head->file, but, os_mode(head->mode)))
                fail("all is at rest, the file is free, and the first in the queue was not served");
}

static void judge_bearers(int file)
{
        size_t i, k, count = 0;
        struct table_holder h, other;

        for (i = 0; table_holder_at(w.table, key_of(file), i, &h); i++) {
                for (k = 0; k < i && table_holder_at(w.table, key_of(file), k, &other) && other.bearer != h.bearer; k++)
                        ;
                count += k == i;
        }
        check(table_bearers_held(w.table, key_of(file)) == count, "the descriptions that bear a file's lock are miscounted");
}

void judge_rest(void)
{
        struct wish *head;
        size_t i;
        int file;

        settle();
        pass_time(TABLE_UPGRADE_RETRY_MAX_MS + 1);
        settle();
        judge_leftovers();
        for (i = 0; i < w.wish_count; i++)
                judge(!w.wishes[i].live || !w.wishes[i].nonblock, &w.wishes[i], "all is at rest, and one that may not wait still does");
        for (file = 0; file < FILES; file++) {
                judge_bearers(file);
                head = head_of(file);
                if (head != NULL)
                        judge_head(head);
        }
}

void judge_end(void)
{
        struct table_counts n;
        size_t i;

        for (i = 0; i < SESSIONS; i++)
                move_session_end();
        for (i = 0; i < SESSIONS; i++)
                end_session(w.session_ids[i]);
        settle();
        table_count(w.table, &n);
        check(n.resources == 0 && n.locks == 0 && n.waiting == 0 && n.os_ops == 0, "everybody left, and something stayed in the table");
        for (i = 0; i < FAKE_DESCRIPTIONS; i++)
                check(w.references[i] == 0, "everybody left, and a description is still open");
}
