/*
 * JSON, strict. The only user of cJSON: it closes the doors that cJSON leaves open (embedded NUL, other letter
 * case, doubled members, fractions and overflow where integers are due, bad UTF-8, trailing bytes, deep nesting).
 * Reading goes through cJSON; writing goes straight into a buffer.
 */
#ifndef PL_JSON_H
#define PL_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct pl_json;         /* a parsed node; the document owns it */

/*
 * Parse exactly one JSON text of `len` bytes (line[len] need not be NUL). *out is to be freed with pl_json_free().
 * Returns 0; -EBADMSG: not JSON, bad UTF-8, NUL (raw or \u0000), lone surrogates, trailing bytes, a raw control character in a
 * string, a number that a double does not keep (1e999; a fraction that it would round to an integer; more than 63 bytes); -E2BIG: more
 * than PL_DEPTH_MAX levels; -ENOMEM.
 */
int pl_json_parse(const char *line, size_t len, struct pl_json **out);
void pl_json_free(struct pl_json *root);

/* A piece of a text. */
struct pl_span {
        const char *at;
        size_t len;
};

/* The members of an object, as they stand in the text: names and strings in their quotes, escapes and all. */
#define PL_MEMBERS_MAX 4        /* as many as a usual request has */
struct pl_member {
        struct pl_span name, value;
};
struct pl_members {
        size_t count;           /* of all: there may be more than are noted */
        struct pl_member at[PL_MEMBERS_MAX];
};

/* Of the outermost object, and of the last object or array in that, if it is an object. */
struct pl_outline {
        struct pl_members outer, inner;
};

/* The first half of pl_json_parse(), with the same results (but for -ENOMEM): is it JSON, and what are its members? */
int pl_json_outline(const char *line, size_t len, struct pl_outline *out);
/* The other half, for a value out of such an outline, and its members if it is an object that has them there. 0 or -ENOMEM. */
int pl_json_parse_value(struct pl_span value, const struct pl_members *members, struct pl_json **out);

/* A value that is an integer by its digits alone, within +-PL_INTEGER_MAX. False: something else, or a parser has to tell. */
bool pl_span_integer(struct pl_span value, int64_t *out);
/* Is it exactly this text? */
static inline bool pl_span_is(struct pl_span span, const char *text)
{
        size_t len = strlen(text);

        return span.len == len && memcmp(span.at, text, len) == 0;
}

/*
 * Keep parsed documents in a block of their own from now on, or no more: faster, but for a program of one thread, and all other use of cJSON in it takes part.
 * So it is for the daemon alone, never for the library, whose program is not ours. No document may be there when this is called.
 */
void pl_json_use_arena(bool on);

enum pl_json_type { PL_JSON_NULL, PL_JSON_BOOL, PL_JSON_NUMBER, PL_JSON_STRING, PL_JSON_ARRAY, PL_JSON_OBJECT };
enum pl_json_type pl_json_type(const struct pl_json *n);

/* As strcmp(3) tells, but mostly by the first letter: names are compared several times for each request. */
static inline bool pl_same_name(const char *a, const char *b)
{
        return a[0] == b[0] && strcmp(a, b) == 0;
}

/* Member of an object by exact name (case counts); NULL when absent or `obj` is no object. */
const struct pl_json *pl_json_get(const struct pl_json *obj, const char *name);
/* Children of an array or object in order; NULL at the end. */
const struct pl_json *pl_json_first(const struct pl_json *n);
const struct pl_json *pl_json_next(const struct pl_json *n);
/* The name under which `n` stands in its object; NULL in an array. */
const char *pl_json_key(const struct pl_json *n);

/* 1: an object has a member twice, *name is its name (of several the first by the alphabet); 0: there is none (or `obj` is no object); -ENOMEM. */
int pl_json_doubled(const struct pl_json *obj, const char **name);
/* As text, to be freed with free(3); NULL when out of memory. */
char *pl_json_print(const struct pl_json *n);

/* Typed values: false and *out untouched when `n` is NULL or of another type. An integer has no fraction and lies within +-(2^53-1). */
bool pl_json_integer(const struct pl_json *n, int64_t *out);
bool pl_json_bool(const struct pl_json *n, bool *out);
bool pl_json_string(const struct pl_json *n, const char **out);        /* borrowed from the document */

/* ---- writing ---- */

struct pl_buf {
        char *data;
        size_t len, cap;
        bool failed;    /* out of memory somewhere: what is inside is not to be sent */
};
void pl_buf_clear(struct pl_buf *b);
void pl_buf_append(struct pl_buf *b, const char *data, size_t len);

/* A writer knows only whether a comma is due. `key` is NULL inside arrays and at the top; else a name that needs no escapes. */
struct pl_writer {
        struct pl_buf *buf;
        bool comma;
};
void pl_write_open(struct pl_writer *w, const char *key, char bracket);  /* '{' or '[' */
void pl_write_close(struct pl_writer *w, char bracket);                  /* '}' or ']' */
void pl_write_integer(struct pl_writer *w, const char *key, int64_t value);
void pl_write_bool(struct pl_writer *w, const char *key, bool value);
void pl_write_null(struct pl_writer *w, const char *key);
/* Escapes what JSON demands; a byte that is not UTF-8 becomes the four characters \xNN (printed as "\\xNN"). */
void pl_write_string(struct pl_writer *w, const char *key, const char *value);

#endif
