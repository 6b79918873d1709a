#include "files.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct bearer {
        uint64_t id;
        struct file *file;
        int fd;
        size_t references;
        bool passed;
        UT_hash_handle hh;
};

/* Exists as long as a bearer of it does. */
struct file {
        struct table_key key;
        struct bearer *shared;  /* for requests by path; NULL when none */
        void *passed;           /* tsearch(3) tree of the passed descriptions, by the kernel's order of descriptions */
        size_t bearers;
        UT_hash_handle hh;
};

struct files {
        struct file *files;
        struct bearer *bearers;
        size_t limit;
        uint64_t last_id;
};

static int by_description(const void *a, const void *b)
{
        const struct bearer *x = a, *y = b;

        return file_compare_descriptions(x->fd, y->fd);
}

struct files *files_create(size_t limit)
{
        struct files *f = calloc(1, sizeof *f);

        if (f != NULL)
                f->limit = limit;
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
        free(file);
}

static struct file *get_file(struct files *f, const struct table_key *key)
{
        struct file *file = find_file(f, key);

        if (file != NULL)
                return file;
        file = calloc(1, sizeof *file);
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
        b = calloc(1, sizeof *b);
        if (b == NULL)
                goto fail;
        b->id = ++f->last_id;
        b->file = file;
        b->fd = fd;
        b->references = 1;
        b->passed = passed;
        if (passed && tsearch(b, &file->passed, by_description) == NULL)
                goto fail;
        HASH_ADD(hh, f->bearers, id, sizeof b->id, b);
        if (b->hh.tbl == NULL) {
                if (passed)
                        tdelete(b, &file->passed, by_description);
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
                tdelete(b, &file->passed, by_description);
        if (file->shared == b)
                file->shared = NULL;
        HASH_DELETE(hh, f->bearers, b);
        close(b->fd);
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
        e->syscall = "open";
        e->error = EMFILE;
        return FILES_FULL;
}

static bool out_of_descriptors(const struct file_error *e)
{
        return e->error == EMFILE || e->error == ENFILE;
}

enum files_result files_open(struct files *f, const char *path, bool create, struct table_key *key, uint64_t *bearer, struct file_error *e)
{
        struct file_identity id;
        struct bearer *b;
        struct file *file;
        int fd;

        /* Usually somebody has it already: then a stat is enough, and 100,000 waiters need one descriptor. */
        if (file_stat(path, &id, e) == 0) {
                *key = (struct table_key){id.device, id.inode};
                file = find_file(f, key);
                if (file != NULL && file->shared != NULL) {
                        file->shared->references++;
                        *bearer = file->shared->id;
                        return FILES_OK;
                }
        } else if (e->error != ENOENT) {
                return FILES_ERROR;
        }
        if (files_count(f) >= f->limit)
                return full(e);
        fd = file_open(path, create, &id, e);
        if (fd < 0)
                return out_of_descriptors(e) ? FILES_FULL : FILES_ERROR;
        *key = (struct table_key){id.device, id.inode};
        b = add_bearer(f, key, fd, false);
        if (b == NULL) {
                close(fd);
                return full(e);
        }
        if (b->file->shared == NULL)
                b->file->shared = b;
        *bearer = b->id;
        return FILES_OK;
}

enum files_result files_adopt(struct files *f, int fd, struct table_key *key, uint64_t *bearer, struct file_error *e)
{
        struct bearer *b, probe = {.fd = fd};
        struct file_identity id;
        struct file *file;
        void *found;

        if (file_identify(fd, &id, e) != 0) {
                close(fd);
                return FILES_ERROR;
        }
        *key = (struct table_key){id.device, id.inode};
        file = find_file(f, key);
        found = file != NULL ? tfind(&probe, &file->passed, by_description) : NULL;
        if (found != NULL) {
                close(fd);
                b = *(struct bearer **)found;
                b->references++;
                *bearer = b->id;
                return FILES_OK;
        }
        b = files_count(f) < f->limit ? add_bearer(f, key, fd, true) : NULL;
        if (b == NULL) {
                close(fd);
                return full(e);
        }
        *bearer = b->id;
        return FILES_OK;
}

enum files_result files_fresh(struct files *f, uint64_t bearer, uint64_t *fresh, struct file_error *e)
{
        struct bearer *old = find_bearer(f, bearer), *b;
        int fd;

        fd = file_reopen(old->fd, e);
        if (fd < 0)
                return FILES_ERROR;
        b = add_bearer(f, &old->file->key, fd, false);
        if (b == NULL) {
                close(fd);
                return full(e);
        }
        *fresh = b->id;
        return FILES_OK;
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

void files_drop(struct files *f, uint64_t bearer)
{
        struct bearer *b = find_bearer(f, bearer);

        if (b != NULL && --b->references == 0)
                remove_bearer(f, b);
}

int files_fd(const struct files *f, uint64_t bearer)
{
        struct bearer *b = find_bearer(f, bearer);

        return b != NULL ? b->fd : -1;
}

void files_path(const struct files *f, uint64_t bearer, char *out, size_t size)
{
        out[0] = '\0';
        if (files_fd(f, bearer) >= 0)
                file_path(files_fd(f, bearer), out, size);
}

int files_identify(const char *path, struct table_key *key, struct file_error *e)
{
        struct file_identity id;

        if (file_stat(path, &id, e) != 0)
                return -1;
        *key = (struct table_key){id.device, id.inode};
        return 0;
}

void files_discard(int fd)
{
        if (fd >= 0)
                close(fd);
}

size_t files_count(const struct files *f)
{
        return HASH_COUNT(f->bearers);
}
