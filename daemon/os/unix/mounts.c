/* /proc/self/mountinfo, proc(5): read again after each change, of which its poll(2) tells by POLLPRI. */
#include "mounts.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <uv.h>

static const char *const local_types[] = {
        "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "jfs", "zfs", "bcachefs", "nilfs2", "tmpfs", "ramfs", "devtmpfs", "hugetlbfs",
        "overlay", "squashfs", "erofs", "vfat", "exfat", "ntfs3", "udf", "iso9660", "proc", "sysfs", "cgroup2"};

struct mount {
        uint64_t id, device;
        bool local;
};

struct mounts {
        uv_poll_t poll;
        int fd;                 /* of mountinfo; -1: cannot be watched */
        bool fresh;
        struct mount *rows;     /* by id */
        size_t count;
};

static int by_id(const void *a, const void *b)
{
        const struct mount *x = a, *y = b;

        return x->id < y->id ? -1 : x->id > y->id;
}

static bool is_local_type(const char *type, size_t len)
{
        size_t i;

        for (i = 0; i < sizeof local_types / sizeof local_types[0]; i++) {
                if (strlen(local_types[i]) == len && memcmp(local_types[i], type, len) == 0)
                        return true;
        }
        return false;
}

/* "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw": the type stands behind the dash. */
static bool parse(const char *line, struct mount *m)
{
        unsigned device_major, device_minor;
        const char *type = strstr(line, " - ");
        unsigned long long id;

        if (type == NULL || sscanf(line, "%llu %*u %u:%u", &id, &device_major, &device_minor) != 3)
                return false;
        type += 3;
        *m = (struct mount){.id = id, .device = (uint64_t)makedev(device_major, device_minor), .local = is_local_type(type, strcspn(type, " \n"))};
        return true;
}

static void read_again(struct mounts *m)
{
        struct mount *grown;
        size_t cap = 0, room = 0;
        char *line = NULL;
        FILE *f = fopen("/proc/self/mountinfo", "re");

        free(m->rows);
        m->rows = NULL;
        m->count = 0;
        m->fresh = m->fd >= 0 && f != NULL;
        while (f != NULL && getline(&line, &room, f) > 0) {
                if (m->count == cap) {
                        grown = realloc(m->rows, (cap = cap == 0 ? 64 : cap * 2) * sizeof *grown);
                        if (grown == NULL) {
                                m->fresh = false;       /* the rest is not known to be local now */
                                break;
                        }
                        m->rows = grown;
                }
                m->count += parse(line, &m->rows[m->count]);
        }
        free(line);
        if (f != NULL)
                fclose(f);
        if (m->count > 0)
                qsort(m->rows, m->count, sizeof *m->rows, by_id);
}

static void on_changed(uv_poll_t *poll, int status, int events)
{
        struct mounts *m = poll->data;

        (void)status;
        (void)events;
        m->fresh = false;
}

struct mounts *mounts_create(uv_loop_t *loop)
{
        struct mounts *m = calloc(1, sizeof *m);

        if (m == NULL)
                return NULL;
        m->fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
        if (m->fd >= 0 && uv_poll_init(loop, &m->poll, m->fd) != 0) {
                close(m->fd);
                m->fd = -1;
        }
        if (m->fd >= 0) {
                m->poll.data = m;
                uv_poll_start(&m->poll, UV_PRIORITIZED, on_changed);
        }
        return m;
}

static void on_closed(uv_handle_t *handle)
{
        struct mounts *m = handle->data;

        close(m->fd);
        free(m->rows);
        free(m);
}

void mounts_destroy(struct mounts *m)
{
        if (m == NULL)
                return;
        if (m->fd >= 0) {
                uv_close((uv_handle_t *)&m->poll, on_closed);
                return;
        }
        free(m->rows);
        free(m);
}

bool mounts_is_local(struct mounts *m, uint64_t mount_id, uint64_t device)
{
        struct mount key = {.id = mount_id}, *found = NULL;
        size_t i;

        if (!m->fresh)
                read_again(m);
        if (mount_id != 0 && m->count > 0)
                found = bsearch(&key, m->rows, m->count, sizeof key, by_id);
        if (found != NULL)
                return found->local;
        for (i = 0; i < m->count; i++) {
                if (m->rows[i].device == device)
                        return m->rows[i].local;
        }
        return major((dev_t)device) != 0;
}
