/*
 * Who is shown what. In a user's daemon everybody sees everything. In one for all users (--system) root does, and the others see of locks that are not
 * their own who has them - pid, uid and command -, how and for how long; not what file it is, under what name it was asked for, nor ids and tokens.
 *
 * A file is known to a user who has a lock on it or waits for one: he may see its identity and who is outside, and its path by a description of his own
 * (its other names may lie in folders that he cannot look into).
 */
#ifndef SIGHT_H
#define SIGHT_H

#include "listing.h"

/* Is `owner` (NULL: gone) the viewer's own, to see and to break? Uid 65534 is nobody: it owns no more than what its own session has. */
bool sight_owns(const struct registry *r, const struct client *viewer, const struct client *owner);

bool sight_knows_file(const struct registry *r, const struct client *viewer, struct table_key file);

/*
 * The file's path as the viewer may see it, "" when he must not or nothing is known. `bearer`: one that the file had a moment ago, if the table has none any more.
 */
void sight_path(const struct listing *l, const struct client *viewer, struct table_key file, uint64_t bearer, char *out, size_t size);

/* Does a user who has the daemon open no paths for him mean this file by `name`: is it called so by the daemon as far as he sees, or by one of his requests? */
bool sight_is_called(const struct listing *l, const struct client *viewer, struct table_key file, const char *name);

#endif
