/* lockctl list: who holds, who waits. */
#include "lockctl.h"

#include "os.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum column { COMMAND, PID, USER, MODE, STATE, AGE, TOKEN, PATH, COLUMNS };

static const char *const headings[COLUMNS] = {"COMMAND", "PID", "USER", "MODE", "STATE", "AGE", "TOKEN", "PATH"};
static const bool right[COLUMNS] = {[PID] = true, [AGE] = true, [TOKEN] = true};

struct text_row {
        char *cells[COLUMNS];
};

struct text_table {
        struct text_row *rows;
        size_t count, room;
        int width[COLUMNS];
        bool failed;
};

static void set_number(char *out, size_t size, int64_t n, int64_t least)
{
        if (n < least)
                snprintf(out, size, "-");
        else
                snprintf(out, size, "%" PRId64, n);
}

static void add_row(void *arg, const struct portalock_row *r)
{
        const char *name = r->client[0] != '\0' ? r->client : r->command[0] != '\0' ? r->command : "-";
        char pid[24], user[64], age[32], token[24], command[300];
        const char *cells[COLUMNS] = {command, pid, user, r->mode == PORTALOCK_EX ? "LOCK_EX" : "LOCK_SH", r->state, age, token, r->path[0] != '\0' ? r->path : "-"};
        struct text_table *t = arg;
        size_t i, room;
        void *more;

        if (t->count == t->room) {
                room = t->room * 2 + 64;
                more = realloc(t->rows, room * sizeof *t->rows);
                if (more == NULL) {
                        t->failed = true;
                        return;
                }
                t->rows = more;
                t->room = room;
        }
        snprintf(command, sizeof command, "%s%s", strcmp(r->state, "waiting") == 0 ? "  " : "", name);
        set_number(pid, sizeof pid, r->pid, 1);
        os_user_name(r->uid, user, sizeof user);
        describe_age(age, sizeof age, r->age_ms);
        set_number(token, sizeof token, r->token, 1);
        for (i = 0; i < COLUMNS; i++) {
                t->rows[t->count].cells[i] = printable(cells[i]);
                if (t->rows[t->count].cells[i] == NULL)
                        t->failed = true;
                else if ((int)strlen(t->rows[t->count].cells[i]) > t->width[i])
                        t->width[i] = (int)strlen(t->rows[t->count].cells[i]);
        }
        t->count++;
}

static void print_row(const struct text_table *t, const char *const *cells)
{
        int i;

        for (i = 0; i < PATH; i++)
                printf(right[i] ? "%*s " : "%-*s ", t->width[i], cells[i]);
        printf("%s\n", cells[PATH]);
}

static void print_table(const struct text_table *t)
{
        size_t i;

        if (t->count == 0)
                return;
        print_row(t, headings);
        for (i = 0; i < t->count; i++)
                print_row(t, (const char *const *)t->rows[i].cells);
}

static void clear_table(struct text_table *t)
{
        size_t i, k;

        for (i = 0; i < t->count; i++)
                for (k = 0; k < COLUMNS; k++)
                        free(t->rows[i].cells[k]);
        free(t->rows);
}

static int list_rows(portalock_session *s, const char *const *paths, int count)
{
        struct text_table t = {0};
        size_t i;
        int e;

        for (i = 0; i < COLUMNS; i++)
                t.width[i] = (int)strlen(headings[i]);
        e = portalock_list(s, paths, count, add_row, &t);
        if (e == 0 && !t.failed)
                print_table(&t);
        clear_table(&t);
        if (e != 0)
                return report_failure(s, NULL);
        if (t.failed) {
                complain("out of memory");
                return EXIT_SYSTEM;
        }
        return 0;
}

static int list_json(portalock_session *s, const char *const *paths, int count)
{
        char *json;

        if (portalock_list_json(s, paths, count, &json) != 0)
                return report_failure(s, NULL);
        puts(json);
        free(json);
        return 0;
}

int cmd_list(int argc, char **argv)
{
        static const char shorts[] = ":J";
        static const struct option longs[] = {{"json", no_argument, NULL, 'J'}, {0}};
        portalock_session *s;
        const char *const *paths;
        bool json = false;
        int c, code = 0;

        opterr = 0;
        while ((c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
                if (c != 'J')
                        return bad_option("list", c, argv, shorts);
                json = true;
        }
        s = open_session(true, &code);
        if (s == NULL) {
                if (code == 0 && json)
                        puts("{\"locks\":[]}");
                return code;
        }
        paths = (const char *const *)(argv + optind);
        code = json ? list_json(s, paths, argc - optind) : list_rows(s, paths, argc - optind);
        portalock_disconnect(s);
        return code;
}
