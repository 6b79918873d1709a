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

        *out = (struct pl_id){.kind = PL_ID_NONE};
        if (pl_json_string(n, &text)) {
                if (strlen(text) > PL_ID_BYTES_MAX)
                        return -1;
                out->kind = PL_ID_STRING;
                out->text = text;
                return 0;
        }
        if (!pl_json_integer(n, &out->number))
                return -1;
        out->kind = PL_ID_INTEGER;
        return 0;
}

static void write_id(struct pl_writer *w, const struct pl_id *id)
{
        if (id->kind == PL_ID_STRING)
                pl_write_string(w, "id", id->text);
        else if (id->kind == PL_ID_INTEGER)
                pl_write_integer(w, "id", id->number);
        else
                pl_write_null(w, "id");
}

/* ---- requests ---- */

/* Its texts are empty, not full of zeros: most requests have no fault. */
static void fault_clear(struct pl_fault *f)
{
        f->code = 0;
        f->id.kind = PL_ID_NONE;
        f->id.number = 0;
        f->id_text[0] = f->member[0] = f->limit[0] = f->text[0] = '\0';
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
        if (f->id.kind == PL_ID_STRING) {       /* the fault outlives the document */
                strcpy(f->id_text, f->id.text);
                f->id.text = f->id_text;
        }
}

/* Also when fd is there twice: who passed a descriptor said so in one of them. */
static bool passes_descriptor(const struct pl_json *doc)
{
        const struct pl_json *params = pl_json_get(doc, "params"), *n;
        bool fd = false;

        if (params == NULL || pl_json_type(params) != PL_JSON_OBJECT)
                return false;
        for (n = pl_json_first(params); n != NULL && !fd; n = pl_json_next(n)) {
                if (strcmp(pl_json_key(n), "fd") == 0)
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

static int decode(const struct pl_json *doc, struct pl_request *out, struct pl_fault *f)
{
        const char *name;
        int method;

        f->took_fd = passes_descriptor(doc);
        if (decode_envelope(doc, out, &name, f) != 0)
                return -1;
        f->silent = out->id.kind == PL_ID_NONE;
        method = pl_method_find(name);
        if (method < 0)
                return fault_code(f, PL_E_METHOD_NOT_FOUND, "there is no such method");
        out->method = (enum pl_method)method;
        return pl_method_params(out, pl_json_get(doc, "params"), f);
}

int pl_request_decode(const char *line, size_t len, struct pl_request *out, struct pl_fault *fault)
{
        struct pl_json *doc;
        int r;

        memset(out, 0, sizeof *out);
        fault_clear(fault);
        r = pl_json_parse(line, len, &doc);
        if (r == -E2BIG) {
                snprintf(fault->limit, sizeof fault->limit, "depth");
                return fault_code(fault, PL_E_PARSE_ERROR, "more than 128 levels of nesting");
        }
        if (r == -ENOMEM)
                return fault_code(fault, PL_E_INTERNAL_ERROR, "");
        if (r != 0)
                return fault_code(fault, PL_E_PARSE_ERROR, "the line is not one well-formed JSON text in UTF-8");
        if (decode(doc, out, fault) != 0) {
                pl_json_free(doc);
                return -1;
        }
        out->doc = doc;
        return 0;
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

static void begin(struct pl_writer *w, struct pl_buf *b)
{
        static const char start[] = "{\"jsonrpc\":\"2.0\"";

        *w = (struct pl_writer){.buf = b, .comma = true};
        pl_buf_append(b, start, sizeof start - 1);
}

static void end_line(struct pl_writer *w)
{
        pl_write_close(w, '}');
        pl_buf_append(w->buf, "\n", 1);
}

void pl_reply_begin(struct pl_writer *w, struct pl_buf *b, const struct pl_id *id)
{
        begin(w, b);
        write_id(w, id);
        pl_write_open(w, "result", '{');
}

void pl_reply_end(struct pl_writer *w)
{
        pl_write_close(w, '}');
        end_line(w);
}

void pl_error_begin(struct pl_writer *w, struct pl_buf *b, const struct pl_id *id, int code, const char *text)
{
        begin(w, b);
        write_id(w, id);
        pl_write_open(w, "error", '{');
        pl_write_integer(w, "code", code);
        pl_write_string(w, "message", text != NULL && text[0] != '\0' ? text : pl_error_sentence(code));
        pl_write_open(w, "data", '{');
        pl_write_string(w, "name", pl_error_name(code));
}

void pl_error_end(struct pl_writer *w)
{
        pl_write_close(w, '}');
        pl_reply_end(w);
}

void pl_notification_begin(struct pl_writer *w, struct pl_buf *b, const char *method)
{
        begin(w, b);
        pl_write_string(w, "method", method);
        pl_write_open(w, "params", '{');
}

void pl_request_begin(struct pl_writer *w, struct pl_buf *b, int64_t id, const char *method)
{
        begin(w, b);
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
