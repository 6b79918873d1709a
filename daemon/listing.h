/* What is held and waited for, as JSON: for `list`, and for the holders named in errors and notifications. */
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

#define LISTING_HOLDERS_MAX 16  /* named in one error or notification */

/* Member `holders`: those the daemon knows, then outsiders as last seen. */
void listing_holders(const struct listing *l, struct pl_writer *w, struct table_key key);

/* Members `locks` and perhaps `next` of a list. `key` limits it to one file when not NULL. Returns 0, or -1 when p->after is no cursor of ours. */
int listing_write(const struct listing *l, struct pl_writer *w, const struct pl_list_params *p, const struct table_key *key);

#endif
