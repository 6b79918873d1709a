/*
 * counter FILE ROUNDS: each round locks FILE through libportalock, reads the number in it, and writes the next one. The locked file is the counter itself.
 * counter FILE unlocked: one round without a lock, for one who has it already.
 */
#include "portalock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool count_one(const char *path)
{
        FILE *f = fopen(path, "r+b");
        long n = 0;
        bool ok;

        if (f == NULL)
                return false;
        (void)!fscanf(f, "%ld", &n);
        rewind(f);
        ok = fprintf(f, "%ld\n", n + 1) > 0;
        return fclose(f) == 0 && ok;
}

int main(int argc, char **argv)
{
        int rounds = argc == 3 ? atoi(argv[2]) : 0, i;
        portalock_session *s;
        portalock_file *f;

        if (argc == 3 && strcmp(argv[2], "unlocked") == 0)
                return count_one(argv[1]) ? 0 : 2;
        if (rounds <= 0)
                return 64;
        if (portalock_connect("counter", 0, &s) != 0 || portalock_open(s, argv[1], &f) != 0) {
                fprintf(stderr, "counter: %s\n", portalock_error(s)->text);
                return 1;
        }
        for (i = 0; i < rounds; i++) {
                if (portalock_lock(f, PORTALOCK_EX, 60000) != 0 || !count_one(argv[1]) || portalock_unlock(f) != 0) {
                        fprintf(stderr, "counter: round %d: %s\n", i, portalock_error(s)->text);
                        return 2;
                }
        }
        portalock_close(f);
        portalock_disconnect(s);
        return 0;
}
