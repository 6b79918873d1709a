#include "message.h"

#include "method.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *pl_mode_name(int mode)
{
        return mode == PL_MODE_EX ? "LOCK_EX" : mode == PL_MODE_SH ? "LOCK_SH" : "none";
}

/* ---- ids ---- */

bool pl_id_equal(const struct pl_id *a, const struct pl_id *b)
{
        if (a->kind != b->kind)
                return false;
        return a->kind == PL_ID_STRING ? strcmp(a->text, b->text) == 0 : a->number == b->number;
}

int pl_id_decode(const struct pl_json *n, struct pl_id *out)
{
        const char *text;

        memset(out, 0, sizeof *out);    /* ids are hash keys: equal ones have equal bytes */
        if (pl_json_string(n, &text)) {
                if (strlen(text) > PL_ID_BYTES_MAX)
                        return -1;
                out->kind = PL_ID_STRING;
                snprintf(out->text, sizeof out->text, "%s", text);
                return 0;
        }
        if (!pl_json_integer(n, &out->number))
                return -1;
        out->kind = PL_ID_INTEGER;
        return 0;
}

/* ---- requests ---- */

/* Its texts are empty, not full of zeros: most requests have no fault. */
static void fault_clear(struct pl_fault *f)
{
        f->code = 0;
        f->id.kind = PL_ID_NONE;
        f->id.number = 0;
        f->id.text[0] = f->member[0] = f->limit[0] = f->text[0] = '\0';
        f->supported = f->silent = f->took_fd = false;
}

static int fault_code(struct pl_fault *f, int code, const char *text)
{
        f->code = code;
        snprintf(f->text, sizeof f->text, "%s", text);
        return -1;
}

/* Some id that can be echoed, also of a request that is refused for another reason. */
static void echo_id(const struct pl_json *doc, struct pl_fault *f)
{
        const struct pl_json *n = pl_json_get(doc, "id");

        if (n == NULL || pl_id_decode(n, &f->id) != 0)
                memset(&f->id, 0, sizeof f->id);
}

/* Also when fd is there twice: who passed a descriptor said so in one of them. */
static bool passes_descriptor(const struct pl_json *params)
{
        const struct pl_json *n;
        bool fd = false;

        if (params == NULL || pl_json_type(params) != PL_JSON_OBJECT)
                return false;
        for (n = pl_json_first(params); n != NULL && !fd; n = pl_json_next(n)) {
                if (pl_same_name(pl_json_key(n), "fd"))
                        (void)pl_json_bool(n, &fd);
        }
        return fd;
}

static int decode_envelope(const struct pl_json *doc, struct pl_request *out, const char **method, struct pl_fault *f)
{
        static const char *const known[] = {"jsonrpc", "id", "method", "params"};
        const struct pl_json *n;
        const char *text, *twice;
        size_t i;
        int r;

        if (pl_json_type(doc) != PL_JSON_OBJECT)
                return fault_code(f, PL_E_INVALID_REQUEST, pl_json_type(doc) == PL_JSON_ARRAY ? "there are no batches: a request is one object" : "a request is an object");
        echo_id(doc, f);
        r = pl_json_doubled(doc, &twice);
        if (r < 0)
                return fault_code(f, PL_E_INTERNAL_ERROR, "");
        if (r > 0 && strcmp(twice, "id") == 0)
                memset(&f->id, 0, sizeof f->id);        /* which of them? */
        if (r > 0)
                return fault_code(f, PL_E_INVALID_REQUEST, "a member of the request is there twice");
        for (n = pl_json_first(doc); n != NULL; n = pl_json_next(n)) {
                for (i = 0; i < 4 && !pl_same_name(known[i], pl_json_key(n)); i++)
                        ;
                if (i == 4)
                        return fault_code(f, PL_E_INVALID_REQUEST, "the request has a member other than jsonrpc, id, method, params");
        }
        if (!pl_json_string(pl_json_get(doc, "jsonrpc"), &text) || strcmp(text, "2.0") != 0)
                return fault_code(f, PL_E_INVALID_REQUEST, "jsonrpc must be \"2.0\"");
        n = pl_json_get(doc, "id");
        if (n != NULL && pl_id_decode(n, &out->id) != 0)
                return fault_code(f, PL_E_INVALID_REQUEST, "id must be a string of at most 128 bytes or an integer within +-(2^53-1)");
        if (!pl_json_string(pl_json_get(doc, "method"), method))
                return fault_code(f, PL_E_INVALID_REQUEST, "method must be a string");
        return 0;
}

/* Any request, right or wrong, from its tree: here is said what is wrong with it. */
static int decode_tree(struct pl_span line, struct pl_request *out, const struct pl_json **params, struct pl_fault *f)
{
        const char *name;
        int method;

        if (pl_json_parse_value(line, NULL, &out->doc) != 0)
                return fault_code(f, PL_E_INTERNAL_ERROR, "");
        *params = pl_json_get(out->doc, "params");
        if (decode_envelope(out->doc, out, &name, f) != 0)
                return -1;
        f->silent = out->id.kind == PL_ID_NONE;
        method = pl_method_find((struct pl_span){name, strlen(name)});
        if (method < 0)
                return fault_code(f, PL_E_METHOD_NOT_FOUND, "there is no such method");
        out->method = (enum pl_method)method;
        return pl_method_params(out, *params, f);
}

/* What the usual request has; the params are left for the parser. NULL: absent. */
struct envelope {
        struct pl_span version, id, method, params;
};

/* Its place is empty? Then it is taken. */
static bool put(struct pl_span *place, struct pl_span value)
{
        if (place->at != NULL)
                return false;
        *place = value;
        return true;
}

/*
 * The usual request: its members and no others, each of them once, for a method that there is, and nothing about them that a parser would have to tell. False: any
 * other, right or wrong.
 */
static bool read_envelope(const struct pl_members *m, struct envelope *e)
{
        size_t i;

        if (m->count > PL_MEMBERS_MAX)
                return false;
        for (i = 0; i < m->count; i++) {
                struct pl_span name = m->at[i].name, value = m->at[i].value;
                bool good = false;

                if (pl_span_is(name, "\"jsonrpc\""))
                        good = put(&e->version, value);
                else if (pl_span_is(name, "\"id\""))
                        good = put(&e->id, value);
                else if (pl_span_is(name, "\"method\""))
                        good = put(&e->method, value);
                else if (pl_span_is(name, "\"params\""))
                        good = put(&e->params, value);
                if (!good)
                        return false;
        }
        return pl_span_is(e->version, "\"2.0\"");
}

/* An id that is a text would have to outlive the line, so it is left to the parser. */
static bool read_members(const struct envelope *e, struct pl_request *out)
{
        int method = -1;

        if (e->method.len > 2 && e->method.at[0] == '"')
                method = pl_method_find((struct pl_span){e->method.at + 1, e->method.len - 2});
        if (method < 0 || (e->id.at != NULL && !pl_span_integer(e->id, &out->id.number)))
                return false;
        out->method = (enum pl_method)method;
        out->id.kind = e->id.at != NULL ? PL_ID_INTEGER : PL_ID_NONE;
        return true;
}

static int decode_usual(const struct envelope *e, const struct pl_members *members, struct pl_request *out, const struct pl_json **params, struct pl_fault *f)
{
        if (e->params.at != NULL && pl_json_parse_value(e->params, members, &out->doc) != 0)
                return fault_code(f, PL_E_INTERNAL_ERROR, "");
        *params = out->doc;
        if (pl_method_params(out, *params, f) == 0)
                return 0;
        f->id = out->id;
        f->silent = out->id.kind == PL_ID_NONE;
        return -1;
}

static int decode(const char *line, size_t len, struct pl_request *out, const struct pl_json **params, struct pl_fault *f)
{
        struct envelope envelope = {0};
        struct pl_outline outline;
        int r = pl_json_outline(line, len, &outline);

        if (r == -E2BIG) {
                snprintf(f->limit, sizeof f->limit, "depth");
                return fault_code(f, PL_E_PARSE_ERROR, "more than 128 levels of nesting");
        }
        if (r != 0)
                return fault_code(f, PL_E_PARSE_ERROR, "the line is not one well-formed JSON text in UTF-8");
        if (read_envelope(&outline.outer, &envelope) && read_members(&envelope, out))
                return decode_usual(&envelope, &outline.inner, out, params, f);  /* of its members the params alone can be an object */
        return decode_tree((struct pl_span){line, len}, out, params, f);
}

int pl_request_decode(const char *line, size_t len, struct pl_request *out, struct pl_fault *fault)
{
        const struct pl_json *params = NULL;

        memset(out, 0, sizeof *out);
        fault_clear(fault);
        if (decode(line, len, out, &params, fault) == 0)
                return 0;
        fault->took_fd = passes_descriptor(params);
        pl_request_clear(out);
        return -1;
}

void pl_request_clear(struct pl_request *r)
{
        pl_json_free(r->doc);
        r->doc = NULL;
}

void pl_fault_line_too_long(struct pl_fault *f)
{
        fault_clear(f);
        snprintf(f->limit, sizeof f->limit, "line");
        fault_code(f, PL_E_PARSE_ERROR, "the line is longer than 65536 bytes");
}

/* ---- writing ---- */

/* What is the same in all lines is put down as it is. */
#define APPEND(b, text) pl_buf_append(b, text, sizeof(text) - 1)

static void begin_answer(struct pl_writer *w, struct pl_buf *b, const struct pl_id *id)
{
        *w = (struct pl_writer){.buf = b};
        APPEND(b, "{\"jsonrpc\":\"2.0\",\"id\":");
        if (id->kind == PL_ID_STRING)
                pl_write_string(w, NULL, id->text);
        else if (id->kind == PL_ID_INTEGER)
                pl_write_integer(w, NULL, id->number);
        else
                pl_write_null(w, NULL);
        w->comma = false;       /* in what the caller opens now there is nothing yet */
}

void pl_reply_begin(struct pl_writer *w, struct pl_buf *b, const struct pl_id *id)
{
        begin_answer(w, b, id);
        APPEND(b, ",\"result\":{");
}

void pl_reply_end(struct pl_writer *w)
{
        APPEND(w->buf, "}}\n");
}

void pl_error_begin(struct pl_writer *w, struct pl_buf *b, const struct pl_id *id, int code, const char *text)
{
        begin_answer(w, b, id);
        APPEND(b, ",\"error\":{");
        pl_write_integer(w, "code", code);
        pl_write_string(w, "message", text != NULL && text[0] != '\0' ? text : pl_error_sentence(code));
        pl_write_open(w, "data", '{');
        pl_write_string(w, "name", pl_error_name(code));
}

void pl_error_end(struct pl_writer *w)
{
        APPEND(w->buf, "}}}\n");
}

void pl_notification_begin(struct pl_writer *w, struct pl_buf *b, const char *method)
{
        *w = (struct pl_writer){.buf = b, .comma = true};
        APPEND(b, "{\"jsonrpc\":\"2.0\"");
        pl_write_string(w, "method", method);
        pl_write_open(w, "params", '{');
}

void pl_request_begin(struct pl_writer *w, struct pl_buf *b, int64_t id, const char *method)
{
        *w = (struct pl_writer){.buf = b, .comma = true};
        APPEND(b, "{\"jsonrpc\":\"2.0\"");
        pl_write_integer(w, "id", id);
        pl_write_string(w, "method", method);
        pl_write_open(w, "params", '{');
}

void pl_fault_write(struct pl_buf *b, const struct pl_fault *f)
{
        struct pl_writer w;

        pl_error_begin(&w, b, &f->id, f->code, f->text);
        if (f->member[0] != '\0')
                pl_write_string(&w, "member", f->member);
        if (f->limit[0] != '\0')
                pl_write_string(&w, "limit", f->limit);
        if (f->supported) {
                pl_write_open(&w, "supported", '[');
                pl_write_integer(&w, NULL, PL_PROTOCOL_VERSION);
                pl_write_close(&w, ']');
        }
        pl_error_end(&w);
}

/* ---- replies, as a client reads them ---- */

int pl_reply_decode(const char *line, size_t len, struct pl_reply *out)
{
        const struct pl_json *error;
        int64_t code = 0;
        int r;

        memset(out, 0, sizeof *out);
        r = pl_json_parse(line, len, &out->doc);
        if (r != 0)
                return r == -ENOMEM ? r : -EBADMSG;
        out->text = "";
        (void)pl_json_integer(pl_json_get(out->doc, "id"), &out->id);
        if (pl_json_string(pl_json_get(out->doc, "method"), &out->method)) {
                out->body = pl_json_get(out->doc, "params");
                return 0;
        }
        out->body = pl_json_get(out->doc, "result");
        if (out->body != NULL)
                return 0;
        error = pl_json_get(out->doc, "error");
        if (!pl_json_integer(pl_json_get(error, "code"), &code) || code == 0 || code < -40000 || code > 40000) {
                pl_reply_clear(out);
                return -EBADMSG;
        }
        out->code = (int)code;
        (void)pl_json_string(pl_json_get(error, "message"), &out->text);
        out->body = pl_json_get(error, "data");
        return 0;
}

void pl_reply_clear(struct pl_reply *r)
{
        pl_json_free(r->doc);
        r->doc = NULL;
}
