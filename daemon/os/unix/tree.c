#include "tree.h"

#include <search.h>
#include <stddef.h>

bool tree_insert(const void *element, void **root, tree_compare *compare)
{
        return tsearch(element, root, compare) != NULL;
}

void *tree_find(const void *probe, void *const *root, tree_compare *compare)
{
        void *node = tfind(probe, root, compare);

        return node != NULL ? *(void **)node : NULL;    /* a node begins with its element */
}

void tree_remove(const void *element, void **root, tree_compare *compare)
{
        tdelete(element, root, compare);
}
