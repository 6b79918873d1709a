/* lockctl ping, stats, stop, sockname: the daemon itself. */
#include "lockctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int take_flags(int argc, char **argv, const char *const *flags, bool *found)
{
        int i, k;

        for (i = 1; i < argc; i++) {
                for (k = 0; flags[k] != NULL && strcmp(flags[k], argv[i]) != 0; k++)
                        ;
                if (flags[k] == NULL)
                        return bad_usage(argv[0], "unexpected argument '%s'", argv[i]);
                found[k] = true;
        }
        return -1;
}

portalock_session *open_session(bool quiet, int *code)
{
        portalock_session *s;
        int e = portalock_connect(NULL, PORTALOCK_CONNECT_NO_SPAWN, &s), error = portalock_error(s)->os_errno;

        *code = 0;
        if (e == 0)
                return s;
        /* One that cannot be reached (EACCES) may well run. */
        if (!quiet || e != PORTALOCK_E_NO_DAEMON || (error != ENOENT && error != ECONNREFUSED))
                *code = report_failure(s, NULL);
        portalock_disconnect(s);
        return NULL;
}

/* A session for a subcommand that takes no arguments but `flags`; NULL with the exit code to give. */
static portalock_session *begin(int argc, char **argv, const char *const *flags, bool *found, int *code)
{
        *code = take_flags(argc, argv, flags, found);
        return *code >= 0 ? NULL : open_session(false, code);
}

static int call(portalock_session *s, const char *method, const char *params, char **json)
{
        return portalock_call_wait(s, method, params, ANSWER_MS, json) == 0 ? 0 : report_failure(s, NULL);
}

int cmd_ping(int argc, char **argv)
{
        static const char *const none[] = {NULL};
        char *json;
        int code;
        portalock_session *s = begin(argc, argv, none, NULL, &code);

        if (s == NULL)
                return code;
        code = call(s, "ping", NULL, &json);
        if (code == 0) {
                printf("portalockd %s, pid %" PRId64 ", on %s\n", portalock_daemon_version(s), portalock_daemon_pid(s), portalock_socket(s));
                free(json);
        }
        portalock_disconnect(s);
        return code;
}

int cmd_stats(int argc, char **argv)
{
        static const char *const none[] = {NULL};
        char *json;
        int code;
        portalock_session *s = begin(argc, argv, none, NULL, &code);

        if (s == NULL)
                return code;
        code = call(s, "stats", NULL, &json);
        if (code == 0) {
                puts(json);
                free(json);
        }
        portalock_disconnect(s);
        return code;
}

int cmd_stop(int argc, char **argv)
{
        static const char *const flags[] = {"--force", NULL};
        bool force = false;
        char *json;
        int code;
        portalock_session *s = begin(argc, argv, flags, &force, &code);

        if (s == NULL)
                return code;
        code = call(s, "stop", force ? "{\"force\":true}" : NULL, &json);
        if (code == 0)
                free(json);
        portalock_disconnect(s);
        return code;
}

int cmd_sockname(int argc, char **argv)
{
        static const char *const none[] = {NULL};
        portalock_session *s;
        int code = take_flags(argc, argv, none, NULL);

        if (code >= 0)
                return code;
        /* Connected or not: the session knows where it looked. */
        (void)portalock_connect(NULL, PORTALOCK_CONNECT_NO_SPAWN, &s);
        if (s == NULL) {
                complain("out of memory");
                return EXIT_SYSTEM;
        }
        puts(portalock_socket(s));
        portalock_disconnect(s);
        return 0;
}
