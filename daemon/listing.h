/* What is held and waited for, as pages of a list. */
#ifndef LISTING_H
#define LISTING_H

#include "engine.h"
#include "message.h"
#include "outside.h"
#include "registry.h"

struct listing {
        const struct registry *registry;
        const struct engine *engine;
        const struct files *files;
        const struct outside *outside;
};

#define LISTING_LOOKS_MAX 20000 /* files and rows that one page looks at, shown or not: some ms */

/*
 * Members `locks` and perhaps `next` of a list, as the viewer may see them. `key` limits it to one file when not NULL; `name` to those that are called so
 * (sight.h). The buffer of `w` holds the reply from its start: with
 * what closes it, it stays below PL_LIST_BYTES_MAX. Returns 0, or -1 when p->after is no cursor of ours.
 */
int listing_write(const struct listing *l, struct pl_writer *w, const struct client *viewer, const struct pl_list_params *p, const struct table_key *key,
                  const char *name);

#endif
