/* Who holds a file and who waits for it, as the rows of a list, as `holders` of an answer, and in words for the log. */
#ifndef ROWS_H
#define ROWS_H

#include "listing.h"

#define ROWS_HOLDERS_MAX 16     /* named in one error or notification */

/* "LOCK_SH" or "LOCK_EX" */
const char *rows_mode_name(enum table_mode mode);
/* In all of these: as `viewer` may see it (sight.h). */
/* Members pid, uid, command and perhaps client; NULL: nobody known. */
void rows_peer(const struct listing *l, struct pl_writer *w, const struct client *viewer, struct client *c);
/* A member that is not for every viewer: null if it is not for this one. */
void rows_secret(struct pl_writer *w, const char *name, bool shown, int64_t value);
/* Member `path`; null when it must not be seen. */
void rows_path(const struct listing *l, struct pl_writer *w, const struct client *viewer, struct table_key key, const char *path);
/* One step of data.cycle: who waits, for which file and mode, or for its child. */
void rows_cycle_step(const struct listing *l, struct pl_writer *w, const struct client *viewer, const struct table_cycle_step *step);
void rows_holder(const struct listing *l, struct pl_writer *w, const struct client *viewer, const struct table_holder *h);
void rows_waiter(const struct listing *l, struct pl_writer *w, const struct client *viewer, const struct table_waiter *t);
void rows_outsider(struct pl_writer *w, const struct outside_holder *o);

/* A walk over those who hold a file outside the daemon, as last seen. */
struct rows_outsiders {
        const struct outside_holder *rows;
        size_t at, count;
        size_t own;             /* so many of the rows that are ours are locks that the daemon has now */
        size_t reclaimed;       /* so many of the rows of processes that are gone may be locks which an earlier daemon took, and we have now */
        bool trust_ours;
        enum table_mode held;   /* by the daemon's clients, the strongest */
};
void rows_outsiders_begin(const struct listing *l, struct table_key key, struct rows_outsiders *o);
/* The next one, o->at behind it; NULL at the end. */
const struct outside_holder *rows_outsiders_next(struct rows_outsiders *o);

/* Member `holders`: those the daemon knows, then outsiders as last seen. For a viewer who has to do with the file. */
void rows_holders(const struct listing *l, struct pl_writer *w, const struct client *viewer, struct table_key key);

/* A number that changes when what rows_holders() shows changes (but for ages). */
uint64_t rows_holders_mark(const struct listing *l, struct table_key key);

/* Those whom a waiting request waits for, "make[123],cc[124] and 14 more"; "" when nobody is known. */
void rows_blockers(const struct listing *l, const struct request *q, char *out, size_t size);

#endif
