/* Shared by files.c (bearers), files_idle.c (those that nobody needs now) and files_away.c (what is done on the lane). */
#ifndef FILES_INTERNAL_H
#define FILES_INTERNAL_H

#include "files.h"

#include "chains.h"
#include "hash.h"
#include "pool.h"

#include <sys/queue.h>
#include <uv.h>

struct bearer {                         /* its id is its pool's */
        struct file *file;
        int fd;
        uint32_t references;
        union {
                struct account *account;        /* passed: of whoever passed it first */
                struct keepsake *keepsake;      /* by path: it is worth keeping when nobody refers to it; files_idle.c */
        };
        uint32_t last_errands : 30;     /* on the lane, each since nobody referred to it; see let_go() */
        bool is_passed : 1, away : 1;
};

/* A passed description where the kernel tells no order. */
struct listed {
        struct bearer *bearer;
        SLIST_ENTRY(listed) entry;
};

/* What few files have. */
struct extra {
        /* The passed descriptions: a tree by the kernel's order of descriptions; where it tells no order, a list. */
        union {
                void *ordered;
                SLIST_HEAD(, listed) listed;
        };
        char *path;             /* as it was when first shown; NULL before */
};

/* Exists as long as a bearer of it does. */
struct file {
        struct table_key key;
        struct link by_key;
        struct bearer *shared;  /* for requests by path; NULL when none */
        struct extra *extra;    /* NULL: there is nothing in it */
        uint32_t bearers;
};

struct files_idle {
        uv_timer_t timer;               /* for the oldest */
        TAILQ_HEAD(keepsakes, keepsake) oldest_first;
        struct keepsake *by_path;       /* those in use too */
        size_t count;
        uint64_t keep_ms;
        struct {
                struct table_key key;
                uint64_t at_ms;
        } closed[FILES_KEEP_OPEN_MAX];       /* when, by a hash of the key */
};

struct files {
        uv_prepare_t turn_ends;
        unsigned handles;       /* not closed yet */
        struct pool file_pool, bearers; /* bearers: by id */
        struct chains by_key;           /* files */
        struct descriptors *descriptors;
        size_t expected;        /* descriptors that are being opened for locks */
        struct mounts *mounts;
        struct files_lanes lanes;
        enum file_comparing comparing;
        struct files_idle idle;
};

/* Whose it is; NULL: nobody's. */
struct account *files_account(const struct bearer *b);
/* Closes it. */
void files_remove_bearer(struct files *f, struct bearer *b);

/* ---- files_idle.c ---- */
void files_idle_start(struct files *f, uv_loop_t *loop, uint64_t keep_open_ms);
void files_idle_stop(struct files *f, uv_close_cb closed);
/* The bearer has just been opened by `path`: is it to be kept later? */
void files_idle_expect(struct files *f, struct bearer *b, const char *path);
/* Nobody refers to it any more: true if it is kept, else it is to be closed. */
bool files_idle_keep(struct files *f, struct bearer *b);
/* Somebody refers to it again. */
void files_idle_take(struct files *f, struct bearer *b);
/* It is about to be closed. */
void files_idle_forget(struct files *f, struct bearer *b);
/* It is kept no longer: closed at once if nobody refers to it. */
void files_idle_end(struct files *f, struct bearer *b);
/* The kept one that was opened by `path`, if nobody refers to it; or NULL. */
struct bearer *files_idle_find(struct files *f, const char *path);
void files_idle_close_all(void *files);

/* close(2) on a file that may hang: on the lane, behind what is still to be done there on the bearer `key` (0: none). */
void files_close_away(struct files *f, struct account *account, int fd, uint64_t key);
void files_close_now(struct files *f, struct account *account, int fd);

/* `then`, when all has been done on the lane that was asked for on the bearer until now; not after the lane's end. False: out of memory. */
bool files_after_errands(struct files *f, struct account *account, uint64_t bearer, void (*then)(struct files *f, uint64_t bearer));

/* A descriptor opened by path (expected, consumed) becomes the shared bearer, or gives way to it. */
enum files_result files_take_opened(struct files *f, int fd, const struct file_identity *id, struct table_key *key, uint64_t *bearer, struct file_error *e);
bool files_out_of_descriptors(const struct file_error *e);

#endif
