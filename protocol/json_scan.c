/* A text is walked whole before cJSON sees it: grammar (RFC 8259), UTF-8 (RFC 3629), NUL, control characters, escapes, numbers, depth. */
#include "json_scan.h"

#include "wire.h"

#include <errno.h>
#include <float.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

bool pl_is_finite(double value)
{
        return value >= -DBL_MAX && value <= DBL_MAX;
}

#define NUMBER_BYTES 64 /* cJSON reads only 63 bytes of a number and would go on in its middle */

size_t pl_utf8_length(const unsigned char *s, size_t len)
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

/* A string behind its opening quote, of which the first i bytes are plain: its length with the closing quote, 0 when it is not well formed. */
static size_t scan_rest(const char *s, size_t len, size_t i)
{
        size_t n;

        for (; i < len; i += n) {
                unsigned char c = (unsigned char)s[i];

                if (c == '"')
                        return i + 1;
                if (c < 0x20)
                        return 0;
                if (c == '\\') {
                        n = escape_length(s + i + 1, len - i - 1);
                        if (n == 0)
                                return 0;
                        n++;
                } else {
                        n = pl_utf8_length((const unsigned char *)s + i, len - i);
                        if (n == 0)
                                return 0;
                }
                n += pl_plain_length(s + i + n, len - i - n);
        }
        return 0;
}

/* A string behind its opening quote; likewise. Most are plain to their end. */
static inline size_t scan_string(const char *s, size_t len)
{
        size_t n = pl_plain_length(s, len);

        return n < len && s[n] == '"' ? n + 1 : scan_rest(s, len, n);
}

static size_t digits(const char *s, size_t len)
{
        size_t n = 0;

        while (n < len && s[n] >= '0' && s[n] <= '9')
                n++;
        return n;
}

bool pl_double_to_integer(double value, int64_t *out)
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
        char copy[NUMBER_BYTES], *point;
        int64_t integer;
        double value;
        bool whole;

        if (len >= sizeof copy)
                return false;
        memcpy(copy, s, len);
        copy[len] = '\0';
        whole = is_whole(copy);
        point = strchr(copy, '.');
        if (point != NULL)
                *point = *localeconv()->decimal_point;  /* what strtod() looks for; a library cannot choose the locale */
        value = strtod(copy, NULL);
        return pl_is_finite(value) && (!pl_double_to_integer(value, &integer) || whole);
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
        if ((i == len || (s[i] != '.' && s[i] != 'e' && s[i] != 'E')) && i < NUMBER_BYTES)
                return i;       /* whole, and far from infinite */
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

/* Where a scan is, and what ends the objects and arrays that are open there. */
struct scanner {
        const char *at, *end;
        struct pl_outline *outline;
        struct pl_members *members;     /* those of the object that it is in; NULL: they are not noted */
        struct pl_member *member;       /* the last of them; NULL: it is not noted */
        size_t depth;
        char closing[PL_DEPTH_MAX];
};

/* The next character that is no space; a NUL, which nothing begins with, at the end. */
static inline char peek(struct scanner *s)
{
        for (; s->at < s->end; s->at++)
                if (*s->at != ' ' && *s->at != '\t' && *s->at != '\r' && *s->at != '\n')
                        return *s->at;
        return '\0';
}

static inline bool in_object(const struct scanner *s)
{
        return s->depth > 0 && s->closing[s->depth - 1] == '}';
}

/* It has come to another depth: in or out of an object or array. */
static inline void come(struct scanner *s, size_t depth)
{
        struct pl_members *m;

        s->depth = depth;
        m = !in_object(s) || depth > 2 ? NULL : depth == 1 ? &s->outline->outer : &s->outline->inner;
        s->members = m;
        s->member = m != NULL && m->count > 0 && m->count <= PL_MEMBERS_MAX ? &m->at[m->count - 1] : NULL;
}

/* Of the members the first few are noted, and all are counted. */
static inline void note(struct scanner *s, struct pl_span name)
{
        struct pl_members *m = s->members;

        if (m == NULL)
                return;
        s->member = m->count < PL_MEMBERS_MAX ? &m->at[m->count] : NULL;
        m->count++;
        if (s->member != NULL)
                s->member->name = name;
}

/* A name and its colon. False: something else. */
static bool scan_name(struct scanner *s)
{
        const char *from;
        size_t n;

        if (peek(s) != '"')
                return false;
        from = s->at++;
        n = scan_string(s->at, (size_t)(s->end - s->at));
        s->at += n;
        note(s, (struct pl_span){from, n + 1});
        if (n == 0 || peek(s) != ':')
                return false;
        s->at++;
        return true;
}

/* The beginning of an object or array. 0: its first member comes next; 1: it is empty, and closed already. */
static int scan_opening(struct scanner *s)
{
        char closing = *s->at == '{' ? '}' : ']';

        if (s->depth == PL_DEPTH_MAX)
                return -E2BIG;
        if (s->depth == 1)
                s->outline->inner.count = 0;
        s->at++;
        if (peek(s) == closing) {
                s->at++;
                return 1;
        }
        s->closing[s->depth] = closing;
        come(s, s->depth + 1);
        return 0;
}

/* One value, or the beginning of one; likewise. */
static int scan_value(struct scanner *s)
{
        char c = peek(s);
        size_t n;

        if (s->member != NULL)
                s->member->value.at = s->at;
        if (c == '{' || c == '[')
                return scan_opening(s);
        n = c != '\0' ? scan_scalar(s->at, (size_t)(s->end - s->at)) : 0;
        s->at += n;
        return n > 0 ? 1 : -EBADMSG;
}

/* A value has ended, and with it, perhaps, what it is in. The character that comes then. */
static char scan_closings(struct scanner *s)
{
        for (;;) {
                char c;

                if (s->member != NULL)
                        s->member->value.len = (size_t)(s->at - s->member->value.at);
                c = peek(s);
                if (s->depth == 0 || c != s->closing[s->depth - 1])
                        return c;
                s->at++;
                come(s, s->depth - 1);
        }
}

int pl_json_scan(const char *text, size_t len, struct pl_outline *o)
{
        struct scanner s;       /* without its brackets: there are none yet */

        s.at = text;
        s.end = text + len;
        s.outline = o;
        o->outer.count = o->inner.count = 0;
        come(&s, 0);
        for (;;) {
                int r = in_object(&s) && !scan_name(&s) ? -EBADMSG : scan_value(&s);
                char c;

                if (r < 0)
                        return r;
                if (r == 0)
                        continue;
                c = scan_closings(&s);
                if (s.depth == 0)
                        return s.at == s.end ? 0 : -EBADMSG;
                if (c != ',')
                        return -EBADMSG;
                s.at++;
        }
}
