/* Shared by files.c (bearers) and files_away.c (what is done on the lane). */
#ifndef FILES_INTERNAL_H
#define FILES_INTERNAL_H

#include "files.h"

struct bearer;
struct file;

struct files {
        struct file *files;
        struct bearer *bearers;
        struct descriptors *descriptors;
        size_t expected;        /* descriptors that are being opened for locks */
        uint64_t last_id;
        struct mounts *mounts;
        struct files_lanes lanes;
        enum file_comparing comparing;
};

/* close(2) on a file that may hang: on the lane, behind what is still to be done there on the bearer `key` (0: none). */
void files_close_away(struct files *f, struct account *account, int fd, uint64_t key);
void files_close_now(struct files *f, struct account *account, int fd);

/* A descriptor opened by path (expected, consumed) becomes the shared bearer, or gives way to it. */
enum files_result files_take_opened(struct files *f, int fd, const struct file_identity *id, struct table_key *key, uint64_t *bearer, struct file_error *e);
bool files_out_of_descriptors(const struct file_error *e);

#endif
