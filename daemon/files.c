#include "files_internal.h"

#include <errno.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "hash.h"

struct bearer {
        uint64_t id;
        struct file *file;
        int fd;
        struct account *account;        /* of whoever passed it first */
        size_t references;
        size_t last_errands;    /* on the lane, each since nobody referred to it; see let_go() */
        bool passed, away;
        LIST_ENTRY(bearer) entry;       /* of file.listed */
        UT_hash_handle hh;
};

/* Exists as long as a bearer of it does. */
struct file {
        struct table_key key;
        struct bearer *shared;  /* for requests by path; NULL when none */
        /* The passed descriptions: a tsearch(3) tree by the kernel's order of descriptions; where it tells no order, a list. */
        void *ordered;
        LIST_HEAD(, bearer) listed;
        size_t bearers;
        char *path;             /* as it was when first shown; NULL before */
        UT_hash_handle hh;
};

static int by_description(const void *a, const void *b)
{
        const struct bearer *x = a, *y = b;

        return file_compare_descriptions(x->fd, y->fd);
}

static bool list_passed(struct files *f, struct bearer *b)
{
        if (f->comparing == FILE_ORDER)
                return tsearch(b, &b->file->ordered, by_description) != NULL;
        LIST_INSERT_HEAD(&b->file->listed, b, entry);
        return true;
}

static void unlist_passed(struct files *f, struct bearer *b)
{
        if (f->comparing == FILE_ORDER)
                tdelete(b, &b->file->ordered, by_description);
        else
                LIST_REMOVE(b, entry);
}

/* The bearer of the description behind `fd`, or NULL. */
static struct bearer *find_passed(struct files *f, struct file *file, int fd)
{
        struct bearer *b, probe = {.fd = fd};
        void *found;

        if (f->comparing == FILE_ORDER) {
                found = tfind(&probe, &file->ordered, by_description);
                return found != NULL ? *(struct bearer **)found : NULL;
        }
        LIST_FOREACH(b, &file->listed, entry) {
                if (file_same_description(b->fd, fd))
                        return b;
        }
        return NULL;
}

struct files *files_create(struct descriptors *descriptors, struct mounts *mounts, const struct files_lanes *lanes)
{
        struct files *f = calloc(1, sizeof *f);

        if (f == NULL)
                return NULL;
        f->descriptors = descriptors;
        f->mounts = mounts;
        f->lanes = *lanes;
        f->comparing = file_comparing();
        return f;
}

static struct file *find_file(struct files *f, const struct table_key *key)
{
        struct file *file;

        HASH_FIND(hh, f->files, key, sizeof *key, file);
        return file;
}

static void free_if_unused(struct files *f, struct file *file)
{
        if (file->bearers > 0)
                return;
        HASH_DELETE(hh, f->files, file);
        free(file->path);
        free(file);
}

static struct file *get_file(struct files *f, const struct table_key *key)
{
        struct file *file = find_file(f, key);

        if (file != NULL)
                return file;
        file = zeroed(sizeof *file);
        if (file == NULL)
                return NULL;
        file->key = *key;
        HASH_ADD(hh, f->files, key, sizeof file->key, file);
        if (file->hh.tbl == NULL) {     /* uthash ran out of memory */
                free(file);
                return NULL;
        }
        return file;
}

/* A bearer with one reference around `fd`, which stays the caller's when this fails. */
static struct bearer *add_bearer(struct files *f, const struct table_key *key, int fd, bool passed)
{
        struct file *file = get_file(f, key);
        struct bearer *b;

        if (file == NULL)
                return NULL;
        b = zeroed(sizeof *b);
        if (b == NULL)
                goto fail;
        b->id = ++f->last_id;
        b->file = file;
        b->fd = fd;
        b->references = 1;
        b->passed = passed;
        b->away = !file_is_local(f->mounts, fd);
        if (passed && !list_passed(f, b))
                goto fail;
        HASH_ADD(hh, f->bearers, id, sizeof b->id, b);
        if (b->hh.tbl == NULL) {
                if (passed)
                        unlist_passed(f, b);
                goto fail;
        }
        file->bearers++;
        return b;
fail:
        free(b);
        free_if_unused(f, file);
        return NULL;
}

static struct bearer *find_bearer(const struct files *f, uint64_t id)
{
        struct bearer *b;

        HASH_FIND(hh, f->bearers, &id, sizeof id, b);
        return b;
}

static void remove_bearer(struct files *f, struct bearer *b)
{
        struct file *file = b->file;

        if (b->passed)
                unlist_passed(f, b);
        if (file->shared == b)
                file->shared = NULL;
        HASH_DELETE(hh, f->bearers, b);
        if (b->away)
                files_close_away(f, b->account, b->fd, b->id);
        else
                files_close_now(f, b->account, b->fd);
        free(b);
        file->bearers--;
        free_if_unused(f, file);
}

void files_destroy(struct files *f)
{
        struct bearer *b, *next;

        if (f == NULL)
                return;
        HASH_ITER(hh, f->bearers, b, next)
                remove_bearer(f, b);
        free(f);
}

static enum files_result full(struct file_error *e)
{
        *e = (struct file_error){.syscall = "open", .error = EMFILE};
        return FILES_FULL;
}

static enum files_result no_memory(struct file_error *e)
{
        *e = (struct file_error){.syscall = "open", .error = ENOMEM};
        return FILES_ERROR;
}

bool files_out_of_descriptors(const struct file_error *e)
{
        return e->error == EMFILE || e->error == ENFILE;
}

void files_received(struct files *f, struct account *account, int fd)
{
        if (fd < 0)
                return;
        descriptors_add(f->descriptors);
        account_add(account, ACCOUNT_DESCRIPTORS);
}

/* May one more bear a lock? */
static bool has_room(const struct files *f)
{
        return files_count(f) + f->expected < descriptors_for_locks(f->descriptors);
}

bool files_expect(struct files *f)
{
        if (!has_room(f) || f->descriptors->level == DESCRIPTORS_EXHAUSTED)
                return false;
        f->expected++;
        descriptors_add(f->descriptors);
        return true;
}

void files_expect_none(struct files *f, int fd)
{
        f->expected--;
        if (fd >= 0)
                files_discard(f, NULL, fd);
        else
                descriptors_remove(f->descriptors);
}

/* The shared bearer if there is one: then 100,000 waiters need one descriptor. */
static bool join_shared(struct files *f, const struct table_key *key, uint64_t *bearer)
{
        struct file *file = find_file(f, key);

        if (file == NULL || file->shared == NULL)
                return false;
        file->shared->references++;
        *bearer = file->shared->id;
        return true;
}

enum files_result files_take_opened(struct files *f, int fd, const struct file_identity *id, struct table_key *key, uint64_t *bearer, struct file_error *e)
{
        struct bearer *b;

        *key = (struct table_key){id->device, id->inode};
        f->expected--;
        if (join_shared(f, key, bearer)) {
                files_discard(f, NULL, fd);
                return FILES_OK;
        }
        b = add_bearer(f, key, fd, false);
        if (b == NULL) {
                files_discard(f, NULL, fd);
                return no_memory(e);
        }
        b->file->shared = b;
        *bearer = b->id;
        return FILES_OK;
}

enum files_result files_open(struct files *f, const char *path, bool create, struct table_key *key, uint64_t *bearer, struct file_error *e)
{
        struct file_identity id;
        int fd;

        switch (file_glance(f->mounts, path, &id, e)) {
        case FILE_BAD:
                return FILES_ERROR;
        case FILE_AWAY:
                return FILES_AWAY;
        case FILE_LOCAL:
                *key = (struct table_key){id.device, id.inode};
                if (join_shared(f, key, bearer))
                        return FILES_OK;
                break;
        case FILE_MISSING:
                break;
        }
        if (!files_expect(f))
                return full(e);
        fd = file_open(path, create, &id, e);
        if (fd < 0) {
                files_expect_none(f, -1);
                return files_out_of_descriptors(e) ? FILES_FULL : FILES_ERROR;
        }
        return files_take_opened(f, fd, &id, key, bearer, e);
}

enum files_result files_adopt(struct files *f, struct account *account, int fd, struct table_key *key, uint64_t *bearer, struct file_error *e)
{
        struct file_identity id;
        struct file *file;
        struct bearer *b;

        if (file_identify(fd, &id, e) != 0) {
                files_discard(f, account, fd);
                return FILES_ERROR;
        }
        *key = (struct table_key){id.device, id.inode};
        file = find_file(f, key);
        b = file != NULL ? find_passed(f, file, fd) : NULL;
        if (b != NULL) {
                files_discard(f, account, fd);
                b->references++;
                *bearer = b->id;
                return FILES_OK;
        }
        if (!has_room(f)) {
                files_discard(f, account, fd);
                return full(e);
        }
        b = add_bearer(f, key, fd, true);
        if (b == NULL) {
                files_discard(f, account, fd);
                return no_memory(e);
        }
        b->account = account;
        *bearer = b->id;
        return FILES_OK;
}

enum files_result files_fresh(struct files *f, uint64_t bearer, int fd, uint64_t *fresh)
{
        struct bearer *b;

        f->expected--;
        b = add_bearer(f, &find_bearer(f, bearer)->file->key, fd, false);
        if (b == NULL) {
                files_discard(f, NULL, fd);
                return FILES_FULL;
        }
        *fresh = b->id;
        return FILES_OK;
}

enum files_result files_identify(struct files *f, const char *path, struct table_key *key, struct file_error *e)
{
        struct file_identity id;

        switch (file_glance(f->mounts, path, &id, e)) {
        case FILE_LOCAL:
                *key = (struct table_key){id.device, id.inode};
                return FILES_OK;
        case FILE_AWAY:
                return FILES_AWAY;
        case FILE_MISSING:
                *e = (struct file_error){.syscall = "stat", .error = ENOENT};
                break;
        case FILE_BAD:
                break;
        }
        return FILES_ERROR;
}

bool files_is_away(const struct files *f, uint64_t bearer)
{
        const struct bearer *b = find_bearer(f, bearer);

        return b != NULL && b->away;
}

void files_share(struct files *f, uint64_t bearer)
{
        struct bearer *b = find_bearer(f, bearer);

        b->file->shared = b;
}

void files_keep(struct files *f, uint64_t bearer)
{
        find_bearer(f, bearer)->references++;
}

static void errands_done(struct files *f, uint64_t bearer)
{
        struct bearer *b = find_bearer(f, bearer);

        if (b != NULL && --b->last_errands == 0 && b->references == 0)
                remove_bearer(f, b);
}

/*
 * Nobody refers to it any more. On the lane there may still be an unlock for it, though, and the client may pass the same description again at once: that must be
 * this very bearer, so that what is done on it then is done after the unlock, and not undone by it.
 */
static void let_go(struct files *f, struct bearer *b)
{
        if (b->passed && b->away && files_after_errands(f, b->account, b->id, errands_done))
                b->last_errands++;
        else if (b->last_errands == 0)
                remove_bearer(f, b);
}

void files_drop(struct files *f, uint64_t bearer)
{
        struct bearer *b = find_bearer(f, bearer);

        if (b != NULL && --b->references == 0)
                let_go(f, b);
}

int files_fd(const struct files *f, uint64_t bearer)
{
        struct bearer *b = find_bearer(f, bearer);

        return b != NULL ? b->fd : -1;
}

void files_path(const struct files *f, uint64_t bearer, char *out, size_t size)
{
        const struct bearer *b = find_bearer(f, bearer);

        out[0] = '\0';
        if (b == NULL)
                return;
        if (b->file->path != NULL) {
                snprintf(out, size, "%s", b->file->path);
                return;
        }
        file_path(b->fd, out, size);
        if (out[0] != '\0')
                b->file->path = strdup(out);    /* no memory: then it is asked for again */
}

void files_own_path(const struct files *f, uint64_t bearer, char *out, size_t size)
{
        const struct bearer *b = find_bearer(f, bearer);

        out[0] = '\0';
        if (b != NULL)
                file_path(b->fd, out, size);
}

uint64_t files_user(const struct files *f, uint64_t bearer)
{
        const struct bearer *b = find_bearer(f, bearer);

        return b != NULL ? account_user(b->account) : 0;
}

size_t files_count(const struct files *f)
{
        return HASH_COUNT(f->bearers);
}

const struct descriptors *files_descriptors(const struct files *f)
{
        return f->descriptors;
}
