/* What the clients do. Where somebody must have come to wait before the next thing happens they sleep a little: that time is not measured. */
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* Lock and unlock of own names. */
static void pairs(const struct peer_kind *kind, struct peer *p, int client, int depth, const char *folder)
{
        (void)folder;
        while (!load->over) {
                uint64_t began = load_now_ns();

                if (depth == 1) {
                        kind->lock(p, 0);
                        kind->unlock(p, 0);
                } else {
                        kind->pairs(p, depth / 2);
                }
                load_record(load_now_ns() - began);
                load->done[client] += depth == 1 ? 1u : (unsigned)depth / 2;
        }
}

/*
 * All want one lock: from the moment before the unlock of one to the grant of another. Who has given it up asks again when another has it: otherwise
 * he who tries again and again would be measured only when he happened to try in the right moment.
 */
static void hand_over(const struct peer_kind *kind, struct peer *p, int client, int depth, const char *folder)
{
        (void)depth;
        (void)folder;
        while (!load->over) {
                uint64_t released, now, mine;

                kind->lock(p, -1);
                now = load_now_ns();
                released = atomic_exchange(&load->released, 0);
                if (released != 0) {
                        load_record(now - released);
                        load->done[client]++;
                }
                usleep(400);    /* the others come to wait */
                mine = load_now_ns();
                atomic_store(&load->released, mine);
                kind->unlock(p, -1);
                while (load->released == mine && !load->over)
                        usleep(100);
        }
}

/* All want one lock and hold it for a millisecond: who gets how much? */
static void same(const struct peer_kind *kind, struct peer *p, int client, int depth, const char *folder)
{
        (void)depth;
        (void)folder;
        while (!load->over) {
                kind->lock(p, -1);
                usleep(1000);
                kind->unlock(p, -1);
                load->done[client]++;
        }
}

/* Client 0 is somebody who knows flock(2) only; client 1 waits for him. From his LOCK_UN to the grant. */
static void outsider(const struct peer_kind *kind, struct peer *p, int client, int depth, const char *folder)
{
        char path[256];
        int fd;

        (void)depth;
        snprintf(path, sizeof path, "%s/shared.lock", folder);
        fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0666);
        if (fd < 0)
                bench_fail(path, strerror(errno));
        while (client == 0 && !load->over) {
                if (flock(fd, LOCK_EX) != 0)
                        bench_fail("flock", strerror(errno));
                load->turn = 1;
                usleep(1000);   /* the other has come to wait */
                atomic_store(&load->released, load_now_ns());
                flock(fd, LOCK_UN);
                while (load->turn == 1 && !load->over)
                        usleep(50);
        }
        while (client == 1 && !load->over) {
                if (load->turn != 1) {
                        usleep(50);
                        continue;
                }
                kind->lock(p, -1);
                load_record(load_now_ns() - load->released);
                load->done[client]++;
                kind->unlock(p, -1);
                load->turn = 0;
        }
}

static void one_writer(const struct peer_kind *kind, struct peer *p)
{
        while (!load->over) {
                uint64_t began = load_now_ns();

                load->waiting_since = began;
                kind->lock(p, -1);
                load->waiting_since = 0;
                load_record(load_now_ns() - began);
                load->done[0]++;
                kind->unlock(p, -1);
                usleep(3000);
        }
}

/* Client 0 writes now and then; the others read all the time and hold the lock for a millisecond, so that there is always one who does. */
static void readers(const struct peer_kind *kind, struct peer *p, int client, int depth, const char *folder)
{
        (void)depth;
        (void)folder;
        if (client == 0) {
                one_writer(kind, p);
                return;
        }
        usleep((useconds_t)(client * 130));     /* not in step */
        while (!load->over) {
                uint64_t began;

                kind->lock_shared(p, -1);
                began = load_now_ns();
                usleep(1000);
                load->hold_ns += load_now_ns() - began;
                load->holds++;
                kind->unlock(p, -1);
        }
}

const struct load_mode *load_mode(const char *name)
{
        static const struct load_mode modes[] = {{"pairs", 1, pairs}, {"hand-over", 2, hand_over}, {"same", 2, same}, {"outsider", 2, outsider}, {"readers", 2, readers}};
        size_t i;

        for (i = 0; i < sizeof modes / sizeof modes[0]; i++) {
                if (strcmp(modes[i].name, name) == 0)
                        return &modes[i];
        }
        return NULL;
}
