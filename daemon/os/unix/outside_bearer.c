/*
 * Who has a lock that outlived its session? The kernel names the process that called flock() last, which was we ourselves, or one that has ended.
 * But the fdinfo of a descriptor tells which locks its open file description bears (proc(5)), so whoever has that description open is found by looking
 * through the descriptors of all processes that we may look at: those of our own uid, or all for root. Others stay unnamed.
 *
 * A command and its children share one description; each of them keeps the lock, and the one with the lowest pid, mostly the oldest, is named.
 * Descriptions that we have open as well bear locks of our clients. We look at our own last: what we had when a process was seen with it we have still,
 * or have let go of meanwhile, and then outside_knows_ours() says no.
 */
#include "outside_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <uv.h>

#define DESCRIPTORS_MAX 50000   /* that are looked at, */
#define LOOKS_MS 100            /* and for so long */
#define FOUND_MAX 1024

/* A process that has a description which bears one of the locks. */
struct bearer {
        struct outside_holder lock;
        int64_t pid;
        int fd;
        bool ours;
};

struct search {
        const struct outside_gap *gaps;
        size_t gap_count;
        struct bearer *found;   /* by pid, as the system lists them; ours at the end */
        size_t found_count;
        uint64_t until;         /* uv_hrtime() */
        unsigned looked_at;
        bool given_up;
};

static bool is_over(struct search *s)
{
        s->given_up = s->given_up || ++s->looked_at > DESCRIPTORS_MAX || uv_hrtime() > s->until;
        return s->given_up;
}

static int gap_compare(const void *key, const void *gap)
{
        return outside_compare(key, &((const struct outside_gap *)gap)->lock);
}

static void consider(struct search *s, const char *line, int64_t pid, int fd, bool ours)
{
        struct bearer b = {.pid = pid, .fd = fd, .ours = ours};

        if (!outside_parse(line, &b.lock) || bsearch(&b.lock, s->gaps, s->gap_count, sizeof *s->gaps, gap_compare) == NULL)
                return;
        if (s->found_count < FOUND_MAX)
                s->found[s->found_count++] = b;
        else
                s->given_up = true;
}

/* Its locks stand before what is particular to some kinds of files and may be long. */
static void look_at_descriptor(struct search *s, int folder, const char *name, int64_t pid, bool ours)
{
        char text[2048], *line, *rest;
        int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
        ssize_t n;

        if (fd < 0)
                return;
        n = read(fd, text, sizeof text - 1);
        close(fd);
        text[n > 0 ? n : 0] = '\0';
        for (line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
                if (strncmp(line, "lock:", 5) == 0)
                        consider(s, line + 5, pid, (int)strtol(name, NULL, 10), ours);
}

static DIR *open_folder(const char *path)
{
        return opendir(path);   /* with close-on-exec */
}

static void look_at_process(struct search *s, int64_t pid, bool ours)
{
        char path[64];
        struct dirent *e;
        DIR *dir;

        snprintf(path, sizeof path, "/proc/%lld/fdinfo", (long long)pid);
        dir = open_folder(path);
        while (dir != NULL && !is_over(s) && (e = readdir(dir)) != NULL)
                if (e->d_name[0] != '.')
                        look_at_descriptor(s, dirfd(dir), e->d_name, pid, ours);
        if (dir != NULL)
                closedir(dir);
}

static void look_at_all(struct search *s)
{
        int64_t self = getpid(), pid;
        DIR *dir = open_folder("/proc");
        struct dirent *e;
        char *end;

        while (dir != NULL && !is_over(s) && (e = readdir(dir)) != NULL) {
                pid = strtoll(e->d_name, &end, 10);
                if (pid > 0 && *end == '\0' && pid != self)
                        look_at_process(s, pid, false);
        }
        if (dir != NULL)
                closedir(dir);
}

/* Unknown (forbidden, or closed meanwhile) counts as the same: rather name nobody than somebody who does not have it. */
static bool may_be_same(int64_t a, int fd_a, int64_t b, int fd_b)
{
        long r = syscall(SYS_kcmp, (long)a, (long)b, (long)KCMP_FILE, (unsigned long)fd_a, (unsigned long)fd_b);

        return r != 1 && r != 2;        /* less, greater */
}

static bool is_a_clients(const struct search *s, const struct bearer *b)
{
        size_t i;

        for (i = 0; i < s->found_count; i++)
                if (s->found[i].ours && outside_compare(&s->found[i].lock, &b->lock) == 0 && may_be_same(s->found[i].pid, s->found[i].fd, b->pid, b->fd))
                        return true;
        return false;
}

/* Fill the first gap of that lock, unless its description has filled one already. */
static void fill(struct outside_gap *gaps, size_t count, const struct bearer *b)
{
        struct outside_gap *gap = bsearch(&b->lock, gaps, count, sizeof *gaps, gap_compare);
        uint64_t ignored;

        while (gap > gaps && gap_compare(&b->lock, gap - 1) == 0)
                gap--;
        for (; gap < gaps + count && gap_compare(&b->lock, gap) == 0; gap++) {
                if (gap->pid == 0) {
                        gap->pid = b->pid;
                        gap->fd = b->fd;
                        gap->row->pid = b->pid;
                        gap->row->command[0] = '\0';
                        (void)peer_process(b->pid, gap->row->command, &ignored);
                        return;
                }
                if (may_be_same(gap->pid, gap->fd, b->pid, b->fd))
                        return;
        }
}

void outside_find_bearers(struct outside_gap *gaps, size_t count)
{
        struct search s = {.gaps = gaps, .gap_count = count, .until = uv_hrtime() + LOOKS_MS * 1000000u};
        size_t i, others;

        s.found = malloc(FOUND_MAX * sizeof *s.found);
        if (s.found == NULL)
                return;
        look_at_all(&s);
        others = s.found_count;
        if (others > 0) {
                s = (struct search){.gaps = gaps, .gap_count = count, .found = s.found, .found_count = others, .until = uv_hrtime() + LOOKS_MS * 1000000u};
                look_at_process(&s, getpid(), true);
        }
        for (i = 0; i < others && !s.given_up; i++)
                if (!is_a_clients(&s, &s.found[i]))
                        fill(gaps, count, &s.found[i]);
        free(s.found);
}
