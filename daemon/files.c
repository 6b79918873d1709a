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

/* NULL: no memory. */
static struct extra *get_extra(struct file *file)
{
        if (file->extra == NULL)
                file->extra = zeroed(sizeof *file->extra);
        return file->extra;
}

static bool list_passed(struct files *f, struct bearer *b)
{
        struct extra *extra = get_extra(b->file);
        struct listed *l;

        if (extra == NULL)
                return false;
        if (f->comparing == FILE_ORDER)
                return tree_insert(b, &extra->ordered, by_description);
        l = malloc(sizeof *l);
        if (l == NULL)
                return false;
        l->bearer = b;
        SLIST_INSERT_HEAD(&extra->listed, l, entry);
        return true;
}

static void unlist_passed(struct files *f, struct bearer *b)
{
        struct extra *extra = b->file->extra;
        struct listed *l;

        if (f->comparing == FILE_ORDER) {
                tree_remove(b, &extra->ordered, by_description);
                return;
        }
        SLIST_FOREACH(l, &extra->listed, entry)
                if (l->bearer == b)
                        break;
        SLIST_REMOVE(&extra->listed, l, listed, entry);
        free(l);
}

/* The bearer of the description behind `fd`, or NULL. */
static struct bearer *find_passed(struct files *f, struct file *file, int fd)
{
        struct bearer probe = {.fd = fd};
        const struct listed *l;

        if (file->extra == NULL)
                return NULL;
        if (f->comparing == FILE_ORDER)
                return tree_find(&probe, &file->extra->ordered, by_description);
        SLIST_FOREACH(l, &file->extra->listed, entry) {
                if (file_same_description(l->bearer->fd, fd))
                        return l->bearer;
        }
        return NULL;
}

/* By now who waits for an answer has it. */
static void on_turn_ends(uv_prepare_t *prepare)
{
        (void)prepare;
        file_end_glance();
}

static uint64_t key_hash(const struct table_key *key)
{
        return chains_mix(chains_mix(key->device) ^ key->inode);
}

#define FILE_OF(l) chains_owner(l, struct file, by_key)

static uint64_t hash_of_file(const struct link *l)
{
        return key_hash(&FILE_OF(l)->key);
}

struct files *files_create(uv_loop_t *loop, struct descriptors *descriptors, struct mounts *mounts, const struct files_lanes *lanes, uint64_t keep_open_ms)
{
        struct files *f = calloc(1, sizeof *f);

        if (f == NULL || !chains_init(&f->by_key, hash_of_file)) {
                free(f);
                return NULL;
        }
        pool_init(&f->file_pool, sizeof(struct file), false);
        pool_init(&f->bearers, sizeof(struct bearer), true);
        files_idle_start(f, loop, keep_open_ms);
        uv_prepare_init(loop, &f->turn_ends);
        uv_prepare_start(&f->turn_ends, on_turn_ends);  /* libuv begins with those that were started last: the transport's, which writes, comes before it */
        uv_unref((uv_handle_t *)&f->turn_ends);
        f->turn_ends.data = f;
        f->handles = 2;
        f->descriptors = descriptors;
        f->mounts = mounts;
        f->lanes = *lanes;
        f->comparing = file_comparing();
        descriptors_lend(descriptors, files_idle_close_all, f);
        return f;
}

static struct file *find_file(struct files *f, const struct table_key *key)
{
        struct link *l;

        for (l = chains_first(&f->by_key, key_hash(key)); l != NULL; l = chains_next(l))
                if (FILE_OF(l)->key.inode == key->inode && FILE_OF(l)->key.device == key->device)
                        return FILE_OF(l);
        return NULL;
}

static void free_if_unused(struct files *f, struct file *file)
{
        if (file->bearers > 0)
                return;
        chains_remove(&f->by_key, &file->by_key);
        if (file->extra != NULL)
                free(file->extra->path);
        free(file->extra);
        pool_give(&f->file_pool, file);
}

static struct file *get_file(struct files *f, const struct table_key *key)
{
        struct file *file = find_file(f, key);

        if (file != NULL)
                return file;
        file = chains_reserve(&f->by_key, 1) ? pool_take(&f->file_pool) : NULL;
        if (file == NULL)
                return NULL;
        file->key = *key;
        chains_add(&f->by_key, &file->by_key);
        return file;
}

/* A bearer with one reference around `fd`, which stays the caller's when this fails. `away`: what is done with it may hang. */
static struct bearer *add_bearer(struct files *f, const struct table_key *key, int fd, bool passed, bool away)
{
        struct file *file = get_file(f, key);
        struct bearer *b;

        if (file == NULL)
                return NULL;
        b = pool_take(&f->bearers);
        if (b == NULL)
                goto fail;
        b->file = file;
        b->fd = fd;
        b->references = 1;
        b->is_passed = passed;
        b->away = away;
        if (passed && !list_passed(f, b)) {
                pool_give(&f->bearers, b);
                goto fail;
        }
        file->bearers++;
        return b;
fail:
        free_if_unused(f, file);
        return NULL;
}

static struct bearer *find_bearer(const struct files *f, uint64_t id)
{
        return pool_find(&f->bearers, id);
}

static uint64_t id_of(const struct files *f, const struct bearer *b)
{
        return pool_id(&f->bearers, b);
}

struct account *files_account(const struct bearer *b)
{
        return b->is_passed ? b->account : NULL;
}

void files_remove_bearer(struct files *f, struct bearer *b)
{
        struct file *file = b->file;

        files_idle_forget(f, b);
        if (b->is_passed)
                unlist_passed(f, b);
        if (file->shared == b)
                file->shared = NULL;
        if (b->away)
                files_close_away(f, files_account(b), b->fd, id_of(f, b));
        else
                files_close_now(f, files_account(b), b->fd);
        pool_give(&f->bearers, b);
        file->bearers--;
        free_if_unused(f, file);
}

static void on_closed(uv_handle_t *handle)
{
        struct files *f = handle->data;

        if (--f->handles == 0)
                free(f);
}

void files_destroy(struct files *f)
{
        struct bearer *b;
        uint64_t i;

        if (f == NULL)
                return;
        descriptors_lend(f->descriptors, NULL, NULL);
        for (i = 0; (b = pool_next(&f->bearers, &i)) != NULL; i++)
                files_remove_bearer(f, b);
        pool_clear(&f->bearers);
        pool_clear(&f->file_pool);
        chains_clear(&f->by_key);
        file_end_glance();
        files_idle_stop(f, on_closed);
        uv_close((uv_handle_t *)&f->turn_ends, on_closed);
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
        return id_of(f, b);
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
        *bearer = id_of(f, b);
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
                *bearer = id_of(f, b);
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
        *bearer = id_of(f, b);
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
        *fresh = id_of(f, b);
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
        if (b->is_passed && b->away && files_after_errands(f, files_account(b), id_of(f, b), errands_done))
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
        if (b->file->extra != NULL && b->file->extra->path != NULL) {
                snprintf(out, size, "%s", b->file->extra->path);
                return;
        }
        file_path(b->fd, out, size);
        if (out[0] != '\0' && get_extra(b->file) != NULL)
                b->file->extra->path = strdup(out);     /* no memory: then it is asked for again */
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

        return b != NULL ? account_user(files_account(b)) : 0;
}

size_t files_count(const struct files *f)
{
        return f->bearers.used - f->idle.count;
}

const struct descriptors *files_descriptors(const struct files *f)
{
        return f->descriptors;
}
