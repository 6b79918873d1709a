/* lockctl: which subcommand. */
#include "lockctl.h"

#include <stdio.h>
#include <string.h>

const struct command commands[] = {
        {"run", "[-s|-x] [-n] [-w SECONDS] [-E CODE] FILE COMMAND [ARGUMENT]...", "run a command under a lock on FILE",
         "  -s, --shared             a shared lock\n"
         "  -x, -e, --exclusive      an exclusive lock (default)\n"
         "  -n, --nonblock           fail at once instead of waiting\n"
         "  -w, --timeout SECONDS    wait so long at most; fractions are allowed\n"
         "  -E, --conflict-exit-code CODE  exit with CODE (0-255) on a conflict or when the time is over (default 1)\n"
         "      --require-daemon     fail when no daemon can be reached, instead of taking flock(2) directly\n"
         "      --verbose            say what happens\n"
         "\n"
         "The command inherits the lock: it lasts until the command and whatever it leaves running have ended.\n"
         "exit status: the command's, 128+N when signal N killed it; 1 (or -E) conflict, 64 usage, 65 the lock failed, 66 FILE cannot be\n"
         "opened, 69 no daemon or the command cannot be executed, 71 out of resources, 73 FILE cannot be created\n",
         cmd_run},
        {"list", "[--json] [FILE]...", "show who holds and who waits",
         "      --json   one JSON document, always\n"
         "\n"
         "A row for each lock: held through the daemon, held outside of it (by flock(1) or any other program; only while somebody waits\n"
         "for it here, or when FILE is given), or waiting. Waiters stand under what blocks them, in the order in which they will be served.\n",
         cmd_list},
        {"ping", "", "ask the daemon for a sign of life", "", cmd_ping},
        {"stats", "", "show the daemon's counters, as JSON", "", cmd_stats},
        {"stop", "[--force]", "stop the daemon", "      --force   even if locks by path are held, which end with it\n", cmd_stop},
        {"sockname", "", "print the path of the daemon's socket", "", cmd_sockname},
        {"help", "[COMMAND]", "explain a command", "", cmd_help},
        {0}};

const struct command *find_command(const char *name)
{
        const struct command *c;

        for (c = commands; c->name != NULL; c++)
                if (strcmp(c->name, name) == 0)
                        return c;
        return NULL;
}

static void print_usage(FILE *out)
{
        const struct command *c;

        fputs("usage: lockctl COMMAND [OPTION]...\n\n", out);
        for (c = commands; c->name != NULL; c++)
                fprintf(out, "  %-9s %s\n", c->name, c->summary);
        fputs("\n'lockctl help COMMAND' tells more; 'lockctl --version' prints the version.\n", out);
}

int cmd_help(int argc, char **argv)
{
        const struct command *c;

        if (argc < 2) {
                print_usage(stdout);
                return 0;
        }
        c = find_command(argv[1]);
        if (c == NULL || argc > 2)
                return bad_usage("help", "no such command: '%s'", argv[argc > 2 ? 2 : 1]);
        printf("usage: lockctl %s%s%s\n%s.\n", c->name, c->arguments[0] != '\0' ? " " : "", c->arguments, c->summary);
        if (c->details[0] != '\0')
                printf("\n%s", c->details);
        return 0;
}

int main(int argc, char **argv)
{
        const struct command *c;

        if (argc < 2) {
                print_usage(stderr);
                return EXIT_BAD_USAGE;
        }
        if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
                puts("lockctl " PORTALOCK_VERSION);
                return 0;
        }
        if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
                print_usage(stdout);
                return 0;
        }
        c = find_command(argv[1]);
        if (c == NULL) {
                complain("no such command: '%s'; try 'lockctl help'", argv[1]);
                return EXIT_BAD_USAGE;
        }
        return c->run(argc - 1, argv + 1);
}
