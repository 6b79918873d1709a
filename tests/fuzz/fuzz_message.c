/*
 * Lines, as daemon and client read them: nothing breaks, what our scanner lets through cJSON takes as well, what is printed again reads the same, and every
 * refusal is itself a line of the protocol.
 */
#include "fuzz.h"
#include "json.h"
#include "json_scan.h"
#include "message.h"

#include <cjson/cJSON.h>

#include <errno.h>

static void check_json(const char *line, size_t len)
{
        struct pl_json *doc, *again;
        struct pl_outline outline;
        char *text, *twice;
        int r = pl_json_scan(line, len, &outline);
        cJSON *tree;

        fuzz_check(r == 0 || r == -EBADMSG || r == -E2BIG, "the scanner gave an answer that it does not have");
        if (r != 0)
                return;
        tree = cJSON_ParseWithLength(line, len);
        fuzz_check(tree != NULL, "the scanner let through what cJSON does not take");
        cJSON_Delete(tree);
        fuzz_check(pl_json_parse(line, len, &doc) == 0, "what was scanned could not be parsed");
        text = pl_json_print(doc);
        fuzz_check(text != NULL && pl_json_scan(text, strlen(text), &outline) == 0, "what was printed is not JSON");
        fuzz_check(pl_json_parse(text, strlen(text), &again) == 0, "what was printed could not be parsed");
        twice = pl_json_print(again);
        fuzz_check(twice != NULL && strcmp(text, twice) == 0, "printed twice it differs");
        free(text);
        free(twice);
        pl_json_free(doc);
        pl_json_free(again);
}

static void check_request(const char *line, size_t len)
{
        struct pl_request request;
        struct pl_fault fault;
        struct pl_reply reply;
        struct pl_buf out = {0};

        if (pl_request_decode(line, len, &request, &fault) == 0) {
                fuzz_check(request.method >= 0 && request.method < PL_METHOD_COUNT, "a request for no method");
                pl_request_clear(&request);
                return;
        }
        fuzz_check(fault.code != 0 && fault.code != PL_E_INTERNAL_ERROR, "refused for no reason");
        pl_fault_write(&out, &fault);
        fuzz_check(!out.failed && out.len > 0 && out.data[out.len - 1] == '\n' && memchr(out.data, '\n', out.len) == out.data + out.len - 1, "a refusal is not one line");
        fuzz_check(pl_reply_decode(out.data, out.len - 1, &reply) == 0 && reply.code == fault.code, "a refusal cannot be read by a client");
        pl_reply_clear(&reply);
        pl_buf_clear(&out);
}

/* The document of a request is all of it, or its params alone. NULL: it has none. */
static char *params_of(const struct pl_request *r)
{
        const struct pl_json *doc = r->doc;

        if (pl_json_get(doc, "jsonrpc") != NULL)
                doc = pl_json_get(doc, "params");
        return doc != NULL ? pl_json_print(doc) : NULL;
}

static void check_same(const struct pl_request *a, const struct pl_request *b)
{
        char *x = params_of(a), *y = params_of(b);

        fuzz_check(pl_id_equal(&a->id, &b->id) && a->method == b->method, "it is another one when it is written otherwise");
        fuzz_check((x == NULL) == (y == NULL) && (x == NULL || strcmp(x, y) == 0), "it has other params when it is written otherwise");
        free(x);
        free(y);
}

/* Written with an escape, the name of a member can be told by a parser alone: the request, or what is wrong with it, stays the same. */
static void check_disguised(const char *line, size_t len)
{
        static const char name[] = "\"jsonrpc\"", escaped[] = "\"\\u006asonrpc\"";
        const char *at = memmem(line, len, name, sizeof name - 1);
        size_t before = at != NULL ? (size_t)(at - line) : 0, other_len = len + sizeof escaped - sizeof name;
        struct pl_request a, b;
        struct pl_fault f, g;
        char *other;
        int r;

        if (at == NULL || (before > 0 && at[-1] == '\\'))
                return;
        other = malloc(other_len);
        fuzz_check(other != NULL, "no memory");
        memcpy(other, line, before);
        memcpy(other + before, escaped, sizeof escaped - 1);
        memcpy(other + before + sizeof escaped - 1, at + sizeof name - 1, len - before - (sizeof name - 1));
        r = pl_request_decode(line, len, &a, &f);
        fuzz_check(pl_request_decode(other, other_len, &b, &g) == r, "the same request is not taken when it is written otherwise");
        if (r != 0)
                fuzz_check(f.code == g.code && pl_id_equal(&f.id, &g.id) && f.silent == g.silent && f.took_fd == g.took_fd && strcmp(f.member, g.member) == 0 &&
                                   strcmp(f.limit, g.limit) == 0 && strcmp(f.text, g.text) == 0,
                           "it is refused otherwise when it is written otherwise");
        if (r == 0) {
                check_same(&a, &b);
                pl_request_clear(&a);
                pl_request_clear(&b);
        }
        free(other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        char *line = fuzz_copy(data, size);
        struct pl_reply reply;

        check_json(line, size);
        check_request(line, size);
        check_disguised(line, size);
        if (pl_reply_decode(line, size, &reply) == 0)
                pl_reply_clear(&reply);
        free(line);
        return 0;
}
