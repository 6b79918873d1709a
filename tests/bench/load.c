/*
 * The load of the bench: clients as processes of their own, each with one connection, blocking.
 *
 *   bench_load MODE KIND ADDRESS FOLDER CLIENTS DEPTH SECONDS
 *
 * MODE: pairs, hand-over, same, outsider, readers (load_modes.c). KIND: a name of peers.h. DEPTH: requests under way at once, of each client.
 *
 * It says "ready" when all are at work, and begins to count when a line comes on stdin. After SECONDS it prints one JSON object: operations per second,
 * percentiles in microseconds, Jain's index of the clients' shares; and goes on with its load until the next line comes. So whoever started it can read
 * the servers' clocks at both ends, with all connections open.
 */
#include "load.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WARM_UP_S 0.1           /* at most; as long as the measurement, if that is shorter */
#define NOTHING_YET_MS 2000     /* so much longer than asked for, until anything at all has been done */
#define PATIENCE_MS 500         /* with those that wait for a lock at the end */

struct counts {
        uint64_t at_ns, hold_ns, holds;
        uint64_t done[LOAD_CLIENTS_MAX], histogram[LOAD_BUCKETS];
};

struct load *load;
static pid_t pids[LOAD_CLIENTS_MAX];

void bench_fail(const char *what, const char *why)
{
        fprintf(stderr, "bench_load: %s: %s\n", what, why);
        _exit(1);
}

uint64_t load_now_ns(void)
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

void load_record(uint64_t ns)
{
        unsigned bucket = bucket_of(ns);

        atomic_fetch_add_explicit(&load->histogram[bucket < LOAD_BUCKETS ? bucket : LOAD_BUCKETS - 1], 1, memory_order_relaxed);
}

static const struct peer_kind *kind_of(const char *name)
{
        static const struct peer_kind *const kinds[] = {
                &peer_portalock, &peer_portalock_fd, &peer_echo, &peer_flock,
#ifdef BENCH_PEERS
                &peer_redis, &peer_redis_list, &peer_postgres, &peer_etcd,
#endif
        };
        size_t i;

        for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
                if (strcmp(kinds[i]->name, name) == 0)
                        return kinds[i];
        }
        bench_fail(name, "no such kind of peer in this build");
}

static void client(const struct load_mode *mode, const struct peer_kind *kind, char **argv, int number, int depth)
{
        struct peer *p;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        p = kind->open(argv[3], argv[4], number, depth);
        load->ready++;
        while (!load->go)
                usleep(100);
        mode->run(kind, p, number, depth, argv[4]);
        _exit(0);
}

static void start(const struct load_mode *mode, const struct peer_kind *kind, char **argv, int clients, int depth, double warm_up)
{
        int i, status;

        for (i = 0; i < clients; i++) {
                pids[i] = fork();
                if (pids[i] == 0)
                        client(mode, kind, argv, i, depth);
                if (pids[i] < 0)
                        bench_fail("fork", strerror(errno));
        }
        while (load->ready < clients) {
                if (waitpid(-1, &status, WNOHANG) > 0)
                        bench_fail("a client", "has ended early");
                usleep(1000);
        }
        load->go = true;
        usleep((useconds_t)(warm_up * 1e6));
}

static void count(struct counts *c)
{
        size_t i;

        c->at_ns = load_now_ns();
        c->hold_ns = load->hold_ns;
        c->holds = load->holds;
        for (i = 0; i < LOAD_CLIENTS_MAX; i++)
                c->done[i] = load->done[i];
        for (i = 0; i < LOAD_BUCKETS; i++)
                c->histogram[i] = load->histogram[i];
}

static bool anything_done(const struct counts *since)
{
        int i;

        for (i = 0; i < LOAD_CLIENTS_MAX; i++) {
                if (load->done[i] > since->done[i])
                        return true;
        }
        return false;
}

/* `to` becomes what has come since `from`. A wait that has not ended counts as long as it lasts. */
static void subtract(struct counts *to, const struct counts *from)
{
        uint64_t since = load->waiting_since;
        size_t i;

        if (since != 0 && since < from->at_ns)
                to->histogram[bucket_of(to->at_ns - since)]++;
        to->hold_ns -= from->hold_ns;
        to->holds -= from->holds;
        to->at_ns -= from->at_ns;
        for (i = 0; i < LOAD_CLIENTS_MAX; i++)
                to->done[i] -= from->done[i];
        for (i = 0; i < LOAD_BUCKETS; i++)
                to->histogram[i] -= from->histogram[i];
}

static double percentile(const struct counts *c, double part)
{
        uint64_t total = 0, below = 0;
        unsigned i, last = 0;

        for (i = 0; i < LOAD_BUCKETS; i++)
                total += c->histogram[i];
        for (i = 0; i < LOAD_BUCKETS; i++) {
                below += c->histogram[i];
                if (c->histogram[i] > 0)
                        last = i;
                if (below > 0 && (double)below >= part * (double)total)
                        return bucket_us(last);
        }
        return 0;
}

static void report(const struct counts *c, int clients)
{
        uint64_t total = 0;
        double squares = 0;
        int i;

        for (i = 0; i < clients; i++) {
                total += c->done[i];
                squares += (double)c->done[i] * (double)c->done[i];
        }
        printf("{\"done\":%" PRIu64 ",\"seconds\":%.6f,\"p50_us\":%.3f,\"p99_us\":%.3f,\"p999_us\":%.3f,\"max_us\":%.3f,\"jain\":%.4f,\"hold_us\":%.1f}\n", total,
               (double)c->at_ns / 1e9, percentile(c, 0.50), percentile(c, 0.99), percentile(c, 0.999), percentile(c, 1),
               squares > 0 ? (double)total * (double)total / ((double)clients * squares) : 0.0, c->holds > 0 ? (double)c->hold_ns / (double)c->holds / 1000 : 0.0);
        fflush(stdout);
}

static void await_line(void)
{
        int c;

        while ((c = getchar()) != '\n') {
                if (c == EOF)
                        bench_fail("stdin", "has ended");
        }
}

/* Clients look whether it is over when they have the lock; those that never get it are killed. True: one has ended of itself with a failure. */
static bool end(int clients)
{
        bool failed = false;
        int i, status, waited = 0;

        load->over = true;
        for (i = 0; i < clients; i++) {
                while (waitpid(pids[i], &status, WNOHANG) == 0) {
                        if (waited++ >= PATIENCE_MS)
                                kill(pids[i], SIGKILL);
                        usleep(1000);
                }
                failed |= WIFEXITED(status) && WEXITSTATUS(status) != 0;
        }
        return failed;
}

int main(int argc, char **argv)
{
        static struct counts before, after;
        const struct load_mode *mode;
        const struct peer_kind *kind;
        int clients, depth, more;
        double seconds;

        if (argc != 8 || (mode = load_mode(argv[1])) == NULL)
                bench_fail("usage", "bench_load pairs|hand-over|same|outsider|readers KIND ADDRESS FOLDER CLIENTS DEPTH SECONDS");
        kind = kind_of(argv[2]);
        clients = atoi(argv[5]);
        depth = atoi(argv[6]);
        seconds = atof(argv[7]);
        if (clients < mode->clients_min || clients > LOAD_CLIENTS_MAX || depth < 1 || depth > PEER_DEPTH_MAX || (depth > 1 && kind->pairs == NULL))
                bench_fail("usage", "too few clients or too many, or a depth that this kind does not know");
        if (strcmp(mode->name, "readers") == 0 && kind->lock_shared == NULL)
                bench_fail(kind->name, "has no shared locks");
        load = mmap(NULL, sizeof *load, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (load == MAP_FAILED)
                bench_fail("mmap", strerror(errno));
        start(mode, kind, argv, clients, depth, seconds < WARM_UP_S ? seconds : WARM_UP_S);
        puts("ready");
        fflush(stdout);
        await_line();
        count(&before);
        usleep((useconds_t)(seconds * 1e6));
        for (more = 0; more < NOTHING_YET_MS && !anything_done(&before); more++)
                usleep(1000);
        count(&after);
        subtract(&after, &before);
        report(&after, clients);
        await_line();
        return end(clients);
}
