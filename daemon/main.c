/* portalockd: the arguments. */
#include "daemon.h"
#include "files.h"

#include "process.h"
#include "wire.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
        "usage: portalockd [OPTION]...\n"
        "Serve file locks to the programs of this user, or of all.\n"
        "\n"
        "  --socket PATH        listen there (default: PORTALOCK_SOCKET, else the user's socket; see portalockd(1))\n"
        "  --state-dir DIR      keep there what must outlive this daemon (default: see portalockd(1))\n"
        "  --system             serve every user (default socket: /run/portalock/system)\n"
        "  --idle-exit SECONDS  stop when nobody has been connected for so long (default: never)\n"
        "  --max-sessions N     serve no more than N connections at a time (default: 20000)\n"
        "  --keep-open MS       how long a file that is locked again and again stays open in between (default, and the most: 2000)\n"
        "  --log-level LEVEL    error, warning, info (default) or debug; the log goes to stderr\n"
        "  --log-waits MS       log who blocks a request that has waited longer than this (default 10000)\n"
        "  --ready-fd N         write READY to descriptor N once connections are accepted\n"
        "  --version            print the version\n"
        "  --help               print this\n"
        "\n"
        "exit status: 0 stopped as asked, 1 cannot serve, 3 another daemon serves that socket, 64 wrong usage\n";

/* A whole number from 0 to `max`; says what is wrong with it otherwise. */
static bool number(const char *option, const char *text, long long max, int64_t *out)
{
        char *end;
        long long n;

        errno = 0;
        n = strtoll(text, &end, 10);
        if (errno != 0 || end == text || *end != '\0' || n < 0 || n > max) {
                fprintf(stderr, "portalockd: %s takes a whole number from 0 to %lld, not '%s'\n", option, max, text);
                return false;
        }
        *out = n;
        return true;
}

int main(int argc, char **argv)
{
        static const struct option options[] = {
                {"socket", required_argument, NULL, 's'},    {"idle-exit", required_argument, NULL, 'i'},
                {"state-dir", required_argument, NULL, 'd'},
                {"max-sessions", required_argument, NULL, 'm'},
                {"system", no_argument, NULL, 'S'},
                {"keep-open", required_argument, NULL, 'k'},
                {"log-level", required_argument, NULL, 'l'}, {"log-waits", required_argument, NULL, 'w'},
                {"ready-fd", required_argument, NULL, 'r'},  {"version", no_argument, NULL, 'V'},
                {"help", no_argument, NULL, 'h'},            {0}};
        struct daemon_options o = {.idle_exit_s = -1, .keep_open_ms = FILES_KEEP_OPEN_MS_MAX, .log_waits_ms = 10000, .sessions_max = PL_SESSIONS_MAX, .ready_fd = -1, .log_level = LOG_INFO};
        int64_t fd = -1;
        int c;

        argv = process_arguments(&argc, argv);
        if (argv == NULL) {
                fprintf(stderr, "portalockd: the arguments cannot be read\n");
                return DAEMON_EXIT_FAILED;
        }
        while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
                switch (c) {
                case 's':
                        o.socket = optarg;
                        break;
                case 'd':
                        if (optarg[0] != '\0') {
                                o.state_dir = optarg;
                                break;
                        }
                        fprintf(stderr, "portalockd: --state-dir takes the path of a folder\n");
                        return DAEMON_EXIT_USAGE;
                case 'S':
                        o.system = true;
                        break;
                case 'i':
                        if (!number("--idle-exit", optarg, INT32_MAX, &o.idle_exit_s))
                                return DAEMON_EXIT_USAGE;
                        break;
                case 'm':
                        if (!number("--max-sessions", optarg, PL_SESSIONS_MAX, &o.sessions_max))
                                return DAEMON_EXIT_USAGE;
                        break;
                case 'k':
                        if (!number("--keep-open", optarg, FILES_KEEP_OPEN_MS_MAX, &o.keep_open_ms))
                                return DAEMON_EXIT_USAGE;
                        break;
                case 'l':
                        if (log_level_parse(optarg, &o.log_level))
                                break;
                        fprintf(stderr, "portalockd: --log-level takes error, warning, info or debug, not '%s'\n", optarg);
                        return DAEMON_EXIT_USAGE;
                case 'w':
                        if (!number("--log-waits", optarg, INT32_MAX, &o.log_waits_ms))
                                return DAEMON_EXIT_USAGE;
                        break;
                case 'r':
                        if (!number("--ready-fd", optarg, INT32_MAX, &fd))
                                return DAEMON_EXIT_USAGE;
                        /* Before anything else is opened: a number that is not open yet would later be a descriptor of ours. */
                        if (!process_adopt((int)fd)) {
                                fprintf(stderr, "portalockd: --ready-fd %lld is not an open descriptor\n", (long long)fd);
                                return DAEMON_EXIT_USAGE;
                        }
                        o.ready_fd = (int)fd;
                        break;
                case 'V':
                        puts("portalockd " PORTALOCK_VERSION);
                        return DAEMON_EXIT_OK;
                case 'h':
                        fputs(usage, stdout);
                        return DAEMON_EXIT_OK;
                default:
                        fprintf(stderr, "portalockd: try 'portalockd --help'\n");
                        return DAEMON_EXIT_USAGE;
                }
        }
        if (optind < argc) {
                fprintf(stderr, "portalockd: unexpected argument '%s'; try 'portalockd --help'\n", argv[optind]);
                return DAEMON_EXIT_USAGE;
        }
        return daemon_run(&o);
}
