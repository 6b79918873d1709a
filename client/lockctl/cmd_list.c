/* lockctl list: who holds, who waits. */
#include "lockctl.h"

#include "os.h"
#include "table.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define REDRAW_MS 200   /* at most so often */
#define REFRESH_MS 1000 /* ages grow */

struct cells {
        char text[300];
};

typedef void column_writer(struct cells *c, const struct portalock_row *r);

static void write_number(struct cells *c, int64_t n, int64_t least)
{
        if (n < least)
                snprintf(c->text, sizeof c->text, "-");
        else
                snprintf(c->text, sizeof c->text, "%" PRId64, n);
}

static void write_text(struct cells *c, const char *text)
{
        snprintf(c->text, sizeof c->text, "%s", text[0] != '\0' ? text : "-");
}

/* The command that runs, as the client called itself; waiters stand under what blocks them. */
static void write_command(struct cells *c, const struct portalock_row *r)
{
        const char *name = r->client[0] != '\0' ? r->client : r->command[0] != '\0' ? r->command : "-";

        snprintf(c->text, sizeof c->text, "%s%s", strcmp(r->state, "waiting") == 0 ? "  " : "", name);
}

static void write_pid(struct cells *c, const struct portalock_row *r)
{
        write_number(c, r->pid, 1);
}

static void write_user(struct cells *c, const struct portalock_row *r)
{
        os_user_name(r->uid, c->text, sizeof c->text);
}

static void write_uid(struct cells *c, const struct portalock_row *r)
{
        write_number(c, r->uid, 0);
}

static void write_mode(struct cells *c, const struct portalock_row *r)
{
        write_text(c, r->mode == PORTALOCK_EX ? "LOCK_EX" : "LOCK_SH");
}

static void write_state(struct cells *c, const struct portalock_row *r)
{
        write_text(c, r->state);
}

static void write_age(struct cells *c, const struct portalock_row *r)
{
        describe_age(c->text, sizeof c->text, r->age_ms);
}

static void write_age_ms(struct cells *c, const struct portalock_row *r)
{
        write_number(c, r->age_ms, 0);
}

static void write_token(struct cells *c, const struct portalock_row *r)
{
        write_number(c, r->token, 1);
}

static void write_lock(struct cells *c, const struct portalock_row *r)
{
        write_number(c, r->lock, 1);
}

static void write_session(struct cells *c, const struct portalock_row *r)
{
        write_number(c, r->session, 1);
}

static void write_position(struct cells *c, const struct portalock_row *r)
{
        write_number(c, r->position, 1);
}

static void write_timeout(struct cells *c, const struct portalock_row *r)
{
        describe_age(c->text, sizeof c->text, r->timeout_ms);
}

static void write_process(struct cells *c, const struct portalock_row *r)
{
        write_text(c, r->command);
}

static const struct column {
        const char *name;
        bool right;
        column_writer *write;   /* NULL: PATH, which may be longer than a cell */
        const char *about;
} columns[] = {
        {"COMMAND", false, write_command, "the command under the lock, as the client named itself, else its process"},
        {"PID", true, write_pid, "process id"},
        {"USER", false, write_user, "user name"},
        {"MODE", false, write_mode, "LOCK_EX or LOCK_SH"},
        {"STATE", false, write_state, "held, waiting, or outside: held by a program that does not use the daemon"},
        {"AGE", true, write_age, "held or waiting for so long"},
        {"TOKEN", true, write_token, "grows with each grant"},
        {"PATH", false, NULL, "the file"},
        {"AGE-MS", true, write_age_ms, "AGE in milliseconds"},
        {"LOCK", true, write_lock, "the id that 'lockctl break' takes"},
        {"POSITION", true, write_position, "place in the queue, 1 is next"},
        {"PROCESS", false, write_process, "name of the process that is connected"},
        {"SESSION", true, write_session, "id of the connection"},
        {"TIMEOUT", true, write_timeout, "how long it is ready to wait in all"},
        {"UID", true, write_uid, "user id"},
};
#define COLUMNS (sizeof columns / sizeof columns[0])
#define DEFAULT_COLUMNS "COMMAND,PID,USER,MODE,STATE,AGE,TOKEN,PATH"

void list_columns(FILE *out)
{
        size_t i;

        for (i = 0; i < COLUMNS; i++)
                fprintf(out, "  %-9s %s\n", columns[i].name, columns[i].about);
}

struct listing {
        portalock_session *session;
        const char *const *paths;
        int count;
        bool json, headings, watch, changed, disconnected;
        const struct column *chosen[TABLE_COLUMNS_MAX];
        struct text_table table;
};

static const struct column *find_column(const char *name, size_t len)
{
        size_t i;

        for (i = 0; i < COLUMNS; i++) {
                if (strlen(columns[i].name) == len && strncasecmp(columns[i].name, name, len) == 0)
                        return &columns[i];
        }
        return NULL;
}

/* -1, or the exit code of a mistake. */
static int choose_columns(struct listing *l, const char *names)
{
        struct text_table *t = &l->table;
        size_t len;

        t->columns = 0;
        for (;;) {
                const struct column *c;

                len = strcspn(names, ",");
                c = find_column(names, len);
                if (c == NULL)
                        return bad_usage("list", "no such column: '%.*s'", (int)len, names);
                if (t->columns == TABLE_COLUMNS_MAX)
                        return bad_usage("list", "more than %d columns", TABLE_COLUMNS_MAX);
                l->chosen[t->columns] = c;
                t->headings[t->columns] = c->name;
                t->right[t->columns++] = c->right;
                if (names[len] == '\0')
                        return -1;
                names += len + 1;
        }
}

static void add_row(void *arg, const struct portalock_row *r)
{
        const char *cells[TABLE_COLUMNS_MAX];
        struct cells text[TABLE_COLUMNS_MAX];
        struct listing *l = arg;
        int i;

        for (i = 0; i < l->table.columns; i++) {
                cells[i] = text[i].text;
                if (l->chosen[i]->write != NULL)
                        l->chosen[i]->write(&text[i], r);
                else
                        cells[i] = r->path[0] != '\0' ? r->path : "-";
        }
        table_add(&l->table, cells);
}

/* While it watches a daemon that is gone is no reason to end, as long as another may come. */
static int failure(const struct listing *l, int e)
{
        return l->disconnected && e == PORTALOCK_E_CONNECTION && portalock_process(l->session) == 0 ? 0 : report_failure(l->session, NULL);
}

static int show_rows(struct listing *l)
{
        int e = portalock_list(l->session, l->paths, l->count, add_row, l);
        bool failed = l->table.failed;

        if (e == 0 && !failed) {
                if (l->watch && os_is_terminal(1))
                        fputs("\033[H\033[2J", stdout);
                table_print(&l->table, l->headings);
        }
        table_clear(&l->table);
        if (e != 0)
                return failure(l, e);
        if (failed) {
                complain("out of memory");
                return EXIT_SYSTEM;
        }
        return 0;
}

static int show_json(struct listing *l)
{
        char *json;
        int e = portalock_list_json(l->session, l->paths, l->count, &json);

        if (e != 0)
                return failure(l, e);
        puts(json);
        free(json);
        return 0;
}

static int show(struct listing *l)
{
        int code = l->json ? show_json(l) : show_rows(l);

        if (!l->watch || code != 0)
                return code;
        if (!l->json && !os_is_terminal(1))
                putchar('\n');
        return fflush(stdout) != 0 ? EXIT_NO_OUTPUT : 0;
}

static void on_event(void *arg, const struct portalock_event *e)
{
        struct listing *l = arg;

        (void)e;
        l->changed = true;
}

static void on_connection(void *arg, bool connected)
{
        struct listing *l = arg;

        l->disconnected = !connected;
        l->changed = true;
        report_connection(connected);
}

/* Again after each change, until a signal. */
static int watch(struct listing *l)
{
        struct portalock_callbacks callbacks = {.event = on_event, .connection = on_connection};
        int64_t shown_ms, due_ms, timeout_ms;
        struct os_event e;
        int code = 0;

        portalock_set_callbacks(l->session, &callbacks, l);
        if (watch_files(l->session, l->paths, l->count) != 0)
                return report_failure(l->session, NULL);
        os_catch_signals();
        while (code == 0) {
                l->changed = false;
                code = l->disconnected ? 0 : show(l);
                shown_ms = os_now_ms();
                do {
                        due_ms = shown_ms + (l->changed ? REDRAW_MS : REFRESH_MS) - os_now_ms();
                        due_ms = due_ms > 0 ? due_ms : 0;
                        timeout_ms = portalock_timeout(l->session);
                        if (timeout_ms < 0 || timeout_ms > due_ms)
                                timeout_ms = due_ms;
                        os_next_event(&e, portalock_fd(l->session), (portalock_events(l->session) & PORTALOCK_WRITABLE) != 0, timeout_ms, 0);
                        if (e.kind == OS_SIGNAL)
                                os_die_by(e.number);
                        if (portalock_process(l->session) != 0)
                                return report_failure(l->session, NULL);
                } while (os_now_ms() < shown_ms + (l->changed ? REDRAW_MS : REFRESH_MS));
        }
        return code;
}

static int parse(int argc, char **argv, struct listing *l)
{
        enum { WATCH = 256 };
        static const char shorts[] = ":Jo:n";
        static const struct option longs[] = {{"json", no_argument, NULL, 'J'},
                                              {"output", required_argument, NULL, 'o'},
                                              {"noheadings", no_argument, NULL, 'n'},
                                              {"watch", no_argument, NULL, WATCH},
                                              {0}};
        int c, code;

        *l = (struct listing){.headings = true};
        code = choose_columns(l, DEFAULT_COLUMNS);
        opterr = 0;
        while (code < 0 && (c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
                switch (c) {
                case 'J':
                        l->json = true;
                        break;
                case 'o':
                        code = choose_columns(l, optarg);
                        break;
                case 'n':
                        l->headings = false;
                        break;
                case WATCH:
                        l->watch = true;
                        break;
                default:
                        code = bad_option("list", c, argv, shorts);
                }
        }
        l->paths = (const char *const *)(argv + optind);
        l->count = argc - optind;
        return code;
}

int cmd_list(int argc, char **argv)
{
        struct listing l;
        int code = parse(argc, argv, &l);

        if (code >= 0)
                return code;
        l.session = open_session(!l.watch, &code);
        if (l.session == NULL) {
                if (code == 0 && l.json)
                        puts("{\"locks\":[]}");
                return code;
        }
        code = l.watch ? watch(&l) : show(&l);
        portalock_disconnect(l.session);
        return code;
}
