/* The options of run, which are those of flock(1) and a few of our own. Both names share one grammar; what they say of mistakes differs. */
#include "lockctl.h"

#include "run.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REQUIRE_DAEMON = 256, VERBOSE, DESCRIPTOR, ON_LOST, UNSUPPORTED };

static const char shorts[] = "+:sexnuoFw:E:hV"; /* '+': options after FILE belong to the command */

static const struct option longs[] = {
        {"shared", no_argument, NULL, 's'},
        {"exclusive", no_argument, NULL, 'x'},
        {"unlock", no_argument, NULL, 'u'},
        {"nonblock", no_argument, NULL, 'n'},
        {"nonblocking", no_argument, NULL, 'n'},
        {"nb", no_argument, NULL, 'n'},
        {"timeout", required_argument, NULL, 'w'},
        {"wait", required_argument, NULL, 'w'},
        {"conflict-exit-code", required_argument, NULL, 'E'},
        {"close", no_argument, NULL, 'o'},
        {"no-fork", no_argument, NULL, 'F'},
        {"fd", required_argument, NULL, DESCRIPTOR},
        {"verbose", no_argument, NULL, VERBOSE},
        {"require-daemon", no_argument, NULL, REQUIRE_DAEMON},
        {"on-lost", required_argument, NULL, ON_LOST},
        {"fcntl", no_argument, NULL, UNSUPPORTED},
        {"start", required_argument, NULL, UNSUPPORTED},
        {"length", required_argument, NULL, UNSUPPORTED},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {0}};

static const char flock_usage[] =
        "\n"
        "Usage:\n"
        " flock [options] <file>|<directory> <command> [<argument>...]\n"
        " flock [options] <file>|<directory> -c <command>\n"
        " flock [options] <file descriptor number>\n"
        "\n"
        "Manage file locks from shell scripts.\n"
        "\n"
        "Options:\n"
        " -s, --shared             get a shared lock\n"
        " -x, --exclusive          get an exclusive lock (default)\n"
        " -u, --unlock             remove a lock\n"
        " -n, --nonblock           fail rather than wait\n"
        " -w, --timeout <secs>     wait for a limited amount of time\n"
        " -E, --conflict-exit-code <number>  exit code after conflict or timeout\n"
        " -o, --close              close file descriptor before running command\n"
        " -c, --command <command>  run a single command string through the shell\n"
        " -F, --no-fork            execute command without forking\n"
        "     --fd <number>        lock this descriptor, also before a command\n"
        "     --verbose            increase verbosity\n"
        "     --require-daemon     fail when portalockd cannot be had\n"
        "     --on-lost <kill|warn>  what to do when the lock is broken (default kill)\n"
        "\n"
        " -h, --help               display this help\n"
        " -V, --version            display version\n"
        "\n"
        "This is lockctl of portalock; see flock(1) and lockctl(1).\n";

static int mistake(const struct run_options *o, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int mistake(const struct run_options *o, const char *format, ...)
{
        char text[1024];
        va_list args;

        va_start(args, format);
        vsnprintf(text, sizeof text, format, args);
        va_end(args);
        if (!o->is_flock)
                return bad_usage("run", "%s", text);
        complain("%s", text);
        return EXIT_BAD_USAGE;
}

/* Seconds with a fraction -> milliseconds, rounded up. False for anything else. */
static bool parse_seconds(const char *text, int64_t *ms)
{
        char *end;
        double seconds;

        if (text[0] == '\0' || strspn(text, "0123456789.") != strlen(text))
                return false;
        errno = 0;
        seconds = strtod(text, &end);
        if (errno != 0 || *end != '\0' || end == text || seconds > 1e9)
                return false;
        *ms = (int64_t)(seconds * 1000);
        if ((double)*ms < seconds * 1000)
                (*ms)++;
        return true;
}

static bool parse_number(const char *text, long max, int *out)
{
        char *end;
        long n;

        errno = 0;
        n = strtol(text, &end, 10);
        if (errno != 0 || end == text || *end != '\0' || n < 0 || n > max)
                return false;
        *out = (int)n;
        return true;
}

static int refuse_option(const struct run_options *o, int refusal, char **argv)
{
        if (!o->is_flock)
                return bad_option("run", refusal, argv, shorts);
        if (refusal == ':')
                fprintf(stderr, "flock: option requires an argument -- '%s'\n", argv[optind - 1]);
        else
                fprintf(stderr, "flock: unrecognized option '%s'\n", argv[optind - 1]);
        fputs("Try 'flock --help' for more information.\n", stderr);
        return EXIT_BAD_USAGE;
}

static int take_option(struct run_options *o, int c, char **argv, int *mode, bool *nonblock)
{
        switch (c) {
        case 's':
                *mode = PORTALOCK_SH;
                o->unlock = false;
                break;
        case 'e':
        case 'x':
                *mode = PORTALOCK_EX;
                o->unlock = false;
                break;
        case 'u':
                o->unlock = true;
                break;
        case 'n':
                *nonblock = true;
                break;
        case 'o':
                o->close_in_command = true;
                break;
        case 'F':
                o->no_fork = true;
                break;
        case 'w':
                if (!parse_seconds(optarg, &o->timeout_ms))
                        return o->is_flock ? mistake(o, "invalid timeout value: '%s'", optarg) : mistake(o, "-w takes seconds, perhaps with a fraction, not '%s'", optarg);
                break;
        case 'E':
                if (!parse_number(optarg, 255, &o->conflict_code))
                        return o->is_flock ? mistake(o, "exit code out of range (expected 0 to 255)") : mistake(o, "-E takes an exit code from 0 to 255, not '%s'", optarg);
                break;
        case DESCRIPTOR:
                if (!parse_number(optarg, 1 << 30, &o->fd))
                        return mistake(o, "bad file descriptor: '%s'", optarg);
                break;
        case VERBOSE:
                o->verbose = true;
                break;
        case REQUIRE_DAEMON:
                o->require_daemon = true;
                break;
        case ON_LOST:
                if (strcmp(optarg, "warn") != 0 && strcmp(optarg, "kill") != 0)
                        return mistake(o, "--on-lost takes kill or warn, not '%s'", optarg);
                o->warn_when_lost = strcmp(optarg, "warn") == 0;
                break;
        case UNSUPPORTED:
                return mistake(o, "locks by fcntl(2) and on ranges (--fcntl, --start, --length) are not supported: only flock(2) on whole files");
        case 'h':
                if (!o->is_flock)
                        return cmd_help(2, (char *[]){(char *)(uintptr_t)"help", (char *)(uintptr_t)"run", NULL});
                fputs(flock_usage, stdout);
                return 0;
        case 'V':
                puts(o->is_flock ? "flock from portalock " PORTALOCK_VERSION : "lockctl " PORTALOCK_VERSION);
                return 0;
        default:
                return refuse_option(o, c, argv);
        }
        return -1;
}

/* What stands behind the options: FILE COMMAND..., FILE -c STRING, NUMBER; behind --fd COMMAND..., -c STRING, or nothing. */
static int take_words(struct run_options *o, int count, char **words)
{
        if (o->fd < 0) {
                if (count == 0)
                        return mistake(o, o->is_flock ? "requires file descriptor, file or directory" : "the lock file is missing");
                if (count == 1) {
                        if (parse_number(words[0], 1 << 30, &o->fd))
                                return -1;
                        return o->is_flock ? mistake(o, "bad file descriptor: '%s'", words[0])
                                           : mistake(o, "the command to run under '%s' is missing (a descriptor's number alone would need none)", words[0]);
                }
                o->path = words[0];
                count--;
                words++;
        }
        if (count == 0)
                return -1;
        o->command = words;
        if (strcmp(words[0], "-c") == 0 || strcmp(words[0], "--command") == 0) {
                const char *shell = getenv("SHELL");

                if (count != 2)
                        return mistake(o, "%s requires exactly one command argument", words[0]);
                o->shell[0] = (char *)(uintptr_t)(shell != NULL && shell[0] != '\0' ? shell : "/bin/sh");
                o->shell[1] = (char *)(uintptr_t)"-c";
                o->shell[2] = words[1];
                o->command = o->shell;
        }
        return -1;
}

int run_parse(int argc, char **argv, bool is_flock, struct run_options *o)
{
        int mode = PORTALOCK_EX, c, code;
        bool nonblock = false;

        *o = (struct run_options){.is_flock = is_flock, .timeout_ms = -1, .conflict_code = EXIT_CONFLICT, .fd = -1};
        opterr = 0;
        if (is_flock && argc < 2) {
                fputs("flock: not enough arguments\nTry 'flock --help' for more information.\n", stderr);
                return EXIT_BAD_USAGE;
        }
        while ((c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
                code = take_option(o, c, argv, &mode, &nonblock);
                if (code >= 0)
                        return code;
        }
        if (o->no_fork && o->close_in_command)
                return mistake(o, "the --no-fork and --close options are incompatible");
        code = take_words(o, argc - optind, argv + optind);
        if (code >= 0)
                return code;
        o->flags = mode | (nonblock ? PORTALOCK_NB : 0);
        return -1;
}
