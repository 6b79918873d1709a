/* lockctl: which subcommand. */
#include "lockctl.h"

#include "os.h"

#include <stdio.h>
#include <string.h>

const struct command commands[] = {
        {"run", "[OPTION]... FILE|NUMBER [COMMAND [ARGUMENT]... | -c STRING]", "run a command under a lock",
         "  -s, --shared             a shared lock\n"
         "  -x, -e, --exclusive      an exclusive lock (default)\n"
         "  -u, --unlock             give up the lock of a descriptor\n"
         "  -n, --nonblock           fail at once instead of waiting\n"
         "  -w, --timeout SECONDS    wait so long at most; fractions are allowed; 0 is -n\n"
         "  -E, --conflict-exit-code CODE  exit with CODE (0-255) on a conflict or when the time is over (default 1)\n"
         "  -o, --close              the command does not inherit the lock: it ends with lockctl\n"
         "  -F, --no-fork            become the command instead of waiting for it\n"
         "  -c STRING                right behind FILE: a line for the shell ($SHELL, else /bin/sh)\n"
         "      --fd NUMBER          lock this descriptor, also before a command\n"
         "      --on-lost kill|warn  when the lock is broken: end the command (default) or only say so\n"
         "      --require-daemon     fail when no daemon can be had, instead of taking flock(2) directly\n"
         "      --remove             remove FILE when COMMAND has ended, while it is still locked\n"
         "      --verbose            say what happens\n"
         "\n"
         "FILE is created if missing; a directory can be locked too. A NUMBER alone is a descriptor that the shell has open (exec 9>FILE): its lock stays\n"
         "with it. The command inherits the lock, which lasts until it and whatever it leaves running have ended, and finds PORTALOCK_SESSION,\n"
         "PORTALOCK_TOKEN and PORTALOCK_FILE in its environment. TERM, INT, HUP, QUIT, USR1 and USR2 reach it. Options behind FILE are its own.\n"
         "Called by the name flock, lockctl is flock(1).\n"
         "exit status: the command's, 128+N when signal N ended it or the wait; 1 (or -E) conflict, 64 usage, 65 the lock failed, 66 FILE cannot be\n"
         "opened, 69 no daemon or the command cannot be executed, 71 out of resources, 73 FILE cannot be created, 75 the lock was broken,\n"
         "79 waiting would never end, a deadlock\n",
         cmd_run},
        {"list", "[OPTION]... [FILE]...", "show who holds and who waits",
         "  -J, --json            one JSON document, always\n"
         "  -o, --output COLUMNS  these columns, by commas (default COMMAND,PID,USER,MODE,STATE,AGE,TOKEN,PATH)\n"
         "  -n, --noheadings      no line of headings\n"
         "      --watch           again after each change, until interrupted\n"
         "\n"
         "A row for each lock: held through the daemon, held outside of it (by flock(1) or any other program; only of files that somebody\n"
         "holds or waits for here, or that are given), or waiting. Waiters stand under what blocks them, in the order in which they will be\n"
         "served. Without a daemon nothing is listed.\n"
         "\n"
         "columns:\n",
         cmd_list},
        {"watch", "[--json] [FILE]...", "show what happens to locks, as it happens",
         "  -J, --json   each event as a line of JSON\n"
         "\n"
         "Events: granted, waiting, released, timed_out, cancelled, deadlock, lost; overflow when we did not read fast enough.\n",
         cmd_watch},
        {"break", "[--yes] ID", "take a lock away from whoever holds it",
         "  -y, --yes   without asking\n"
         "\n"
         "ID is the lock's, as 'lockctl list -o LOCK,COMMAND,PID,PATH' shows it. Its holder is told; a command under 'lockctl run' is ended.\n",
         cmd_break},
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
        fputs("\n'lockctl help COMMAND' tells more; 'lockctl --version' prints the version.\n"
              "exit status: 0 done (but see 'help run'), 64 wrong usage, 69 no daemon, 71 out of resources, 74 the output could not be written,\n"
              "76 the daemon broke off, 77 the daemon refused\n",
              out);
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
        if (c->run == cmd_list)
                list_columns(stdout);
        return 0;
}

static int act(int argc, char **argv)
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
        if (argc == 3 && strcmp(argv[2], "--help") == 0)
                return cmd_help(2, argv);
        return c->run(argc - 1, argv + 1);
}

static bool is_called(const char *argv0, const char *name)
{
        const char *slash = argv0 != NULL ? strrchr(argv0, '/') : NULL;

        return argv0 != NULL && strcmp(slash != NULL ? slash + 1 : argv0, name) == 0;
}

int main(int argc, char **argv)
{
        os_guard_stdio();
        if (!is_called(argv[0], "flock"))
                return finish_output(act(argc, argv));
        be_called("flock");
        return finish_output(flock_main(argc, argv));
}
