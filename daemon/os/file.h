/* Files as the daemon needs them: opened by path or received, told apart by identity and by description. */
#ifndef FILE_H
#define FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mounts.h"

struct file_identity {
        uint64_t device, inode;
        uint64_t mount;         /* for file_is_local() */
        bool lockable;          /* by path: neither a device nor a FIFO */
};

/* What failed, for data.syscall, data.errno and, where the system has numbers of its own, data.code (0: none). */
struct file_error {
        const char *syscall;
        int error;
        unsigned code;
};

/* The identity of what `path` names now, of whatever kind: a FIFO cannot be opened by path here, but it can be locked by descriptor. Returns 0 or -1 with *e. */
int file_stat(const char *path, struct file_identity *id, struct file_error *e);

/*
 * Where `path` leads, to a file of whatever kind, by what the kernel has in its caches and on local disks: never waits for another machine or program, on kernels that have
 * openat2(2) with RESOLVE_CACHED (5.12).
 */
enum file_place {
        FILE_LOCAL,     /* *id: it may be opened at once */
        FILE_MISSING,   /* there is no such file; it may be created at once */
        FILE_AWAY,      /* looking at it might hang */
        FILE_BAD        /* *e */
};
enum file_place file_glance(struct mounts *m, const char *path, struct file_identity *id, struct file_error *e);
/*
 * What a glance has opened stays open until the next one, or until this call: closing takes a while, and somebody waits for what the glance has shown. Not to be
 * put off for longer than that, for meanwhile the file system cannot be unmounted.
 */
void file_end_glance(void);

/*
 * When a glance says FILE_AWAY that may be because no cache knows the way, though it is on a local disk: the deepest folder on the way that is known and
 * local, and what is left from there. A descriptor that only names it, or -1: there is none. Waits for nobody.
 */
int file_way(struct mounts *m, const char *path, const char **rest);
/* Bring the rest of the way into the caches. Never leaves the folder's file system, so it waits for a disk at most. */
void file_walk(int folder, const char *rest);

/* Does nothing done with this descriptor wait for another machine or program? Asks nobody. `known`: its identity; NULL: not known yet. */
bool file_is_local(struct mounts *m, int fd, const struct file_identity *known);

/*
 * Open by path for locking what can be locked so (regular file, directory, block device), creating it if `create`. Reading only, never blocking on it. `glanced`: what a
 * glance has just shown; NULL: nobody has looked. Returns a descriptor or -1 with *e.
 */
int file_open(const char *path, bool create, const struct file_identity *glanced, struct file_identity *id, struct file_error *e);

void file_close(int fd);

/* Does an open file stand in nobody's way, so that it may stay open for a moment longer? On Windows a file that is deleted keeps its name until it is closed. */
extern const bool file_may_linger;

/* A new open file description of the file behind `fd`. Returns a descriptor or -1 with *e. */
int file_reopen(int fd, struct file_error *e);

/* The identity of a received descriptor, if flock can lock it (no O_PATH, socket or anonymous inode). Waits for nobody. Returns 0 or -1 with *e. */
int file_identify(int fd, struct file_identity *id, struct file_error *e);

/* What the system can tell of two descriptors: asked once, for filters forbid it to whole processes. */
enum file_comparing {
        FILE_ORDER,     /* whether they stand for one open file description, and else an order that stays while both are open */
        FILE_EQUALITY,  /* only whether they do */
        FILE_NOTHING
};
enum file_comparing file_comparing(void);

/* 0 if both stand for one description, else their order (< 0, > 0). Needs FILE_ORDER. */
int file_compare_descriptions(int a, int b);
/* Without FILE_ORDER. False too when the system does not tell. */
bool file_same_description(int a, int b);

/* The path by which the system knows it now; "" when unknown. Cut at `size`. */
void file_path(int fd, char *out, size_t size);

/* Raise the soft limit of descriptors to the hard one; returns the limit. */
size_t file_limit_raise(void);

#endif
