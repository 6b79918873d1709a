/*
 * The doors that cJSON leaves open are closed in three places: json_scan.c walks the whole text before cJSON sees it (grammar, UTF-8, NUL, control
 * characters, escapes, numbers, depth), so that cJSON can only fail for want of memory; the look-up is by exact case; and doubled members are
 * found in the parsed tree.
 */
#include "json.h"

#include "json_arena.h"
#include "json_scan.h"

#include <cjson/cJSON.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static cJSON *node(const struct pl_json *n)
{
        return (cJSON *)(uintptr_t)n;
}

static struct pl_json *wrap(cJSON *n)
{
        return (struct pl_json *)n;
}

/* ---- reading ---- */

static bool in_arena;

void pl_json_use_arena(bool on)
{
        cJSON_Hooks hooks = {.malloc_fn = json_arena_take, .free_fn = json_arena_give};

        in_arena = on;
        cJSON_InitHooks(in_arena ? &hooks : NULL);
}

int pl_json_parse(const char *line, size_t len, struct pl_json **out)
{
        cJSON *root;
        int r = pl_json_scan(line, len);

        if (r != 0)
                return r;
        root = cJSON_ParseWithLength(line, len);
        if (in_arena && root != NULL)
                json_arena_open();
        else if (in_arena)
                json_arena_close(false);
        if (root == NULL)
                return -ENOMEM;         /* what is not JSON has been refused already */
        *out = wrap(root);
        return 0;
}

void pl_json_free(struct pl_json *root)
{
        if (root == NULL)
                return;
        if (!in_arena || json_arena_spilled())
                cJSON_Delete(node(root));
        if (in_arena)
                json_arena_close(true);
}

static int by_text(const void *a, const void *b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Of so many members each is compared with each. */
#define FEW_MEMBERS 16

static bool few_doubled(const cJSON *first, const char **name)
{
        const cJSON *a, *b;
        bool doubled = false;

        for (a = first; a != NULL; a = a->next) {
                for (b = first; b != a; b = b->next) {
                        if (!pl_same_name(a->string, b->string))
                                continue;
                        if (!doubled || strcmp(a->string, *name) < 0)
                                *name = a->string;
                        doubled = true;
                }
        }
        return doubled;
}

static int many_doubled(const cJSON *first, size_t count, const char **name)
{
        const char **names = malloc(count * sizeof *names);
        const cJSON *child;
        size_t i = 0;

        if (names == NULL)
                return -ENOMEM;
        for (child = first; child != NULL; child = child->next)
                names[i++] = child->string;
        qsort(names, count, sizeof *names, by_text);
        for (i = 1; i < count && strcmp(names[i - 1], names[i]) != 0; i++)
                ;
        if (i < count)
                *name = names[i];
        free(names);
        return i < count;
}

int pl_json_doubled(const struct pl_json *obj, const char **name)
{
        const cJSON *first, *child;
        size_t count = 0;

        if (!cJSON_IsObject(node(obj)))
                return 0;
        first = node(obj)->child;
        for (child = first; child != NULL; child = child->next)
                count++;
        return count <= FEW_MEMBERS ? few_doubled(first, name) : many_doubled(first, count, name);
}

enum pl_json_type pl_json_type(const struct pl_json *n)
{
        switch (node(n)->type & 0xff) {
        case cJSON_True:
        case cJSON_False:
                return PL_JSON_BOOL;
        case cJSON_Number:
                return PL_JSON_NUMBER;
        case cJSON_String:
                return PL_JSON_STRING;
        case cJSON_Array:
                return PL_JSON_ARRAY;
        case cJSON_Object:
                return PL_JSON_OBJECT;
        default:
                return PL_JSON_NULL;
        }
}

const struct pl_json *pl_json_get(const struct pl_json *obj, const char *name)
{
        cJSON *child;

        if (obj == NULL || (node(obj)->type & 0xff) != cJSON_Object)
                return NULL;
        for (child = node(obj)->child; child != NULL; child = child->next) {
                if (pl_same_name(child->string, name))
                        return wrap(child);
        }
        return NULL;
}

const struct pl_json *pl_json_first(const struct pl_json *n)
{
        return n != NULL ? wrap(node(n)->child) : NULL;
}

const struct pl_json *pl_json_next(const struct pl_json *n)
{
        return wrap(node(n)->next);
}

const char *pl_json_key(const struct pl_json *n)
{
        return node(n)->string;
}

bool pl_json_integer(const struct pl_json *n, int64_t *out)
{
        return n != NULL && cJSON_IsNumber(node(n)) && pl_double_to_integer(node(n)->valuedouble, out);
}

bool pl_json_bool(const struct pl_json *n, bool *out)
{
        if (n == NULL || !cJSON_IsBool(node(n)))
                return false;
        *out = cJSON_IsTrue(node(n));
        return true;
}

bool pl_json_string(const struct pl_json *n, const char **out)
{
        if (n == NULL || !cJSON_IsString(node(n)))
                return false;
        *out = node(n)->valuestring;
        return true;
}

/* ---- writing ---- */

void pl_buf_clear(struct pl_buf *b)
{
        free(b->data);
        memset(b, 0, sizeof *b);
}

static void grow(struct pl_buf *b, size_t len)
{
        size_t cap = b->cap == 0 ? 1024 : b->cap;
        char *grown;

        while (cap < b->len + len)
                cap *= 2;
        grown = realloc(b->data, cap);
        if (grown == NULL) {
                b->failed = true;
                return;
        }
        b->data = grown;
        b->cap = cap;
}

void pl_buf_append(struct pl_buf *b, const char *data, size_t len)
{
        if (len > b->cap - b->len)
                grow(b, len);
        if (len == 0 || len > b->cap - b->len)  /* data is NULL after a failure */
                return;
        memcpy(b->data + b->len, data, len);
        b->len += len;
}

static void append_char(struct pl_buf *b, char c)
{
        if (b->len < b->cap)
                b->data[b->len++] = c;
        else
                pl_buf_append(b, &c, 1);
}

static void append_text(struct pl_writer *w, const char *text)
{
        pl_buf_append(w->buf, text, strlen(text));
}

/* The character at `value`, which cannot stand for itself: how many bytes of it were taken. */
static size_t append_escaped(struct pl_buf *b, const char *value, size_t len)
{
        size_t n = pl_utf8_length((const unsigned char *)value, len);
        unsigned char c = (unsigned char)*value;
        char text[8];

        if (n > 1) {
                pl_buf_append(b, value, n);
                return n;
        }
        if (n == 0)
                snprintf(text, sizeof text, "\\\\x%02X", c);
        else if (c == '"' || c == '\\')
                snprintf(text, sizeof text, "\\%c", c);
        else
                snprintf(text, sizeof text, "\\u%04x", c);
        pl_buf_append(b, text, strlen(text));
        return 1;
}

/* In quotes, with escapes. */
static void append_string(struct pl_buf *b, const char *value)
{
        size_t len = strlen(value), i = 0, n = pl_plain_length(value, len);
        char *out;

        if (n == len && len + 2 <= b->cap - b->len) {   /* nearly always */
                out = b->data + b->len;
                out[0] = '"';
                memcpy(out + 1, value, len);
                out[len + 1] = '"';
                b->len += len + 2;
                return;
        }
        append_char(b, '"');
        for (;;) {
                n = pl_plain_length(value + i, len - i);
                pl_buf_append(b, value + i, n);
                i += n;
                if (i == len)
                        break;
                i += append_escaped(b, value + i, len - i);
        }
        append_char(b, '"');
}

static void begin_value(struct pl_writer *w, const char *key)
{
        size_t len = key != NULL ? strlen(key) : 0, most = len + sizeof ",\"\":";
        struct pl_buf *b = w->buf;
        char *p;

        if (most > b->cap - b->len)
                grow(b, most);
        if (most > b->cap - b->len)
                return;
        p = b->data + b->len;
        if (w->comma)
                *p++ = ',';
        w->comma = true;
        if (key != NULL) {
                *p++ = '"';
                memcpy(p, key, len);
                p += len;
                *p++ = '"';
                *p++ = ':';
        }
        b->len = (size_t)(p - b->data);
}

void pl_write_open(struct pl_writer *w, const char *key, char bracket)
{
        begin_value(w, key);
        append_char(w->buf, bracket);
        w->comma = false;
}

void pl_write_close(struct pl_writer *w, char bracket)
{
        append_char(w->buf, bracket);
        w->comma = true;
}

void pl_write_integer(struct pl_writer *w, const char *key, int64_t value)
{
        static const char pairs[] =
                "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
                "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";
        char text[24], *p = text + sizeof text;
        uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

        begin_value(w, key);
        for (; left >= 10; left /= 100) {
                p -= 2;
                memcpy(p, pairs + 2 * (left % 100), 2);
        }
        if (left > 0 || p == text + sizeof text)
                *--p = (char)('0' + left);
        if (value < 0)
                *--p = '-';
        pl_buf_append(w->buf, p, (size_t)(text + sizeof text - p));
}

void pl_write_bool(struct pl_writer *w, const char *key, bool value)
{
        begin_value(w, key);
        append_text(w, value ? "true" : "false");
}

void pl_write_null(struct pl_writer *w, const char *key)
{
        begin_value(w, key);
        append_text(w, "null");
}

void pl_write_string(struct pl_writer *w, const char *key, const char *value)
{
        begin_value(w, key);
        append_string(w->buf, value);
}

/* With as many digits as it needs to be read as the same number again; cJSON rounds at the 16th. The locale may have another decimal point. */
static void append_fraction(struct pl_writer *w, double value)
{
        char text[64], *p, *out;
        int digits = 15;

        do
                snprintf(text, sizeof text, "%.*g", digits, value);
        while (strtod(text, NULL) != value && ++digits <= 17);
        for (p = out = text; *p != '\0'; p++) {
                if (strchr("+-0123456789e", *p) != NULL)
                        *out++ = *p;
                else if (out == text || out[-1] != '.')
                        *out++ = '.';
        }
        pl_buf_append(w->buf, text, (size_t)(out - text));
}

/*
 * Not by cJSON: it prints an integer of 16 digits that ends in 0 (every tenth token) as 1.79123456789012e+15. `key` is somebody else's: it may need escapes.
 */
static void print(struct pl_writer *w, const char *key, const struct pl_json *n)
{
        const struct pl_json *child;
        bool object = pl_json_type(n) == PL_JSON_OBJECT;
        int64_t integer;

        if (key != NULL) {
                pl_write_string(w, NULL, key);
                append_char(w->buf, ':');
                w->comma = false;
        }
        switch (pl_json_type(n)) {
        case PL_JSON_NULL:
                pl_write_null(w, NULL);
                break;
        case PL_JSON_BOOL:
                pl_write_bool(w, NULL, cJSON_IsTrue(node(n)));
                break;
        case PL_JSON_NUMBER:
                if (pl_json_integer(n, &integer)) {
                        pl_write_integer(w, NULL, integer);
                        break;
                }
                if (!pl_is_finite(node(n)->valuedouble)) {
                        pl_write_null(w, NULL);
                        break;
                }
                begin_value(w, NULL);
                append_fraction(w, node(n)->valuedouble);
                break;
        case PL_JSON_STRING:
                pl_write_string(w, NULL, node(n)->valuestring);
                break;
        case PL_JSON_ARRAY:
        case PL_JSON_OBJECT:
                pl_write_open(w, NULL, object ? '{' : '[');
                for (child = pl_json_first(n); child != NULL; child = pl_json_next(child))
                        print(w, pl_json_key(child), child);
                pl_write_close(w, object ? '}' : ']');
                break;
        }
}

char *pl_json_print(const struct pl_json *n)
{
        struct pl_buf b = {0};
        struct pl_writer w = {.buf = &b};

        print(&w, NULL, n);
        pl_buf_append(&b, "", 1);
        if (b.failed)
                pl_buf_clear(&b);
        return b.data;
}
