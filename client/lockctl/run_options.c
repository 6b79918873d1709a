/* The options of run, which are those of flock(1) and a few of our own. Both names share one grammar; what they say of mistakes differs. */
#include "lockctl.h"

#include "os.h"
#include "run.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECONDS_MAX 1e9 /* 31 years */

enum { REQUIRE_DAEMON = 256, VERBOSE, DESCRIPTOR, ON_LOST, REMOVE, UNSUPPORTED };

/* '+': options after FILE belong to the command. ':': we say ourselves what is wrong; as flock getopt does, in its words. */
static const char shorts[] = "+:sexnuoFw:E:hV";
static const char flock_shorts[] = "+sexnuoFw:E:hV";

static const struct option longs[] = {
        {"remove", no_argument, NULL, REMOVE},
        {"shared", no_argument, NULL, 's'},
        {"exclusive", no_argument, NULL, 'x'},
        {"unlock", no_argument, NULL, 'u'},
        {"nonblocking", no_argument, NULL, 'n'},
        {"nonblock", no_argument, NULL, 'n'},
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
static const struct option *const flock_longs = longs + 1;      /* it does not remove */

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

/* Seconds with a fraction -> milliseconds, rounded up. */
static int64_t milliseconds(double seconds)
{
        int64_t ms = (int64_t)(seconds * 1000);

        return (double)ms < seconds * 1000 ? ms + 1 : ms;
}

/* -1, or the exit code of a mistake. */
static int take_seconds(struct run_options *o, const char *text)
{
        char *end;
        double seconds = strtod(text, &end);
        bool is_number = end != text && *end == '\0';

        if (!o->is_flock) {
                if (!is_number || strspn(text, "0123456789.") != strlen(text) || seconds > SECONDS_MAX)
                        return mistake(o, "-w takes seconds, perhaps with a fraction, not '%s'", text);
        } else if (!is_number) {
                return mistake(o, "invalid timeout value: '%s'", text);
        } else if (!(seconds > -1e-6 && seconds < (double)INT64_MAX)) {
                complain("cannot set up timer: %s", strerror(EINVAL));  /* less than nothing, inf, nan */
                return EXIT_SYSTEM;
        } else if (seconds > SECONDS_MAX) {
                seconds = SECONDS_MAX;
        }
        o->timeout_ms = milliseconds(seconds > 0 ? seconds : 0);
        return -1;
}

/* 0; EINVAL: no number; ERANGE: one that is no int. */
static int parse_int(const char *text, int *out)
{
        char *end;
        long n;

        errno = 0;
        n = strtol(text, &end, 10);
        if (end == text || *end != '\0')
                return EINVAL;
        if (errno != 0 || n < INT_MIN || n > INT_MAX)
                return ERANGE;
        *out = (int)n;
        return 0;
}

/* flock's words for a number that is none. */
static int bad_number(const struct run_options *o, const char *what, const char *text, int error)
{
        return mistake(o, "%s: '%s'%s%s", what, text, error == ERANGE ? ": " : "", error == ERANGE ? strerror(error) : "");
}

static int take_conflict_code(struct run_options *o, const char *text)
{
        int code = 0, error = parse_int(text, &code);

        if (error == 0 && code >= 0 && code <= 255) {
                o->conflict_code = code;
                return -1;
        }
        if (!o->is_flock)
                return mistake(o, "-E takes an exit code from 0 to 255, not '%s'", text);
        return error != 0 ? bad_number(o, "invalid exit code", text, error) : mistake(o, "exit code out of range (expected 0 to 255)");
}

static int take_descriptor(struct run_options *o, const char *text)
{
        int fd = -1, error = parse_int(text, &fd);

        if (error != 0)
                return bad_number(o, "bad file descriptor", text, error);
        if (fd < 0) {
                complain("%d: %s", fd, strerror(EBADF));
                return EXIT_BAD_LOCK;
        }
        o->fd = fd;
        return -1;
}

static int refuse_option(const struct run_options *o, int refusal, char **argv)
{
        if (!o->is_flock)
                return bad_option("run", refusal, argv, shorts);
        fputs("Try 'flock --help' for more information.\n", stderr);   /* the rest has getopt said */
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
                return take_seconds(o, optarg);
        case 'E':
                return take_conflict_code(o, optarg);
        case DESCRIPTOR:
                return take_descriptor(o, optarg);
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
        case REMOVE:
                o->remove = true;
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

static bool is_shell_word(const char *word)
{
        return strcmp(word, "-c") == 0 || strcmp(word, "--command") == 0;
}

/* What stands behind the options: FILE COMMAND..., FILE -c STRING, NUMBER; behind --fd COMMAND..., -c STRING, or nothing. */
static int take_words(struct run_options *o, int count, char **words)
{
        if (o->fd < 0) {
                if (count == 0)
                        return mistake(o, o->is_flock ? "requires file descriptor, file or directory" : "the lock file is missing");
                if (count == 1 && !o->is_flock && parse_int(words[0], &(int){0}) == EINVAL)
                        return mistake(o, "the command to run under '%s' is missing (a descriptor's number alone would need none)", words[0]);
                if (count == 1)
                        return take_descriptor(o, words[0]);
                o->path = words[0];
                count--;
                words++;
        }
        if (count == 0)
                return -1;
        o->command = words;
        if (is_shell_word(words[0])) {
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

static int check_remove(const struct run_options *o)
{
        const char *kind;

        if (o->path == NULL)
                return mistake(o, "--remove needs the FILE's name: a descriptor has none to remove");
        if (o->unlock)
                return mistake(o, "--remove and --unlock do not go together: only whoever has the lock may remove the file");
        if (o->no_fork)
                return mistake(o, "--remove and --no-fork do not go together: nobody would be there to remove the file when the command has ended");
        kind = os_kept_kind(o->path);
        return kind != NULL ? mistake(o, "'%s' is %s; --remove is for regular files", o->path, kind) : -1;
}

int run_parse(int argc, char **argv, bool is_flock, struct run_options *o)
{
        int mode = PORTALOCK_EX, c, code;
        bool nonblock = false;

        *o = (struct run_options){.is_flock = is_flock, .timeout_ms = -1, .conflict_code = EXIT_CONFLICT, .fd = -1};
        opterr = is_flock;
        if (is_flock && argc < 2) {
                fputs("flock: not enough arguments\nTry 'flock --help' for more information.\n", stderr);
                return EXIT_BAD_USAGE;
        }
        /* Behind --fd NUMBER, -c is no option but the beginning of the words. */
        while (!(o->fd >= 0 && optind < argc && is_shell_word(argv[optind])) &&
               (c = getopt_long(argc, argv, is_flock ? flock_shorts : shorts, is_flock ? flock_longs : longs, NULL)) != -1) {
                code = take_option(o, c, argv, &mode, &nonblock);
                if (code >= 0)
                        return code;
        }
        if (o->no_fork && o->close_in_command)
                return mistake(o, "the --no-fork and --close options are incompatible");
        code = take_words(o, argc - optind, argv + optind);
        if (code < 0 && o->remove)
                code = check_remove(o);
        if (code >= 0)
                return code;
        o->flags = mode | (nonblock ? PORTALOCK_NB : 0);
        return -1;
}
