/*
 * The names under which locks are asked for. Many ask for one by the same name, so each text is there once, for as long as somebody uses it. Equal texts are
 * equal pointers.
 */
#ifndef LABELS_H
#define LABELS_H

#include "chains.h"
#include "pool.h"

#define LABELS_POOLS 16         /* of sizes that differ by sixteen bytes: paths are of a few lengths, and malloc(3) takes as much again for each */

struct labels {
        struct chains texts;
        struct pool pools[LABELS_POOLS];
};

/* Zeroed before. False: no memory; it is to be cleared all the same. */
bool labels_init(struct labels *l);
void labels_clear(struct labels *l);

/* That text, with one user more; NULL when out of memory. */
const char *labels_get(struct labels *l, const char *text);
/* One of ours, with one user more. */
const char *labels_keep(const char *label);
void labels_drop(struct labels *l, const char *label);
/* NULL: nobody uses it. */
const char *labels_find(const struct labels *l, const char *text);

#endif
