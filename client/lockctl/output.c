#include "lockctl.h"

#include "os.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGE_MAX 10000       /* two paths and some words */

/* Length of the control character at `p`, 0 if it is none: C0, DEL, and C1 in UTF-8 (U+009B starts an escape sequence too). */
static int control_length(const unsigned char *p)
{
        if (p[0] < 0x20 || p[0] == 0x7f)
                return 1;
        return p[0] == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f ? 2 : 0;
}

char *printable(const char *text)
{
        char *out = malloc(strlen(text) * 4 + 1), *p = out;
        int n;

        if (out == NULL)
                return NULL;
        while (*text != '\0') {
                n = control_length((const unsigned char *)text);
                if (n == 0)
                        *p++ = *text++;
                for (; n > 0; n--)
                        p += sprintf(p, "\\x%02X", (unsigned char)*text++);
        }
        *p = '\0';
        return out;
}

static const char *tool = "lockctl";

void be_called(const char *name)
{
        tool = name;
}

int fit_columns(const char *text, int columns)
{
        int bytes = 0;

        /* Bytes of the form 10xxxxxx continue a character. */
        while (text[bytes] != '\0' && (columns > 0 || ((unsigned char)text[bytes] & 0xc0) == 0x80)) {
                columns -= ((unsigned char)text[bytes] & 0xc0) != 0x80;
                bytes++;
        }
        return bytes;
}

int text_columns(const char *text)
{
        int columns = 0;

        for (; *text != '\0'; text++)
                columns += ((unsigned char)*text & 0xc0) != 0x80;
        return columns;
}

static void say(const char *text)
{
        char *line = printable(text);

        fprintf(stderr, "%s\n", line != NULL ? line : "lockctl: out of memory");
        free(line);
}

void complain(const char *format, ...)
{
        char text[MESSAGE_MAX];
        size_t len = (size_t)snprintf(text, sizeof text, "%s: ", tool);
        va_list args;

        va_start(args, format);
        vsnprintf(text + len, sizeof text - len, format, args);
        va_end(args);
        say(text);
}

int bad_usage(const char *command, const char *format, ...)
{
        char text[MESSAGE_MAX], what[MESSAGE_MAX / 2];
        va_list args;

        va_start(args, format);
        vsnprintf(what, sizeof what, format, args);
        va_end(args);
        snprintf(text, sizeof text, "lockctl %s: %s; try 'lockctl help %s'", command, what, command);
        say(text);
        return EXIT_BAD_USAGE;
}

/* The word that getopt has stopped at. musl's counts an argument that is missing, too. */
static const char *last_word(char **argv)
{
        return argv[optind - 1] != NULL ? argv[optind - 1] : argv[optind - 2];
}

int bad_option(const char *command, int refusal, char **argv, const char *shorts)
{
        if (refusal == ':')
                return bad_usage(command, "option '%s' needs an argument", last_word(argv));
        /* An unknown letter may stand inside a word that getopt_long() has not left yet. */
        if (optopt != 0 && optopt < 256 && strchr(shorts, optopt) == NULL)
                return bad_usage(command, "unknown option '-%c'", optopt);
        return bad_usage(command, "unknown option '%s'", argv[optind - 1]);
}

static int output_error;        /* of the first flush that failed */

void flush_output(void)
{
        bool failed = ferror(stdout) != 0;

        errno = 0;
        if (fflush(stdout) == 0 && !failed)
                return;
        if (output_error == 0)
                output_error = errno != 0 ? errno : EIO;
}

int finish_output(int code)
{
        flush_output();
        if (output_error == 0)
                return code;
        if (strcmp(tool, "flock") == 0) {
                if (output_error == EBADF)
                        return code;    /* it was closed on purpose */
                complain("write error: %s", strerror(output_error));
                return EXIT_CONFLICT;   /* so does flock(1), also after a command */
        }
        complain("cannot write the output: %s", strerror(output_error));
        return code != 0 ? code : EXIT_NO_OUTPUT;
}

void describe_process(char *out, size_t size, const char *command, const char *client, int64_t pid, int64_t uid)
{
        const char *name = client[0] != '\0' ? client : command;
        char user[64], who[160];

        if (pid <= 0) {
                snprintf(out, size, "an unknown process");
                return;
        }
        if (name[0] != '\0')
                snprintf(who, sizeof who, "%s[%" PRId64 "]", name, pid);
        else
                snprintf(who, sizeof who, "process %" PRId64, pid);
        os_user_name(uid, user, sizeof user);
        if (uid >= 0)
                snprintf(out, size, "%s (%s)", who, user);
        else
                snprintf(out, size, "%s", who);
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

int code_of_errno(int error, const char *syscall)
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
                return os_is_open_call(syscall) ? EXIT_NO_FILE : EXIT_BAD_LOCK;
        }
}

struct found {
        char text[300];
        bool any;
};

static void take_holder(void *arg, const struct portalock_row *r)
{
        struct found *f = arg;
        char who[200];

        if (f->any || strcmp(r->state, "waiting") == 0)
                return;
        f->any = true;
        describe_process(who, sizeof who, r->command, r->client, r->pid, r->uid);
        snprintf(f->text, sizeof f->text, "held by %s", who);
}

/* Somebody else has it. Of outsiders the refusal names only those that the daemon happened to know: then its list looks for them. */
static int report_conflict(portalock_session *s, const char *path)
{
        const struct portalock_error_info *e = portalock_error(s);
        struct found f = {.any = false};
        bool timed_out = e->code == PORTALOCK_E_TIMED_OUT;

        describe_holders(f.text, sizeof f.text, e);
        if (e->holder_count == 0)
                (void)portalock_list(s, &path, 1, take_holder, &f);
        if (timed_out)
                complain("%s: the time ran out, still %s; 'lockctl list %s' shows who waits", path, f.text, path);
        else
                complain("%s: %s; without -n, or with a longer -w, it waits", path, f.text);
        return EXIT_CONFLICT;
}

/* Who waits for what, round the circle. */
static int report_deadlock(const char *path, const struct portalock_error_info *e)
{
        char who[200];
        int i;

        complain("%s: not locked, a deadlock: waiting would never end:", path);
        for (i = 0; i < e->cycle_count; i++) {
                const struct portalock_cycle_step *step = &e->cycle[i];
                const char *end = i + 1 < e->cycle_count ? "," : "";

                describe_process(who, sizeof who, step->command, step->client, step->pid, step->uid);
                if (step->mode == 0)
                        complain("  %s waits for what it runs%s", who, end);
                else
                        complain("  %s waits for %s (%s)%s", who, step->path[0] != '\0' ? step->path : "another file", step->mode == PORTALOCK_EX ? "LOCK_EX" : "LOCK_SH", end);
        }
        return EXIT_DEADLOCK;
}

static void complain_of(const char *path, const char *text)
{
        if (path != NULL)
                complain("%s: %s", path, text);
        else
                complain("%s", text);
}

int report_failure(portalock_session *s, const char *path)
{
        const struct portalock_error_info *e = portalock_error(s);

        switch (e->code) {
        case PORTALOCK_E_LOCK_FAILED:
        case PORTALOCK_E_TIMED_OUT:
                return report_conflict(s, path);
        case PORTALOCK_E_DEADLOCK:
                return report_deadlock(path, e);
        case PORTALOCK_E_OS:
                complain("%s", e->text);
                return code_of_errno(e->os_errno, e->syscall);
        case PORTALOCK_E_NO_MEMORY:
        case PORTALOCK_E_LIMIT:
                complain_of(path, e->text);
                return EXIT_SYSTEM;
        case PORTALOCK_E_NO_DAEMON:
                if (path != NULL)
                        complain("%s: not locked: %s; without --require-daemon %s does it", path, e->text, os_lock_call);
                else
                        complain("%s", e->text);
                return EXIT_NO_DAEMON;
        case PORTALOCK_E_CONNECTION:
        case PORTALOCK_E_PROTOCOL:
        case PORTALOCK_E_SHUTTING_DOWN:
                complain_of(path, e->text);
                return EXIT_PEER;
        case PORTALOCK_E_DENIED:
                complain("%s", e->text);
                return EXIT_NOT_PERMITTED;
        default:
                complain_of(path, e->text);
                return EXIT_BAD_LOCK;
        }
}
