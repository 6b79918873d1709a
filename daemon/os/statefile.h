/*
 * A small file that outlives the daemon: where it lies, read and written as a whole. What is read was written as a whole, or not by us.
 *
 * Reading and writing may hang (a home on a file server): not on the loop.
 */
#ifndef STATEFILE_H
#define STATEFILE_H

#include <stdbool.h>
#include <stddef.h>

#define STATEFILE_PATH_MAX 4096
#define STATEFILE_TEXT_MAX 256

struct statefile {
        char folder[STATEFILE_PATH_MAX];
        size_t given;           /* so much of `folder` must be there already; folders below it are made, for the owner alone */
        char name[64];
};

/*
 * Decide on the folder: `given` (an option) if not NULL, else XDG_STATE_HOME/portalock, else /var/lib/portalock for root and when `system`, else
 * HOME/.local/state/portalock. Touches nothing. False: there is none, or its path is too long.
 */
bool statefile_place(struct statefile *f, const char *given, bool system);

/*
 * The text of the file, with a NUL behind it. Only a regular file of ours, in a folder where nobody else may write; no symbolic link is followed, neither
 * for the file nor for its folder. Returns its length or -errno (-ENOENT: there is none); *step then says in a word or two what failed.
 */
int statefile_read(const struct statefile *f, char out[STATEFILE_TEXT_MAX], const char **step);

/*
 * Put `text` in the place of what is there; whoever reads meanwhile or after a crash finds the old or the new text. `durable`: it is on the disk when this
 * returns 0, else after a crash of the system it may be either. The file is for the owner alone. Anything by its name that is not a regular file of ours is left alone: -EEXIST. Else as statefile_read().
 */
int statefile_write(const struct statefile *f, const char *text, bool durable, const char **step);

#endif
