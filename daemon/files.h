/*
 * Owns the descriptors that bear locks. The rest of the daemon knows a bearer by an opaque id with a count of references.
 *
 * All requests by path of one file share one description. Each passed description has one bearer, however often it is passed: a new
 * duplicate of a known one is closed and the known bearer returned. Those of paths that are locked again and again are kept a while when nobody needs them.
 *
 * On the loop only files are touched that are known to be local (os/mounts.h): a network file system that hangs must not stop the daemon. Paths that
 * lead elsewhere are looked up on the lane, and its descriptors are closed there, in order with whatever else is done on the same bearer.
 */
#ifndef FILES_H
#define FILES_H

#include "account.h"
#include "descriptors.h"
#include "file.h"
#include "lane.h"
#include "table.h"

struct files;

enum files_result {
        FILES_OK,
        FILES_ERROR,    /* *e */
        FILES_FULL,     /* too few free descriptors, or no memory */
        FILES_AWAY      /* the path leads to where looking might hang: ask again by files_look_up() */
};

/* `slow` for what may hang; `disk` for ways that are on a local disk, but in no cache: they must not stand behind what hangs. */
struct files_lanes {
        struct lane *slow, *disk;
};

/* Of those that are kept. */
#define FILES_KEEP_OPEN_MAX 256
#define FILES_KEEP_OPEN_MS_MAX 2000

/* All descriptors that pass through here are counted in `descriptors`, which outlives the loop's last turn. What is kept is kept for
   keep_open_ms; 0: nothing is. */
struct files *files_create(uv_loop_t *loop, struct descriptors *descriptors, struct mounts *mounts, const struct files_lanes *lanes, uint64_t keep_open_ms);
void files_destroy(struct files *f);    /* closes everything, unlocks nothing by itself; before the lane. The loop must run once more. */

/* The shared bearer of the file that `path` names now; one reference. */
enum files_result files_open(struct files *f, const char *path, bool create, struct table_key *key, uint64_t *bearer, struct file_error *e);

/*
 * The bearer of the file to which `path` led a moment ago, when it was locked and unlocked and nobody has wanted it since: one reference, and nothing was looked at.
 * Only who gets the lock then, and finds by files_identify() that the path still leads there, may be told anything of it; all others ask files_open(). False: there is none.
 */
bool files_recall(struct files *f, const char *path, struct table_key *key, uint64_t *bearer);
/* The path by which it was opened leads elsewhere now. */
void files_do_not_keep(struct files *f, uint64_t bearer);

/* A descriptor was received for `account`; -1 is none. It ends in files_adopt() or files_discard(). */
void files_received(struct files *f, struct account *account, int fd);

/* The bearer of a received descriptor, which is consumed in every case; one reference. A new one counts for the account as long as it lives. */
enum files_result files_adopt(struct files *f, struct account *account, int fd, struct table_key *key, uint64_t *bearer, struct file_error *e);

/* Room for one descriptor more, which is to become files_fresh(): false when there is none. It counts at once. */
bool files_expect(struct files *f);
/* It is not needed after all (consumed), or could not be had (-1). */
void files_expect_none(struct files *f, int fd);

/* A new bearer of the file of `bearer` around `fd` (expected, from file_reopen(); consumed in every case); one reference. It becomes the file's shared one by files_share(). */
enum files_result files_fresh(struct files *f, uint64_t bearer, int fd, uint64_t *fresh);
void files_share(struct files *f, uint64_t bearer);

/* One reference more. */
void files_keep(struct files *f, uint64_t bearer);

/* One reference back; the last one closes the descriptor (which alone unlocks nothing that somebody else still has open). */
void files_drop(struct files *f, uint64_t bearer);

/* The descriptor, borrowed; -1 for an unknown id. */
int files_fd(const struct files *f, uint64_t bearer);
/* The same for what is done on the loop: -1 too if that may hang. */
int files_fd_here(const struct files *f, uint64_t bearer);

/*
 * The path by which the system knew the bearer's file when this was first asked; "" when unknown. It stays while the file has bearers: a lock file that
 * is removed while it is held keeps its name.
 */
void files_path(const struct files *f, uint64_t bearer, char *out, size_t size);
/* The path of this very description, as whoever has it can find out for himself: its file may have other names, in folders that are not his to see. */
void files_own_path(const struct files *f, uint64_t bearer, char *out, size_t size);

/* Whose it is, for shares of helper threads: account_user(). */
uint64_t files_user(const struct files *f, uint64_t bearer);

/* The identity of what `path` names now: FILES_OK, FILES_ERROR or FILES_AWAY. */
enum files_result files_identify(struct files *f, const char *path, struct table_key *key, struct file_error *e);

/* What a path was found to lead to. */
struct files_found {
        enum files_result result;       /* not FILES_AWAY */
        struct table_key key;
        uint64_t bearer;                /* of an opened path: one reference, now the callee's; else 0 */
        struct file_error error;
};
typedef void files_found_fn(void *arg, uint64_t ticket, const struct files_found *found);

enum files_purpose { FILES_TO_OPEN, FILES_TO_CREATE, FILES_TO_IDENTIFY };

/* Look a path up off the loop, however long that takes: exactly one `found`, later, unless the daemon ends before. Returns 0, -ENOMEM or -EMFILE. */
int files_look_up(struct files *f, const char *path, enum files_purpose purpose, files_found_fn *found, void *arg, uint64_t ticket);

/* May an operation on this bearer hang? Then it belongs on the lane, with the bearer's id as its key. */
bool files_is_away(const struct files *f, uint64_t bearer);

/* Close a descriptor received for `account`; -1 is none. */
void files_discard(struct files *f, struct account *account, int fd);

/* Descriptors that bear locks, or may. Without those that are only kept. */
size_t files_count(const struct files *f);
const struct descriptors *files_descriptors(const struct files *f);

#endif
