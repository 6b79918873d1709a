/*
 * Owns the descriptors that bear locks. The rest of the daemon knows a bearer by an opaque id with a count of references.
 *
 * All requests by path of one file share one description. Each passed description has one bearer, however often it is passed: a new
 * duplicate of a known one is closed and the known bearer returned.
 */
#ifndef FILES_H
#define FILES_H

#include "file.h"
#include "table.h"

struct files;

enum files_result { FILES_OK, FILES_ERROR, FILES_FULL /* too few free descriptors, or no memory */ };

/* `limit`: how many descriptors may be open for locks. */
struct files *files_create(size_t limit);
void files_destroy(struct files *f);    /* closes everything, unlocks nothing by itself */

/* The shared bearer of the file that `path` names now; one reference. */
enum files_result files_open(struct files *f, const char *path, bool create, struct table_key *key, uint64_t *bearer, struct file_error *e);

/* The bearer of a received descriptor, which is consumed in every case; one reference. */
enum files_result files_adopt(struct files *f, int fd, struct table_key *key, uint64_t *bearer, struct file_error *e);

/* A new description of the file of `bearer`; one reference. It becomes the file's shared one by files_share(). */
enum files_result files_fresh(struct files *f, uint64_t bearer, uint64_t *fresh, struct file_error *e);
void files_share(struct files *f, uint64_t bearer);

/* One reference more. */
void files_keep(struct files *f, uint64_t bearer);

/* One reference back; the last one closes the descriptor (which alone unlocks nothing that somebody else still has open). */
void files_drop(struct files *f, uint64_t bearer);

/* The descriptor, borrowed; -1 for an unknown id. */
int files_fd(const struct files *f, uint64_t bearer);

/* The path by which the system knows the bearer's file now; "" when unknown. */
void files_path(const struct files *f, uint64_t bearer, char *out, size_t size);

/* The identity of what `path` names now. Returns 0 or -1 with *e. */
int files_identify(const char *path, struct table_key *key, struct file_error *e);

/* Close a received descriptor that nobody claims. */
void files_discard(int fd);

/* Descriptors open now. */
size_t files_count(const struct files *f);

#endif
