/*
 * The load of the bench: clients as processes of their own, each with one connection, blocking.
 *
 *   bench_load pairs KIND ADDRESS FOLDER CLIENTS DEPTH SECONDS   lock and unlock of own names, DEPTH requests under way
 *   bench_load hand-over KIND ADDRESS FOLDER CLIENTS 1 SECONDS   all share one lock: from the unlock of one to the next one's grant
 *   bench_load same KIND ADDRESS FOLDER CLIENTS 1 SECONDS        all share one lock, each holds it for a millisecond: who gets how much
 *
 * Prints one JSON object: operations per second, percentiles in microseconds, Jain's index of the clients' shares.
 */
#include "peers.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS_MAX 256
#define BUCKETS 4096            /* 64 for each power of two of nanoseconds: within 1.6 % */

struct shared {
        atomic_int ready;
        atomic_bool go, over;
        atomic_ullong released_ns;              /* when the shared lock was given up last */
        atomic_ullong done[CLIENTS_MAX];
        atomic_ullong histogram[BUCKETS];
};

static struct shared *shared;

void bench_fail(const char *what, const char *why)
{
        fprintf(stderr, "bench_load: %s: %s\n", what, why);
        _exit(1);
}

static uint64_t now_ns(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static unsigned bucket_of(uint64_t ns)
{
        unsigned power = 0;

        while (ns >> power >= 128)
                power++;
        return power == 0 ? (unsigned)ns : 64 * power + (unsigned)(ns >> power);
}

static double bucket_us(unsigned bucket)
{
        return bucket < 128 ? (double)bucket / 1000 : (double)((uint64_t)(64 + bucket % 64) << (bucket / 64 - 1)) / 1000;
}

static void record(uint64_t ns)
{
        unsigned bucket = bucket_of(ns);

        atomic_fetch_add_explicit(&shared->histogram[bucket < BUCKETS ? bucket : BUCKETS - 1], 1, memory_order_relaxed);
}

static const struct peer_kind *kind_of(const char *name)
{
        static const struct peer_kind *const kinds[] = {&peer_portalock, &peer_portalock_fd, &peer_echo, &peer_redis, &peer_redis_list, &peer_postgres};
        size_t i;

        for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
                if (strcmp(kinds[i]->name, name) == 0)
                        return kinds[i];
        }
        bench_fail(name, "no such kind of peer");
}

static void do_pairs(const struct peer_kind *kind, struct peer *p, int depth, atomic_ullong *done)
{
        while (!shared->over) {
                uint64_t began = now_ns();

                if (depth == 1) {
                        kind->lock(p, 0);
                        kind->unlock(p, 0);
                } else {
                        kind->pairs(p, depth / 2);
                }
                record(now_ns() - began);
                *done += depth == 1 ? 1u : (unsigned)depth / 2;
        }
}

static void do_hand_over(const struct peer_kind *kind, struct peer *p, atomic_ullong *done)
{
        while (!shared->over) {
                uint64_t released;

                kind->lock(p, -1);
                released = atomic_exchange(&shared->released_ns, 0);
                if (released != 0) {
                        record(now_ns() - released);
                        ++*done;
                }
                usleep(200);    /* the others come to wait */
                atomic_store(&shared->released_ns, now_ns());
                kind->unlock(p, -1);
        }
}

static void do_same(const struct peer_kind *kind, struct peer *p, atomic_ullong *done)
{
        while (!shared->over) {
                kind->lock(p, -1);
                usleep(1000);
                kind->unlock(p, -1);
                ++*done;
        }
}

static void client(const char *what, const struct peer_kind *kind, char **argv, int number, int depth)
{
        struct peer *p = kind->open(argv[3], argv[4], number, depth);
        atomic_ullong *done = &shared->done[number];

        atomic_fetch_add(&shared->ready, 1);
        while (!shared->go)
                usleep(100);
        if (strcmp(what, "pairs") == 0)
                do_pairs(kind, p, depth, done);
        else if (strcmp(what, "hand-over") == 0)
                do_hand_over(kind, p, done);
        else
                do_same(kind, p, done);
        _exit(0);
}

static double percentile(uint64_t total, double part)
{
        uint64_t below = 0;
        unsigned i;

        for (i = 0; i < BUCKETS; i++) {
                below += shared->histogram[i];
                if ((double)below >= part * (double)total && below > 0)
                        return bucket_us(i);
        }
        return 0;
}

static void report(int clients, double seconds)
{
        uint64_t total = 0, recorded = 0;
        double squares = 0;
        int i;

        for (i = 0; i < clients; i++) {
                total += shared->done[i];
                squares += (double)shared->done[i] * (double)shared->done[i];
        }
        for (i = 0; i < BUCKETS; i++)
                recorded += shared->histogram[i];
        printf("{\"done\":%" PRIu64 ",\"per_s\":%.1f,\"p50_us\":%.2f,\"p99_us\":%.2f,\"p999_us\":%.2f,\"jain\":%.4f}\n", total, (double)total / seconds,
               percentile(recorded, 0.50), percentile(recorded, 0.99), percentile(recorded, 0.999),
               squares > 0 ? (double)total * (double)total / ((double)clients * squares) : 0.0);
}

int main(int argc, char **argv)
{
        const struct peer_kind *kind;
        int clients, depth, i, status;
        uint64_t began, ended;
        bool failed = false;

        if (argc != 8)
                bench_fail("usage", "bench_load pairs|hand-over|same KIND ADDRESS FOLDER CLIENTS DEPTH SECONDS");
        kind = kind_of(argv[2]);
        clients = atoi(argv[5]);
        depth = atoi(argv[6]);
        if (clients < 1 || clients > CLIENTS_MAX || depth < 1 || depth > 64 || (depth > 1 && kind->pairs == NULL))
                bench_fail("usage", "1 to 256 clients; a depth of 1 to 64, if that kind knows it");
        shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (shared == MAP_FAILED)
                bench_fail("mmap", strerror(errno));
        for (i = 0; i < clients; i++) {
                if (fork() == 0)
                        client(argv[1], kind, argv, i, depth);
        }
        while (shared->ready < clients) {
                if (waitpid(-1, &status, WNOHANG) > 0)
                        bench_fail("a client", "has ended early");
                usleep(1000);
        }
        began = now_ns();
        shared->go = true;
        usleep((useconds_t)(atof(argv[7]) * 1e6));
        shared->over = true;
        ended = now_ns();
        report(clients, (double)(ended - began) / 1e9);
        fflush(stdout);
        /* Those that wait for one who has ended already get it by the end of his connection, or are ended. */
        for (i = 0; i < clients; i++) {
                pid_t pid = 0;
                int tries;

                for (tries = 0; tries < 2000 && (pid = waitpid(-1, &status, WNOHANG)) == 0; tries++)
                        usleep(1000);
                if (pid == 0) {
                        kill(0, SIGTERM);
                        return 0;
                }
                failed |= !WIFEXITED(status) || WEXITSTATUS(status) != 0;
        }
        return failed;
}
