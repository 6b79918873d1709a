/*
 * /proc/locks, proc(5). Reading it takes the kernel's global list of locks: 10,000 locks cost 9 ms, 100,000 some seconds. It does not
 * see other pid namespaces, and on file systems with devices of their own (btrfs) its device differs from stat's: such holders stay unnamed.
 */
#include "outside_internal.h"

#include "again.h"
#include "thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <uv.h>

#define KEEP_MS 1000            /* a look is recent for so long, or */
#define KEEP_TIMES_COST 10      /* for so many times what it took */
#define RELEASED_SLOTS 4096     /* a power of two; files that share one are told apart at the next look only */

#define GAPS_MAX 1024           /* locks whose bearers are looked for at once */

struct snapshot {
        struct outside_holder *rows;    /* by device and inode */
        size_t count;
        uint64_t cost_ms;
        uint64_t releases;      /* before it began */
};

struct outside {
        uv_loop_t *loop;
        uv_async_t async;
        uv_thread_t thread;
        bool looking, looked;
        struct snapshot now, next;      /* `next` is the thread's while looking */
        struct outside_gap *gaps;       /* in `next`; the thread's while it looks for their bearers. NULL: that is not under way */
        size_t gap_count;
        uint64_t taken_at_ms;
        uint64_t releases;      /* counted */
        uint64_t released[RELEASED_SLOTS];      /* number of the last release of the files with that hash */
        const struct outside_hooks *hooks;
        void *arg;
};

static int by_file(const void *a, const void *b)
{
        const struct outside_holder *x = a, *y = b;

        if (x->device != y->device)
                return x->device < y->device ? -1 : 1;
        if (x->inode != y->inode)
                return x->inode < y->inode ? -1 : 1;
        return 0;
}

bool outside_parse(const char *line, struct outside_holder *h)
{
        unsigned device_major, device_minor;
        unsigned long long inode;
        char kind[16], mode[16];
        long long pid;

        if (sscanf(line, "%*s %15s %*s %15s %lld %x:%x:%llu", kind, mode, &pid, &device_major, &device_minor, &inode) != 6)
                return false;
        if (strcmp(kind, "FLOCK") != 0)
                return false;
        memset(h, 0, sizeof *h);
        h->device = (uint64_t)makedev(device_major, device_minor);
        h->inode = inode;
        h->pid = pid > 0 ? pid : 0;
        h->ours = pid == (long long)getpid();
        h->exclusive = strcmp(mode, "WRITE") == 0;
        return true;
}

int outside_compare(const void *a, const void *b)
{
        const struct outside_holder *x = a, *y = b;
        int r = by_file(a, b);

        if (r == 0 && x->pid != y->pid)
                r = x->pid < y->pid ? -1 : 1;
        return r != 0 ? r : (int)x->exclusive - (int)y->exclusive;
}

static int open_locks(void *arg)
{
        (void)arg;
        return open_again("/proc/locks", O_RDONLY | O_CLOEXEC, 0);
}

static void look(struct snapshot *s)
{
        uint64_t started = uv_hrtime(), ignored;
        struct outside_rows all;
        size_t i;

        outside_read(&all, open_locks, NULL);
        s->rows = all.rows;
        s->count = all.count;
        for (i = 0; i < s->count; i++) {
                if (s->rows[i].ours)
                        s->rows[i].pid = 0;     /* we are the last that anybody asks for */
                else if (s->rows[i].pid > 0)
                        s->rows[i].gone = !peer_process(s->rows[i].pid, s->rows[i].command, &ignored);
        }
        s->cost_ms = (uv_hrtime() - started) / 1000000u;
}

static void look_main(void *arg)
{
        struct outside *o = arg;

        look(&o->next);
        uv_async_send(&o->async);
}

static size_t slot_of(uint64_t device, uint64_t inode)
{
        return (size_t)(((inode + device * 31) * 0x9e3779b97f4a7c15u) >> 32) & (RELEASED_SLOTS - 1);
}

/* Of the rows of one file: how many that are ours are not our clients'. */
static size_t left_over(const struct outside *o, const struct outside_holder *first, size_t ours)
{
        size_t known;

        if (o->released[slot_of(first->device, first->inode)] > o->next.releases)
                return 0;       /* nobody would believe it */
        known = o->hooks->bearers_held(o->arg, first->device, first->inode);
        return known < ours ? ours - known : 0;
}

/*
 * Locks that the system names nobody for: the last of those that are ours (which of them is whose cannot be told, and rows.c takes the
 * first for our clients'), and those of processes that have ended. Of both there are always some that nobody asks for: the file by which the
 * daemon is the only one on its socket is one.
 */
static void find_gaps(struct outside *o)
{
        struct outside_holder *first = o->next.rows, *end = first + o->next.count, *row, *next;
        size_t ours, gone, left;

        for (; first != end && o->gap_count < GAPS_MAX; first = next) {
                for (ours = gone = 0, next = first; next != end && by_file(first, next) == 0; next++) {
                        ours += next->ours;
                        gone += next->gone;
                }
                if (ours + gone == 0 || !o->hooks->asked_for(o->arg, first->device, first->inode))
                        continue;
                left = left_over(o, first, ours);
                for (row = first; row != next && o->gap_count < GAPS_MAX; row++) {
                        if (!(row->ours ? ours-- <= left : row->gone))
                                continue;
                        o->gaps[o->gap_count] = (struct outside_gap){.row = row, .lock = *row};
                        if (row->ours)
                                o->gaps[o->gap_count].lock.pid = getpid();
                        o->gap_count++;
                }
        }
}

static void find_main(void *arg)
{
        struct outside *o = arg;
        uint64_t started = uv_hrtime();

        outside_find_bearers(o->gaps, o->gap_count);
        o->next.cost_ms += (uv_hrtime() - started) / 1000000u;
        uv_async_send(&o->async);
}

/* True: it is under way. */
static bool find_bearers(struct outside *o)
{
        o->gap_count = 0;
        if (o->next.count == 0)
                return false;
        o->gaps = malloc(GAPS_MAX * sizeof *o->gaps);
        if (o->gaps == NULL)
                return false;
        find_gaps(o);
        return o->gap_count > 0 && thread_start(&o->thread, 0, find_main, o) == 0;
}

static void on_looked(uv_async_t *async)
{
        struct outside *o = async->data;

        if (!o->looking)
                return;
        uv_thread_join(&o->thread);
        if (o->gaps == NULL && find_bearers(o))
                return;
        free(o->gaps);
        o->gaps = NULL;
        o->looking = false;
        o->looked = true;
        free(o->now.rows);
        o->now = o->next;
        o->next = (struct snapshot){0};
        o->taken_at_ms = uv_now(o->loop);
        o->hooks->refreshed(o->arg);
}

struct outside *outside_create(uv_loop_t *loop, const struct outside_hooks *hooks, void *arg)
{
        struct outside *o = calloc(1, sizeof *o);

        if (o == NULL || uv_async_init(loop, &o->async, on_looked) != 0) {
                free(o);
                return NULL;
        }
        o->async.data = o;
        o->loop = loop;
        o->hooks = hooks;
        o->arg = arg;
        return o;
}

static void outside_closed(uv_handle_t *handle)
{
        free(handle->data);
}

void outside_destroy(struct outside *o)
{
        if (o == NULL)
                return;
        if (o->looking)
                uv_thread_join(&o->thread);
        free(o->gaps);
        free(o->now.rows);
        free(o->next.rows);
        uv_close((uv_handle_t *)&o->async, outside_closed);
}

bool outside_refresh(struct outside *o)
{
        uint64_t keep = o->now.cost_ms * KEEP_TIMES_COST;

        if (o->looking)
                return true;
        if (keep < KEEP_MS)
                keep = KEEP_MS;
        if (o->looked && uv_now(o->loop) - o->taken_at_ms < keep)
                return false;
        o->next = (struct snapshot){.releases = o->releases};
        o->looking = thread_start(&o->thread, 0, look_main, o) == 0;
        return o->looking;
}

void outside_released(struct outside *o, uint64_t device, uint64_t inode)
{
        o->released[slot_of(device, inode)] = ++o->releases;
}

bool outside_knows_ours(const struct outside *o, uint64_t device, uint64_t inode)
{
        return o->released[slot_of(device, inode)] <= o->now.releases;
}

const struct outside_holder *outside_of(const struct outside *o, uint64_t device, uint64_t inode, size_t *count)
{
        struct outside_holder key = {.device = device, .inode = inode};
        const struct outside_holder *first = NULL;
        size_t n = 0;

        *count = 0;
        if (o->now.count == 0)
                return NULL;
        first = bsearch(&key, o->now.rows, o->now.count, sizeof key, by_file);
        if (first == NULL)
                return NULL;
        while (first > o->now.rows && by_file(first - 1, &key) == 0)
                first--;
        while (first + n < o->now.rows + o->now.count && by_file(first + n, &key) == 0)
                n++;
        *count = n;
        return first;
}
