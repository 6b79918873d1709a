/* What is held and waited for, page by page, as rows or as one document. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

/* Takes each file of the list. 0, or a negative code that ends the walk. */
typedef int (*file_taker)(void *arg, const struct pl_json *file);

/* One page from *after (owned, NULL: the start; NULL again after the last page). */
static int take_page(struct portalock_session *s, const char *path, char **after, file_taker take, void *arg)
{
        struct pl_writer w;
        struct pl_reply r;
        const struct pl_json *n;
        const char *next = NULL;
        int e;

        request_begin(s, &w, "list");
        if (path != NULL)
                pl_write_string(&w, "path", path);
        if (*after != NULL)
                pl_write_string(&w, "after", *after);
        free(*after);
        *after = NULL;
        e = call_wait(s, &w, true, CALL_MAX_MS, &r);
        if (e != 0)
                return e;
        for (n = pl_json_first(pl_json_get(r.body, "locks")); n != NULL && e == 0; n = pl_json_next(n))
                e = take(arg, n);
        if (e == 0 && pl_json_string(pl_json_get(r.body, "next"), &next) && (*after = strdup(next)) == NULL)
                e = PORTALOCK_E_NO_MEMORY;
        pl_reply_clear(&r);
        return e != 0 ? client_fail(s, e, "out of memory") : 0;
}

static int walk_path(struct portalock_session *s, const char *path, file_taker take, void *arg)
{
        char *absolute = NULL, *after = NULL;
        int e;

        if (path != NULL && (absolute = os_absolute(path)) == NULL)
                return client_no_memory(s);
        do
                e = take_page(s, absolute, &after, take, arg);
        while (e == 0 && after != NULL);
        free(after);
        free(absolute);
        return e;
}

static int walk(struct portalock_session *s, const char *const *paths, int count, file_taker take, void *arg)
{
        int e = client_usable(s), i;

        if (e == 0 && count == 0)
                return walk_path(s, NULL, take, arg);
        for (i = 0; i < count && e == 0; i++)
                e = walk_path(s, paths[i], take, arg);
        return e;
}

/* ---- rows ---- */

struct row_taker {
        void (*row)(void *arg, const struct portalock_row *row);
        void *arg;
};

static void give_rows(const struct row_taker *t, const char *path, const char *state, const char *age, const struct pl_json *list)
{
        const struct pl_json *n;

        for (n = pl_json_first(list); n != NULL; n = pl_json_next(n)) {
                struct portalock_row r = {.path = path, .state = state, .command = string_member(n, "command"), .client = string_member(n, "client")};

                r.mode = mode_member(n, PORTALOCK_SH);
                r.lock = integer_member(n, "lock", -1);
                r.session = integer_member(n, "session", -1);
                r.pid = integer_member(n, "pid", -1);
                r.uid = integer_member(n, "uid", -1);
                r.token = integer_member(n, "token", -1);
                r.age_ms = integer_member(n, age, -1);
                r.timeout_ms = integer_member(n, "timeout_ms", -1);
                r.position = integer_member(n, "position", -1);
                t->row(t->arg, &r);
        }
}

static int take_rows(void *arg, const struct pl_json *file)
{
        const char *path = string_member(file, "path");

        give_rows(arg, path, "held", "held_ms", pl_json_get(file, "holders"));
        give_rows(arg, path, "outside", "held_ms", pl_json_get(file, "outside"));
        give_rows(arg, path, "waiting", "waiting_ms", pl_json_get(file, "waiters"));
        return 0;
}

int portalock_list(portalock_session *s, const char *const *paths, int count, void (*row)(void *arg, const struct portalock_row *row), void *arg)
{
        struct row_taker t = {row, arg};

        return walk(s, paths, count, take_rows, &t);
}

/* ---- one document ---- */

static int take_text(void *arg, const struct pl_json *file)
{
        struct pl_buf *b = arg;
        char *text = pl_json_print(file);

        if (text == NULL)
                return PORTALOCK_E_NO_MEMORY;
        if (b->data[b->len - 1] != '[')
                pl_buf_append(b, ",", 1);
        pl_buf_append(b, text, strlen(text));
        free(text);
        return b->failed ? PORTALOCK_E_NO_MEMORY : 0;
}

int portalock_list_json(portalock_session *s, const char *const *paths, int count, char **json)
{
        static const char head[] = "{\"locks\":[", tail[] = "]}";
        struct pl_buf b = {0};
        int e;

        *json = NULL;
        pl_buf_append(&b, head, sizeof head - 1);
        if (b.failed)
                return client_no_memory(s);
        e = walk(s, paths, count, take_text, &b);
        pl_buf_append(&b, tail, sizeof tail);   /* with its NUL */
        if (e == 0 && b.failed)
                e = client_no_memory(s);
        if (e == 0)
                *json = b.data;
        else
                pl_buf_clear(&b);
        return e;
}
