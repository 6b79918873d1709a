/* lockctl watch: what happens, as it happens. */
#include "lockctl.h"

#include "os.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int watch_files(portalock_session *s, const char *const *paths, int count)
{
        int e = count == 0 ? portalock_watch(s, NULL) : 0, i;

        for (i = 0; i < count && e == 0; i++)
                e = portalock_watch(s, paths[i]);
        return e;
}

static void write_time(char *out, size_t size, int64_t time_ms)
{
        time_t seconds = (time_t)(time_ms / 1000);
        const struct tm *t = localtime(&seconds);
        char text[32] = "?";

        if (t != NULL)
                strftime(text, sizeof text, "%H:%M:%S", t);
        snprintf(out, size, "%s.%03d", text, (int)(time_ms % 1000));
}

static void on_event(void *arg, const struct portalock_event *e)
{
        const bool *json = arg;
        char when[64], who[200], line[8192], *text;

        if (*json) {
                puts(e->json);
                fflush(stdout);
                return;
        }
        write_time(when, sizeof when, e->time_ms);
        if (strcmp(e->event, "overflow") == 0) {
                printf("%s overflow: %" PRId64 " events were left out\n", when, e->dropped);
                fflush(stdout);
                return;
        }
        describe_process(who, sizeof who, e->command, e->client, e->pid, e->uid);
        snprintf(line, sizeof line, "%s %-9s %s %s %s", when, e->event, e->mode == PORTALOCK_SH ? "LOCK_SH" : "LOCK_EX", who, e->path[0] != '\0' ? e->path : "-");
        text = printable(line);
        puts(text != NULL ? text : "out of memory");
        free(text);
        fflush(stdout);
}

void report_connection(bool connected)
{
        complain(connected ? "a daemon is there again; what happened meanwhile was not seen" : "the daemon is gone; waiting for another");
}

static void on_connection(void *arg, bool connected)
{
        (void)arg;
        report_connection(connected);
}

int cmd_watch(int argc, char **argv)
{
        static const char shorts[] = ":J";
        static const struct option longs[] = {{"json", no_argument, NULL, 'J'}, {0}};
        struct portalock_callbacks callbacks = {.event = on_event, .connection = on_connection};
        portalock_session *s;
        bool json = false;
        struct os_event e;
        int c, code;

        opterr = 0;
        while ((c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
                if (c != 'J')
                        return bad_option("watch", c, argv, shorts);
                json = true;
        }
        s = open_session(false, &code);
        if (s == NULL)
                return code;
        portalock_set_callbacks(s, &callbacks, &json);
        if (watch_files(s, (const char *const *)(argv + optind), argc - optind) != 0) {
                code = report_failure(s, NULL);
                portalock_disconnect(s);
                return code;
        }
        os_catch_signals();
        do {
                os_next_event(&e, portalock_fd(s), (portalock_events(s) & PORTALOCK_WRITABLE) != 0, portalock_timeout(s), 0);
                if (e.kind == OS_SIGNAL)
                        os_die_by(e.number);
        } while (portalock_process(s) == 0 && ferror(stdout) == 0);
        code = ferror(stdout) != 0 ? 0 : report_failure(s, NULL);
        portalock_disconnect(s);
        return code;
}
