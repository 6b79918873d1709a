/* Where the nodes of parsed documents lie in the daemon; for json.c alone. */
#ifndef PL_JSON_ARENA_H
#define PL_JSON_ARENA_H

#include <stdbool.h>
#include <stddef.h>

/* malloc(3) and free(3) for nodes. */
void *json_arena_take(size_t size);
void json_arena_give(void *p);

/* A document was parsed. */
void json_arena_open(void);
/* Must the nodes of a document be given back one by one? */
bool json_arena_spilled(void);
/* A document is gone, or could not be parsed (then it was not opened). */
void json_arena_close(bool opened);

#endif
