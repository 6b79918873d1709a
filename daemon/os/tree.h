/* A set of pointers in an order that the system tells, and nobody else knows: of descriptions, see file_comparing(). Asked for with FILE_ORDER alone. */
#ifndef TREE_H
#define TREE_H

#include <stdbool.h>

/* < 0, 0 or > 0, as qsort() wants it. The same for two elements as long as both are in the set. */
typedef int tree_compare(const void *a, const void *b);

/* `*root` is NULL for the empty set. The element must not be in it yet. False: out of memory. */
bool tree_insert(const void *element, void **root, tree_compare *compare);
/* The element that is equal to `probe`, or NULL. */
void *tree_find(const void *probe, void *const *root, tree_compare *compare);
/* It must be in the set. Cannot fail. */
void tree_remove(const void *element, void **root, tree_compare *compare);

#endif
