#include "files_internal.h"

#include "tree.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int by_description(const void *a, const void *b)
{
        const struct bearer *x = a, *y = b;

        return file_compare_descriptions(x->fd, y->fd);
}

static bool list_passed(struct files *f, struct bearer *b)
{
        if (f->comparing == FILE_ORDER)
                return tree_insert(b, &b->file->ordered, by_description);
        LIST_INSERT_HEAD(&b->file->listed, b, entry);
        return true;
}

static void unlist_passed(struct files *f, struct bearer *b)
{
        if (f->comparing == FILE_ORDER)
                tree_remove(b, &b->file->ordered, by_description);
        else
                LIST_REMOVE(b, entry);
}

/* The bearer of the description behind `fd`, or NULL. */
static struct bearer *find_passed(struct files *f, struct file *file, int fd)
{
        struct bearer *b, probe = {.fd = fd};

        if (f->comparing == FILE_ORDER)
                return tree_find(&probe, &file->ordered, by_description);
        LIST_FOREACH(b, &file->listed, entry) {
                if (file_same_description(b->fd, fd))
                        return b;
        }
        return NULL;
}

struct files *files_create(uv_loop_t *loop, struct descriptors *descriptors, struct mounts *mounts, const struct files_lanes *lanes, uint64_t keep_open_ms)
{
        struct files *f = calloc(1, sizeof *f);

        if (f == NULL)
                return NULL;
        files_idle_start(f, loop, keep_open_ms);
        f->descriptors = descriptors;
        f->mounts = mounts;
        f->lanes = *lanes;
        f->comparing = file_comparing();
        descriptors_lend(descriptors, files_idle_close_all, f);
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

/* A bearer with one reference around `fd`, which stays the caller's when this fails. `away`: what is done with it may hang. */
static struct bearer *add_bearer(struct files *f, const struct table_key *key, int fd, bool passed, bool away)
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
        b->away = away;
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

void files_remove_bearer(struct files *f, struct bearer *b)
{
        struct file *file = b->file;

        files_idle_forget(f, b);
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
        descriptors_lend(f->descriptors, NULL, NULL);
        HASH_ITER(hh, f->bearers, b, next)
                files_remove_bearer(f, b);
        files_idle_stop(f);
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

/* One reference more. */
static uint64_t use(struct files *f, struct bearer *b)
{
        if (b->references++ == 0)
                files_idle_take(f, b);
        return b->id;
}

/* The shared bearer if there is one: then 100,000 waiters need one descriptor. */
static bool join_shared(struct files *f, const struct table_key *key, uint64_t *bearer)
{
        struct file *file = find_file(f, key);

        if (file == NULL || file->shared == NULL)
                return false;
        *bearer = use(f, file->shared);
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
        b = add_bearer(f, key, fd, false, !file_is_local(f->mounts, fd, id));
        if (b == NULL) {
                files_discard(f, NULL, fd);
                return no_memory(e);
        }
        b->file->shared = b;
        *bearer = b->id;
        return FILES_OK;
}

bool files_recall(struct files *f, const char *path, struct table_key *key, uint64_t *bearer)
{
        struct bearer *b = files_idle_find(f, path);

        if (b == NULL)
                return false;
        *key = b->file->key;
        *bearer = use(f, b);
        return true;
}

void files_do_not_keep(struct files *f, uint64_t bearer)
{
        struct bearer *b = find_bearer(f, bearer);

        if (b != NULL)
                files_idle_end(f, b);
}

enum files_result files_open(struct files *f, const char *path, bool create, struct table_key *key, uint64_t *bearer, struct file_error *e)
{
        enum files_result result;
        struct file_identity glanced, id;
        bool exists = false;
        int fd;

        switch (file_glance(f->mounts, path, &glanced, e)) {
        case FILE_BAD:
                return FILES_ERROR;
        case FILE_AWAY:
                return FILES_AWAY;
        case FILE_LOCAL:
                *key = (struct table_key){glanced.device, glanced.inode};
                if (join_shared(f, key, bearer))
                        return FILES_OK;
                exists = true;
                break;
        case FILE_MISSING:
                break;
        }
        if (!files_expect(f))
                return full(e);
        fd = file_open(path, create, exists ? &glanced : NULL, &id, e);
        if (fd < 0) {
                files_expect_none(f, -1);
                return files_out_of_descriptors(e) ? FILES_FULL : FILES_ERROR;
        }
        result = files_take_opened(f, fd, &id, key, bearer, e);
        if (result == FILES_OK)
                files_idle_expect(f, find_bearer(f, *bearer), path);
        return result;
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
        b = add_bearer(f, key, fd, true, !file_is_local(f->mounts, fd, &id));
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
        const struct bearer *like = find_bearer(f, bearer);
        struct bearer *b;

        f->expected--;
        b = add_bearer(f, &like->file->key, fd, false, like->away);
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
                files_remove_bearer(f, b);
}

/*
 * Nobody refers to it any more. On the lane there may still be an unlock for it, though, and the client may pass the same description again at once: that must be
 * this very bearer, so that what is done on it then is done after the unlock, and not undone by it.
 */
static void let_go(struct files *f, struct bearer *b)
{
        if (b->passed && b->away && files_after_errands(f, b->account, b->id, errands_done))
                b->last_errands++;
        else if (b->last_errands == 0 && !files_idle_keep(f, b))
                files_remove_bearer(f, b);
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

int files_fd_here(const struct files *f, uint64_t bearer)
{
        struct bearer *b = find_bearer(f, bearer);

        return b != NULL && !b->away ? b->fd : -1;
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
        return HASH_COUNT(f->bearers) - f->idle.count;
}

const struct descriptors *files_descriptors(const struct files *f)
{
        return f->descriptors;
}
