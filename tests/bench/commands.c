/*
 * Whole commands: how long they take from spawn to end, without a shell or an interpreter between.
 *
 *   bench_commands COUNT PARALLEL COMMAND...     PARALLEL processes run COMMAND COUNT times each, one after the other
 *
 * Prints one JSON object: the wall time of all, and of one on the average, in milliseconds.
 */
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double now_ms(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* 0: all of them have ended well. */
static int run(int count, char **command)
{
        pid_t pid;
        int i, status, r;

        for (i = 0; i < count; i++) {
                r = posix_spawnp(&pid, command[0], NULL, NULL, command, environ);
                if (r != 0 || waitpid(pid, &status, 0) != pid || status != 0) {
                        fprintf(stderr, "bench_commands: %s: %s\n", command[0], r != 0 ? strerror(r) : "failed");
                        return 1;
                }
        }
        return 0;
}

int main(int argc, char **argv)
{
        int count, parallel, i, status, failed = 0;
        double began, took;

        if (argc < 4 || (count = atoi(argv[1])) < 1 || (parallel = atoi(argv[2])) < 1) {
                fprintf(stderr, "usage: bench_commands COUNT PARALLEL COMMAND...\n");
                return 64;
        }
        began = now_ms();
        if (parallel == 1)
                failed = run(count, argv + 3);
        for (i = 0; parallel > 1 && i < parallel; i++) {
                if (fork() == 0)
                        _exit(run(count, argv + 3));
        }
        while (parallel > 1 && wait(&status) > 0)
                failed |= status;
        took = now_ms() - began;
        if (failed != 0)
                return 1;
        printf("{\"wall_ms\":%.3f,\"each_ms\":%.4f}\n", took, took / count);
        return 0;
}
