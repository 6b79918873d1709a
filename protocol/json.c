/*
 * The doors that cJSON leaves open are closed in three places: json_scan.c walks the whole text before cJSON sees it (grammar, UTF-8, NUL, control
 * characters, escapes, numbers, depth), so that cJSON can only fail for want of memory; the look-up is by exact case; and doubled members are
 * found in the parsed tree. Since the scan knows where everything is, a request's own few members are read where they stand, and cJSON is given its params
 * alone; if these are whole numbers it is told them, for it would read them by strtod(3).
 */
#include "json.h"

#include "json_arena.h"
#include "json_scan.h"
#include "wire.h"

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

int pl_json_outline(const char *line, size_t len, struct pl_outline *out)
{
        return pl_json_scan(line, len, out);
}

/* What cJSON has made, of its own accord or at our bidding, is a document from now on. NULL: it had no memory, for what is not JSON has been refused already. */
static int own(cJSON *root, struct pl_json **out)
{
        if (in_arena && root != NULL)
                json_arena_open();
        else if (in_arena)
                json_arena_close(false);
        if (root == NULL)
                return -ENOMEM;
        *out = wrap(root);
        return 0;
}

#define NAME_BYTES_MAX 31

/* A member whose value is a whole number, without cJSON's look at it, which is strtod(3). False: it is something else, or there is no memory. */
static bool add_integer(cJSON *object, struct pl_span name, struct pl_span value)
{
        size_t len = name.len - 2;
        char text[NAME_BYTES_MAX + 1];
        int64_t number;

        if (len > NAME_BYTES_MAX || pl_plain_length(name.at + 1, len) != len || !pl_span_integer(value, &number))
                return false;
        memcpy(text, name.at + 1, len);
        text[len] = '\0';
        return cJSON_AddNumberToObject(object, text, (double)number) != NULL;
}

static bool is_number(struct pl_span value)
{
        return value.at[0] == '-' || (value.at[0] >= '0' && value.at[0] <= '9');
}

/* An object of whole numbers and nothing else, as many params are. NULL: it is not, or there is no memory. */
static cJSON *integers(const struct pl_members *m)
{
        cJSON *object = NULL;
        size_t i;

        if (m->count > 0 && m->count <= PL_MEMBERS_MAX && is_number(m->at[0].value))
                object = cJSON_CreateObject();
        for (i = 0; object != NULL && i < m->count; i++) {
                if (add_integer(object, m->at[i].name, m->at[i].value))
                        continue;
                cJSON_Delete(object);
                object = NULL;
        }
        return object;
}

int pl_json_parse_value(struct pl_span value, const struct pl_members *members, struct pl_json **out)
{
        cJSON *root = members != NULL ? integers(members) : NULL;

        return own(root != NULL ? root : cJSON_ParseWithLength(value.at, value.len), out);
}

int pl_json_parse(const char *line, size_t len, struct pl_json **out)
{
        struct pl_outline outline;
        int r = pl_json_scan(line, len, &outline);

        return r != 0 ? r : pl_json_parse_value((struct pl_span){line, len}, NULL, out);
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
        return n != NULL && (node(n)->type & 0xff) == cJSON_Number && pl_double_to_integer(node(n)->valuedouble, out);
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
        if (n == NULL || (node(n)->type & 0xff) != cJSON_String)
                return false;
        *out = node(n)->valuestring;
        return true;
}

bool pl_span_integer(struct pl_span value, int64_t *out)
{
        bool negative = value.len > 0 && value.at[0] == '-';
        int64_t sum = 0;
        size_t i;

        if (value.len > 17)
                return false;   /* more than PL_INTEGER_MAX */
        for (i = negative; i < value.len && value.at[i] >= '0' && value.at[i] <= '9'; i++)
                sum = sum * 10 + (value.at[i] - '0');
        if (i == negative || i < value.len || sum > PL_INTEGER_MAX)
                return false;
        *out = negative ? -sum : sum;
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

/* Room for so many bytes behind what is there: whoever writes them counts them. NULL when out of memory. */
static inline char *room(struct pl_buf *b, size_t len)
{
        if (len > b->cap - b->len)
                grow(b, len);
        return len <= b->cap - b->len ? b->data + b->len : NULL;
}

void pl_buf_append(struct pl_buf *b, const char *data, size_t len)
{
        char *out = len > 0 ? room(b, len) : NULL;

        if (out == NULL)
                return;
        memcpy(out, data, len);
        b->len += len;
}

#define DIGITS_MAX 24        /* of an integer, with its sign, and a few more */

static void append_char(struct pl_buf *b, char c)
{
        char *out = room(b, 1);

        if (out == NULL)
                return;
        *out = c;
        b->len++;
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

/*
 * A comma if one is due, and `"key":`, with room for a value of so many bytes behind it: whoever writes them counts them. NULL when out of memory. Most of what
 * the daemon says is written here and in the next functions.
 */
static inline char *begin_value(struct pl_writer *w, const char *key, size_t most)
{
        size_t len = key != NULL ? strlen(key) : 0;
        char *begin = room(w->buf, len + sizeof ",\"\":" + most), *p = begin;

        if (begin == NULL)
                return NULL;
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
        w->buf->len += (size_t)(p - begin);
        return p;
}

void pl_write_open(struct pl_writer *w, const char *key, char bracket)
{
        char *out = begin_value(w, key, 1);

        if (out != NULL) {
                *out = bracket;
                w->buf->len++;
        }
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
        char text[2 * DIGITS_MAX] = "", *end = text + DIGITS_MAX, *p = end;       /* a copy of fixed length costs nothing */
        uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
        char *out = begin_value(w, key, DIGITS_MAX);

        if (out == NULL)
                return;
        for (; left >= 10; left /= 100) {
                p -= 2;
                memcpy(p, pairs + 2 * (left % 100), 2);
        }
        if (left > 0 || p == end)
                *--p = (char)('0' + left);
        if (value < 0)
                *--p = '-';
        memcpy(out, p, DIGITS_MAX);
        w->buf->len += (size_t)(end - p);
}

static void write_word(struct pl_writer *w, const char *key, const char *word, size_t len)
{
        char *out = begin_value(w, key, len);

        if (out == NULL)
                return;
        memcpy(out, word, len);
        w->buf->len += len;
}

void pl_write_bool(struct pl_writer *w, const char *key, bool value)
{
        write_word(w, key, value ? "true" : "false", value ? 4 : 5);
}

void pl_write_null(struct pl_writer *w, const char *key)
{
        write_word(w, key, "null", 4);
}

/* What does not stand for itself, at i, and what follows. */
static void append_odd(struct pl_buf *b, const char *value, size_t len, size_t i)
{
        size_t n;

        pl_buf_append(b, value, i);
        while (i < len) {
                i += append_escaped(b, value + i, len - i);
                n = pl_plain_length(value + i, len - i);
                pl_buf_append(b, value + i, n);
                i += n;
        }
}

void pl_write_string(struct pl_writer *w, const char *key, const char *value)
{
        size_t len = strlen(value), plain = pl_plain_length(value, len);
        char *out = begin_value(w, key, len + 2);

        if (out == NULL)
                return;
        if (plain == len) {     /* nearly always */
                out[0] = '"';
                memcpy(out + 1, value, len);
                out[len + 1] = '"';
                w->buf->len += len + 2;
                return;
        }
        append_char(w->buf, '"');
        append_odd(w->buf, value, len, plain);
        append_char(w->buf, '"');
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
                (void)begin_value(w, NULL, 0);
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
