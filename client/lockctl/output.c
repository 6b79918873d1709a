#include "lockctl.h"

#include "os.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void complain(const char *format, ...)
{
        va_list args;

        fputs("lockctl: ", stderr);
        va_start(args, format);
        vfprintf(stderr, format, args);
        va_end(args);
        fputc('\n', stderr);
}

int bad_usage(const char *command, const char *format, ...)
{
        va_list args;

        fprintf(stderr, "lockctl %s: ", command);
        va_start(args, format);
        vfprintf(stderr, format, args);
        va_end(args);
        fprintf(stderr, "; try 'lockctl help %s'\n", command);
        return EXIT_BAD_USAGE;
}

void describe_process(char *out, size_t size, const char *command, const char *client, int64_t pid, int64_t uid)
{
        const char *name = client[0] != '\0' ? client : command;
        char user[64];

        if (pid <= 0) {
                snprintf(out, size, "an unknown process");
                return;
        }
        os_user_name(uid, user, sizeof user);
        if (uid >= 0)
                snprintf(out, size, "%s[%" PRId64 "] (%s)", name, pid, user);
        else
                snprintf(out, size, "%s[%" PRId64 "]", name, pid);
}

void describe_age(char *out, size_t size, int64_t ms)
{
        int64_t s = ms / 1000;

        if (ms < 0)
                snprintf(out, size, "-");
        else if (s < 1)
                snprintf(out, size, "%" PRId64 "ms", ms);
        else if (s < 60)
                snprintf(out, size, "%" PRId64 "s", s);
        else if (s < 3600)
                snprintf(out, size, "%" PRId64 "m%02" PRId64 "s", s / 60, s % 60);
        else if (s < 86400)
                snprintf(out, size, "%" PRId64 "h%02" PRId64 "m", s / 3600, s % 3600 / 60);
        else
                snprintf(out, size, "%" PRId64 "d%02" PRId64 "h", s / 86400, s % 86400 / 3600);
}

/* "held by make[12] (ann) for 3s and 2 more"; without known holders: "held by somebody else". */
static void describe_holders(char *out, size_t size, const struct portalock_error_info *e)
{
        const struct portalock_holder *h = e->holders;
        char who[200], age[32], more[32] = "";

        if (e->holder_count == 0) {
                snprintf(out, size, "held by somebody else");
                return;
        }
        describe_process(who, sizeof who, h->command, h->client, h->pid, h->uid);
        describe_age(age, sizeof age, h->held_ms);
        if (e->holder_count > 1)
                snprintf(more, sizeof more, " and %d more", e->holder_count - 1);
        if (h->held_ms >= 0)
                snprintf(out, size, "held by %s for %s%s", who, age, more);
        else
                snprintf(out, size, "held by %s%s", who, more);
}

static int code_of_errno(int error, const char *syscall)
{
        switch (error) {
        case ENOMEM:
        case EMFILE:
        case ENFILE:
        case ENOLCK:
                return EXIT_SYSTEM;
        case EROFS:
        case ENOSPC:
                return EXIT_CANNOT_CREATE;
        default:
                return strcmp(syscall, "open") == 0 ? EXIT_NO_FILE : EXIT_BAD_LOCK;
        }
}

int report_failure(const portalock_session *s, const char *path)
{
        const struct portalock_error_info *e = portalock_error(s);
        char holders[300];

        describe_holders(holders, sizeof holders, e);
        switch (e->code) {
        case PORTALOCK_E_LOCK_FAILED:
                complain("%s: %s; leave out -n to wait for it", path, holders);
                return EXIT_CONFLICT;
        case PORTALOCK_E_TIMED_OUT:
                complain("%s: the time ran out, still %s; 'lockctl list %s' shows who waits", path, holders, path);
                return EXIT_CONFLICT;
        case PORTALOCK_E_OS:
                complain("%s", e->text);
                return code_of_errno(e->os_errno, e->syscall);
        case PORTALOCK_E_NO_MEMORY:
        case PORTALOCK_E_LIMIT:
                complain("%s%s%s", path != NULL ? path : "", path != NULL ? ": " : "", e->text);
                return EXIT_SYSTEM;
        case PORTALOCK_E_NO_DAEMON:
                complain("%s", e->text);
                return EXIT_NO_DAEMON;
        case PORTALOCK_E_CONNECTION:
        case PORTALOCK_E_PROTOCOL:
        case PORTALOCK_E_SHUTTING_DOWN:
                complain("%s%s%s", path != NULL ? path : "", path != NULL ? ": " : "", e->text);
                return EXIT_PEER;
        case PORTALOCK_E_DENIED:
                complain("%s", e->text);
                return EXIT_NOT_PERMITTED;
        default:
                complain("%s%s%s", path != NULL ? path : "", path != NULL ? ": " : "", e->text);
                return EXIT_BAD_LOCK;
        }
}
