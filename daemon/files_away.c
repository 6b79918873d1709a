/* Files that may hang: looked up and closed on the lane. */
#include "files_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- closing: close(2) flushes ---- */

struct closing {
        struct lane_job job;
        struct descriptors *descriptors;
        struct account *account;
        int fd;
};

static void closed(struct descriptors *d, struct account *account)
{
        descriptors_remove(d);
        account_remove(account, ACCOUNT_DESCRIPTORS);
}

static void close_work(struct lane_job *job)
{
        file_close(((struct closing *)job)->fd);
}

static void close_done(struct lane_job *job)
{
        const struct closing *c = (const struct closing *)job;

        closed(c->descriptors, c->account);
        free(job);
}

void files_close_now(struct files *f, struct account *account, int fd)
{
        file_close(fd);
        closed(f->descriptors, account);
}

void files_close_away(struct files *f, struct account *account, int fd, uint64_t key)
{
        struct closing *c = malloc(sizeof *c);

        if (c == NULL) {
                files_close_now(f, account, fd);
                return;
        }
        *c = (struct closing){.job = {.work = close_work, .done = close_done, .key = key, .user = account_user(account)},
                              .descriptors = f->descriptors, .account = account, .fd = fd};
        lane_submit(f->lanes.slow, &c->job);
}

void files_discard(struct files *f, struct account *account, int fd)
{
        if (fd < 0)
                return;
        if (file_is_local(f->mounts, fd, NULL))
                files_close_now(f, account, fd);
        else
                files_close_away(f, account, fd, 0);
}

/* ---- the end of the errands ---- */

struct last_errand {
        struct lane_job job;
        struct files *files;
        uint64_t bearer;
        void (*then)(struct files *f, uint64_t bearer);
};

static void do_nothing(struct lane_job *job)
{
        (void)job;
}

static void last_errand_done(struct lane_job *job)
{
        const struct last_errand *l = (const struct last_errand *)job;

        if (!job->dropped)
                l->then(l->files, l->bearer);
        free(job);
}

bool files_after_errands(struct files *f, struct account *account, uint64_t bearer, void (*then)(struct files *f, uint64_t bearer))
{
        struct last_errand *l = malloc(sizeof *l);

        if (l == NULL)
                return false;
        *l = (struct last_errand){.job = {.work = do_nothing, .done = last_errand_done, .key = bearer, .user = account_user(account)},
                                  .files = f, .bearer = bearer, .then = then};
        lane_submit(f->lanes.slow, &l->job);
        return true;
}

/* ---- looking paths up ---- */

struct look_up {
        struct lane_job job;
        struct files *files;
        files_found_fn *found;
        void *arg;
        uint64_t ticket;
        enum files_purpose purpose;
        int folder;                     /* where the walk begins */
        const char *rest;
        int fd;
        struct file_identity id;
        struct file_error error;        /* error 0: it worked */
        char path[];
};

static void look_up_work(struct lane_job *job)
{
        struct look_up *l = (struct look_up *)job;

        if (l->purpose == FILES_TO_IDENTIFY)
                (void)file_stat(l->path, &l->id, &l->error);
        else
                l->fd = file_open(l->path, l->purpose == FILES_TO_CREATE, NULL, &l->id, &l->error);
}

static void look_up_done(struct lane_job *job)
{
        struct look_up *l = (struct look_up *)job;
        struct files_found found = {.result = FILES_OK, .error = l->error};

        if (l->job.dropped) {
                if (l->fd >= 0)
                        file_close(l->fd);
                free(l);
                return;
        }
        if (l->error.error != 0 && l->purpose != FILES_TO_IDENTIFY)
                files_expect_none(l->files, -1);
        if (l->error.error != 0)
                found.result = files_out_of_descriptors(&l->error) ? FILES_FULL : FILES_ERROR;
        else if (l->purpose == FILES_TO_IDENTIFY)
                found.key = (struct table_key){l->id.device, l->id.inode};
        else
                found.result = files_take_opened(l->files, l->fd, &l->id, &found.key, &found.bearer, &found.error);
        l->found(l->arg, l->ticket, &found);
        free(l);
}

/* Off the loop, however long it takes. False: no descriptor is left. */
static bool look_up_slowly(struct look_up *l)
{
        if (l->purpose != FILES_TO_IDENTIFY && !files_expect(l->files))
                return false;
        l->job = (struct lane_job){.work = look_up_work, .done = look_up_done};
        lane_submit(l->files->lanes.slow, &l->job);
        return true;
}

static void walk_work(struct lane_job *job)
{
        struct look_up *l = (struct look_up *)job;

        file_walk(l->folder, l->rest);
}

static void walk_done(struct lane_job *job)
{
        struct look_up *l = (struct look_up *)job;
        struct files_found found = {0};
        struct files *f = l->files;

        file_close(l->folder);  /* a mere name */
        if (l->job.dropped) {
                free(l);
                return;
        }
        descriptors_remove(f->descriptors);
        if (l->purpose == FILES_TO_IDENTIFY)
                found.result = files_identify(f, l->path, &found.key, &found.error);
        else
                found.result = files_open(f, l->path, l->purpose == FILES_TO_CREATE, &found.key, &found.bearer, &found.error);
        if (found.result == FILES_AWAY && look_up_slowly(l))
                return;         /* it leaves the disk */
        if (found.result == FILES_AWAY)
                found = (struct files_found){.result = FILES_FULL, .error = {.syscall = "open", .error = EMFILE}};
        l->found(l->arg, l->ticket, &found);
        free(l);
}

int files_look_up(struct files *f, const char *path, enum files_purpose purpose, files_found_fn *found, void *arg, uint64_t ticket)
{
        size_t len = strlen(path) + 1;
        struct look_up *l = calloc(1, sizeof *l + len);

        if (l == NULL)
                return -ENOMEM;
        l->files = f;
        l->found = found;
        l->arg = arg;
        l->ticket = ticket;
        l->purpose = purpose;
        l->fd = -1;
        memcpy(l->path, path, len);
        l->folder = file_way(f->mounts, l->path, &l->rest);
        if (l->folder >= 0) {
                descriptors_add(f->descriptors);
                l->job = (struct lane_job){.work = walk_work, .done = walk_done};
                lane_submit(f->lanes.disk, &l->job);
                return 0;
        }
        if (look_up_slowly(l))
                return 0;
        free(l);
        return -EMFILE;
}
