/*
 * Which file systems are served by this machine's own kernel alone: nothing done on their files waits for another machine or program. All others
 * (network file systems, FUSE) can hang at every call.
 */
#ifndef MOUNTS_H
#define MOUNTS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct uv_loop_s uv_loop_t;

struct mounts;

/* Follows the system's mounts. NULL when out of memory. */
struct mounts *mounts_create(uv_loop_t *loop);
void mounts_destroy(struct mounts *m);  /* the loop must run once more */

/*
 * What is not known to be local is not local. `mount_id` 0: unknown; then, and in another mount namespace, the device decides. Of a mount that we cannot
 * see at all (in a chroot, the one that holds our root) a file system on a block device is taken for local.
 */
bool mounts_is_local(struct mounts *m, uint64_t mount_id, uint64_t device);

#endif
