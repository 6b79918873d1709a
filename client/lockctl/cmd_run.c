/* lockctl run: a command under a lock. */
#include "lockctl.h"

#include "os.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct options {
        int flags;              /* PORTALOCK_SH or PORTALOCK_EX, perhaps with NB */
        int64_t timeout_ms;     /* -1: for ever */
        int conflict_code;
        bool require_daemon, verbose;
        const char *path;
        char **command;
};

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

static bool parse_code(const char *text, int *code)
{
        char *end;
        long n = strtol(text, &end, 10);

        if (end == text || *end != '\0' || n < 0 || n > 255)
                return false;
        *code = (int)n;
        return true;
}

/* 0, or the exit code of a usage error. */
static int parse(int argc, char **argv, struct options *o)
{
        enum { REQUIRE_DAEMON = 256, VERBOSE };
        static const struct option longs[] = {{"shared", no_argument, NULL, 's'},
                                              {"exclusive", no_argument, NULL, 'x'},
                                              {"nonblock", no_argument, NULL, 'n'},
                                              {"nonblocking", no_argument, NULL, 'n'},
                                              {"nb", no_argument, NULL, 'n'},
                                              {"timeout", required_argument, NULL, 'w'},
                                              {"wait", required_argument, NULL, 'w'},
                                              {"conflict-exit-code", required_argument, NULL, 'E'},
                                              {"require-daemon", no_argument, NULL, REQUIRE_DAEMON},
                                              {"verbose", no_argument, NULL, VERBOSE},
                                              {0}};
        int mode = PORTALOCK_EX, c;
        bool nonblock = false;

        *o = (struct options){.timeout_ms = -1, .conflict_code = EXIT_CONFLICT};
        /* '+': options after FILE belong to the command. */
        while ((c = getopt_long(argc, argv, "+sexnw:E:", longs, NULL)) != -1) {
                switch (c) {
                case 's':
                        mode = PORTALOCK_SH;
                        break;
                case 'e':
                case 'x':
                        mode = PORTALOCK_EX;
                        break;
                case 'n':
                        nonblock = true;
                        break;
                case 'w':
                        if (!parse_seconds(optarg, &o->timeout_ms))
                                return bad_usage("run", "-w takes seconds, perhaps with a fraction, not '%s'", optarg);
                        break;
                case 'E':
                        if (!parse_code(optarg, &o->conflict_code))
                                return bad_usage("run", "-E takes an exit code from 0 to 255, not '%s'", optarg);
                        break;
                case REQUIRE_DAEMON:
                        o->require_daemon = true;
                        break;
                case VERBOSE:
                        o->verbose = true;
                        break;
                default:
                        fputs("lockctl run: try 'lockctl help run'\n", stderr);
                        return EXIT_BAD_USAGE;
                }
        }
        if (optind >= argc)
                return bad_usage("run", "the lock file is missing");
        if (optind + 1 >= argc)
                return bad_usage("run", "the command to run under '%s' is missing", argv[optind]);
        o->flags = mode | (nonblock ? PORTALOCK_NB : 0);
        o->path = argv[optind];
        o->command = argv + optind + 1;
        return 0;
}

static int run_command(const struct options *o, int fd)
{
        int code = os_run(o->command, fd);

        if (code >= 0)
                return code;
        complain("cannot run '%s': %s", o->command[0], strerror(-code));
        return code == -ENOMEM || code == -EAGAIN ? EXIT_SYSTEM : EXIT_NO_DAEMON;
}

/* Nobody to queue with: the kernel's own lock still keeps everybody apart. */
static int run_directly(const struct options *o, const char *why)
{
        int fd, error, code;

        if (o->verbose || os_is_terminal(STDERR_FILENO))
                complain("%s; locking with flock(2) directly, unfair and unseen", why);
        switch (os_lock_direct(o->path, o->flags, o->timeout_ms, &fd, &error)) {
        case OS_DIRECT_OK:
                code = run_command(o, fd);
                close(fd);
                return code;
        case OS_DIRECT_BUSY:
                complain("%s: held by somebody else; leave out -n to wait for it", o->path);
                return o->conflict_code;
        case OS_DIRECT_TIMED_OUT:
                complain("%s: the time ran out, still held by somebody else", o->path);
                return o->conflict_code;
        case OS_DIRECT_NO_FILE:
                complain("%s: %s", o->path, strerror(error));
                return error == EROFS || error == ENOSPC ? EXIT_CANNOT_CREATE : error == EMFILE || error == ENFILE || error == ENOMEM ? EXIT_SYSTEM : EXIT_NO_FILE;
        case OS_DIRECT_FAILED:
                break;
        }
        complain("%s: %s", o->path, strerror(error));
        return error == ENOLCK || error == ENOMEM ? EXIT_SYSTEM : EXIT_BAD_LOCK;
}

static const char *base_name(const char *path)
{
        const char *slash = strrchr(path, '/');

        return slash != NULL && slash[1] != '\0' ? slash + 1 : path;
}

static int64_t now_ms(void)
{
        struct timespec t;

        timespec_get(&t, TIME_UTC);
        return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The daemon is gone (or never was): may the kernel do without it? */
static bool is_absence(int e)
{
        return e == PORTALOCK_E_NO_DAEMON || e == PORTALOCK_E_CONNECTION || e == PORTALOCK_E_SHUTTING_DOWN;
}

int cmd_run(int argc, char **argv)
{
        struct options o;
        portalock_session *s = NULL;
        portalock_file *f = NULL;
        int64_t began;
        int e, code = parse(argc, argv, &o);

        if (code != 0)
                return code;
        began = now_ms();
        e = portalock_connect(base_name(o.command[0]), 0, &s);
        if (e == 0)
                e = portalock_open(s, o.path, &f);
        if (e == 0)
                e = portalock_lock(f, o.flags, o.timeout_ms);
        if (e == 0) {
                if (o.verbose)
                        complain("%s: locked after %lld ms, token %lld", o.path, (long long)(now_ms() - began), (long long)portalock_token(f));
                code = run_command(&o, portalock_file_fd(f));
        } else if (is_absence(e) && !o.require_daemon) {
                portalock_close(f);
                f = NULL;
                if (o.timeout_ms > 0)
                        o.timeout_ms = o.timeout_ms > now_ms() - began ? o.timeout_ms - (now_ms() - began) : 0;
                code = run_directly(&o, portalock_error(s)->text);
        } else {
                code = report_failure(s, o.path);
                if (e == PORTALOCK_E_LOCK_FAILED || e == PORTALOCK_E_TIMED_OUT)
                        code = o.conflict_code;
        }
        portalock_close(f);
        portalock_disconnect(s);
        return code;
}
