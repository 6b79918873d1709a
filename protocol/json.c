/*
 * The doors that cJSON leaves open are closed in three places: scan() walks the whole text before cJSON sees it (grammar, UTF-8, NUL, control
 * characters, escapes, numbers, depth), so that cJSON can only fail for want of memory; the look-up is by exact case; and doubled members are
 * found in the parsed tree.
 */
#include "json.h"

#include "wire.h"

#include <cjson/cJSON.h>

#include <errno.h>
#include <locale.h>
#include <math.h>
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

/* ---- before cJSON ---- */

/* Length of the UTF-8 sequence at s, 0 when it is none (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF). */
static size_t utf8_length(const unsigned char *s, size_t len)
{
        unsigned low = 0x80, high = 0xbf;
        size_t n, i;

        if (s[0] < 0x80)
                return 1;
        if (s[0] < 0xc2 || s[0] > 0xf4)
                return 0;
        n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
        if (s[0] == 0xe0)
                low = 0xa0;
        if (s[0] == 0xed)
                high = 0x9f;
        if (s[0] == 0xf0)
                low = 0x90;
        if (s[0] == 0xf4)
                high = 0x8f;
        if (n > len)
                return 0;
        for (i = 1; i < n; i++) {
                if (s[i] < low || s[i] > high)
                        return 0;
                low = 0x80;
                high = 0xbf;
        }
        return n;
}

/* The four hex digits at s; -1 when they are none. */
static long hex4(const char *s, size_t len)
{
        long value = 0;
        size_t i;

        if (len < 4)
                return -1;
        for (i = 0; i < 4; i++) {
                char c = s[i];
                int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;

                if (digit < 0)
                        return -1;
                value = value * 16 + digit;
        }
        return value;
}

/* An escape behind its backslash: how many bytes it takes, 0 when it is not allowed. */
static size_t escape_length(const char *s, size_t len)
{
        long first, second;

        if (len == 0)
                return 0;
        if (*s != 'u')
                return strchr("\"\\/bfnrt", *s) != NULL && *s != '\0' ? 1 : 0;
        first = hex4(s + 1, len - 1);
        if (first <= 0 || (first >= 0xdc00 && first <= 0xdfff))
                return 0;       /* \u0000 would cut the string */
        if (first < 0xd800 || first > 0xdbff)
                return 5;
        if (len < 11 || s[5] != '\\' || s[6] != 'u')
                return 0;
        second = hex4(s + 7, len - 7);
        return second >= 0xdc00 && second <= 0xdfff ? 11 : 0;
}

/* A string behind its opening quote: its length with the closing quote, 0 when it is not well formed. */
static size_t scan_string(const char *s, size_t len)
{
        size_t i = 0, n;

        while (i < len) {
                unsigned char c = (unsigned char)s[i];

                if (c == '"')
                        return i + 1;
                if (c < 0x20)
                        return 0;
                if (c == '\\') {
                        n = escape_length(s + i + 1, len - i - 1);
                        if (n == 0)
                                return 0;
                        i += n + 1;
                        continue;
                }
                n = utf8_length((const unsigned char *)s + i, len - i);
                if (n == 0)
                        return 0;
                i += n;
        }
        return 0;
}

static size_t digits(const char *s, size_t len)
{
        size_t n = 0;

        while (n < len && s[n] >= '0' && s[n] <= '9')
                n++;
        return n;
}

static bool double_to_integer(double value, int64_t *out)
{
        if (value < -(double)PL_INTEGER_MAX || value > (double)PL_INTEGER_MAX || value != (double)(int64_t)value)
                return false;
        *out = (int64_t)value;
        return true;
}

/* Has a number, by its text, no fraction? */
static bool is_whole(const char *s)
{
        long fraction = 0, zeros = 0;
        bool zero = true, point = false;

        for (s += *s == '-'; *s != '\0' && *s != 'e' && *s != 'E'; s++) {
                if (*s == '.') {
                        point = true;
                        continue;
                }
                fraction += point;
                zeros = *s == '0' ? zeros + 1 : 0;
                zero &= *s == '0';
        }
        return zero || fraction - zeros <= (*s != '\0' ? strtol(s + 1, NULL, 10) : 0);
}

/* Does a double keep it? Not 1e999, and neither 9007199254740990.5 nor 1e-999, whose doubles are integers. */
static bool keeps(const char *s, size_t len)
{
        char copy[64], *point;
        int64_t integer;
        double value;
        bool whole;

        if (len >= sizeof copy)
                return false;   /* cJSON reads only 63 bytes of a number and would go on in its middle */
        memcpy(copy, s, len);
        copy[len] = '\0';
        whole = is_whole(copy);
        point = strchr(copy, '.');
        if (point != NULL)
                *point = *localeconv()->decimal_point;  /* what strtod() looks for; a library cannot choose the locale */
        value = strtod(copy, NULL);
        return isfinite(value) && (!double_to_integer(value, &integer) || whole);
}

/* A number: its length, 0 when it is none by RFC 8259 or a double does not keep it. */
static size_t scan_number(const char *s, size_t len)
{
        size_t i = 0, n;

        if (i < len && s[i] == '-')
                i++;
        n = digits(s + i, len - i);
        if (n == 0 || (n > 1 && s[i] == '0'))
                return 0;
        i += n;
        if (i < len && s[i] == '.') {
                n = digits(s + i + 1, len - i - 1);
                if (n == 0)
                        return 0;
                i += n + 1;
        }
        if (i < len && (s[i] == 'e' || s[i] == 'E')) {
                i++;
                if (i < len && (s[i] == '+' || s[i] == '-'))
                        i++;
                n = digits(s + i, len - i);
                if (n == 0)
                        return 0;
                i += n;
        }
        return keeps(s, i) ? i : 0;
}

static size_t scan_word(const char *s, size_t len)
{
        static const char *const words[] = {"true", "false", "null"};
        size_t i, n;

        for (i = 0; i < 3; i++) {
                n = strlen(words[i]);
                if (len >= n && memcmp(s, words[i], n) == 0)
                        return n;
        }
        return 0;
}

/* A value that is no object or array: its length, 0 when it is not well formed. */
static size_t scan_scalar(const char *s, size_t len)
{
        size_t n;

        switch (*s) {
        case '"':
                n = scan_string(s + 1, len - 1);
                return n > 0 ? n + 1 : 0;
        case 't':
        case 'f':
        case 'n':
                return scan_word(s, len);
        default:
                return scan_number(s, len);
        }
}

/* What may come next; after a value, an end also means that the text may be over. */
enum { A_VALUE = 1, A_KEY = 2, A_COLON = 4, A_COMMA = 8, AN_END = 16 };

static int scan(const char *s, size_t len)
{
        char ends[PL_DEPTH_MAX];        /* of the open objects and arrays */
        size_t i, n, depth = 0;
        int due = A_VALUE;

        for (i = 0; i < len; i += n) {
                char c = s[i];

                n = 1;
                if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
                        continue;
                if ((c == '{' || c == '[') && (due & A_VALUE)) {
                        if (depth == PL_DEPTH_MAX)
                                return -E2BIG;
                        ends[depth++] = c == '{' ? '}' : ']';
                        due = (c == '{' ? A_KEY : A_VALUE) | AN_END;
                } else if ((due & AN_END) && depth > 0 && c == ends[depth - 1]) {
                        depth--;
                        due = A_COMMA | AN_END;
                } else if ((due & A_COMMA) && depth > 0 && c == ',') {
                        due = ends[depth - 1] == '}' ? A_KEY : A_VALUE;
                } else if ((due & A_COLON) && c == ':') {
                        due = A_VALUE;
                } else if ((due & A_VALUE) || ((due & A_KEY) && c == '"')) {
                        n = scan_scalar(s + i, len - i);
                        if (n == 0)
                                return -EBADMSG;
                        due = due & A_KEY ? A_COLON : A_COMMA | AN_END;
                } else {
                        return -EBADMSG;
                }
        }
        return depth == 0 && (due & A_COMMA) ? 0 : -EBADMSG;
}

/* ---- reading ---- */

int pl_json_parse(const char *line, size_t len, struct pl_json **out)
{
        cJSON *root;
        int r = scan(line, len);

        if (r != 0)
                return r;
        root = cJSON_ParseWithLength(line, len);
        if (root == NULL)
                return -ENOMEM;         /* what is not JSON has been refused already */
        *out = wrap(root);
        return 0;
}

void pl_json_free(struct pl_json *root)
{
        cJSON_Delete(node(root));
}

static int by_text(const void *a, const void *b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int pl_json_doubled(const struct pl_json *obj, const char **name)
{
        const char *few[16], **names = few;
        const cJSON *child;
        size_t count = 0, i;

        if (!cJSON_IsObject(node(obj)))
                return 0;
        for (child = node(obj)->child; child != NULL; child = child->next)
                count++;
        if (count > sizeof few / sizeof few[0]) {
                names = malloc(count * sizeof *names);
                if (names == NULL)
                        return -ENOMEM;
        }
        count = 0;
        for (child = node(obj)->child; child != NULL; child = child->next)
                names[count++] = child->string;
        qsort(names, count, sizeof *names, by_text);
        for (i = 1; i < count && strcmp(names[i - 1], names[i]) != 0; i++)
                ;
        if (i < count)
                *name = names[i];
        if (names != few)
                free(names);
        return i < count;
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
        return obj != NULL && cJSON_IsObject(node(obj)) ? wrap(cJSON_GetObjectItemCaseSensitive(node(obj), name)) : NULL;
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
        return n != NULL && cJSON_IsNumber(node(n)) && double_to_integer(node(n)->valuedouble, out);
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

void pl_buf_append(struct pl_buf *b, const char *data, size_t len)
{
        if (b->len + len > b->cap) {
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
        if (len > 0)
                memcpy(b->data + b->len, data, len);    /* data is NULL after a failure */
        b->len += len;
}

static void append_text(struct pl_writer *w, const char *text)
{
        pl_buf_append(w->buf, text, strlen(text));
}

/* In quotes, with escapes. */
static void append_string(struct pl_buf *b, const char *value)
{
        size_t len = strlen(value), i = 0, plain = 0, n;
        char text[8];

        pl_buf_append(b, "\"", 1);
        while (i < len) {
                unsigned char c = (unsigned char)value[i];

                n = utf8_length((const unsigned char *)value + i, len - i);
                if (n > 0 && c >= 0x20 && c != '"' && c != '\\') {
                        i += n;
                        continue;
                }
                pl_buf_append(b, value + plain, i - plain);
                if (n == 0)
                        snprintf(text, sizeof text, "\\\\x%02X", c);
                else if (c == '"' || c == '\\')
                        snprintf(text, sizeof text, "\\%c", c);
                else
                        snprintf(text, sizeof text, "\\u%04x", c);
                pl_buf_append(b, text, strlen(text));
                plain = ++i;
        }
        pl_buf_append(b, value + plain, len - plain);
        pl_buf_append(b, "\"", 1);
}

static void begin_value(struct pl_writer *w, const char *key)
{
        if (w->comma)
                pl_buf_append(w->buf, ",", 1);
        w->comma = true;
        if (key == NULL)
                return;
        append_string(w->buf, key);
        pl_buf_append(w->buf, ":", 1);
}

void pl_write_open(struct pl_writer *w, const char *key, char bracket)
{
        begin_value(w, key);
        pl_buf_append(w->buf, &bracket, 1);
        w->comma = false;
}

void pl_write_close(struct pl_writer *w, char bracket)
{
        pl_buf_append(w->buf, &bracket, 1);
        w->comma = true;
}

void pl_write_integer(struct pl_writer *w, const char *key, int64_t value)
{
        char text[24], *p = text + sizeof text;
        uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

        begin_value(w, key);
        do
                *--p = (char)('0' + left % 10);
        while ((left /= 10) > 0);
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

/* Not by cJSON: it prints an integer of 16 digits that ends in 0 (every tenth token) as 1.79123456789012e+15. */
static void print(struct pl_writer *w, const char *key, const struct pl_json *n)
{
        const struct pl_json *child;
        bool object = pl_json_type(n) == PL_JSON_OBJECT;
        int64_t integer;
        char text[64];

        switch (pl_json_type(n)) {
        case PL_JSON_NULL:
                pl_write_null(w, key);
                break;
        case PL_JSON_BOOL:
                pl_write_bool(w, key, cJSON_IsTrue(node(n)));
                break;
        case PL_JSON_NUMBER:
                if (pl_json_integer(n, &integer)) {
                        pl_write_integer(w, key, integer);
                        break;
                }
                begin_value(w, key);
                cJSON_PrintPreallocated(node(n), text, sizeof text, false);
                append_text(w, text);
                break;
        case PL_JSON_STRING:
                pl_write_string(w, key, node(n)->valuestring);
                break;
        case PL_JSON_ARRAY:
        case PL_JSON_OBJECT:
                pl_write_open(w, key, object ? '{' : '[');
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
