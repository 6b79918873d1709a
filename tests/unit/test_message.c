/* Lines of JSON-RPC: which requests are understood, and what the others are told. The params are in test_method.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "root.h"

#include "message.h"
#include "starve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define REQUEST(members) "{\"jsonrpc\":\"2.0\"," members "}"

static struct pl_request accepted(const char *line)
{
        struct pl_request r;
        struct pl_fault f;

        if (pl_request_decode(line, strlen(line), &r, &f) != 0)
                fail_msg("%d %s: %s", f.code, f.text, line);
        return r;
}

static struct pl_fault refused(const char *line, int code)
{
        static struct pl_fault f;       /* it has the text of its id itself */
        struct pl_request r;

        if (pl_request_decode(line, strlen(line), &r, &f) == 0)
                fail_msg("accepted: %s", line);
        if (f.code != code)
                fail_msg("%d and not %d: %s", f.code, code, line);
        return f;
}

static void a_request_needs_version_and_method_only(void **state)
{
        struct pl_request r = accepted("{\"method\":\"ping\",\"jsonrpc\":\"2.0\"}");

        (void)state;
        assert_int_equal(r.method, PL_PING);
        assert_int_equal(r.id.kind, PL_ID_NONE);
        pl_request_clear(&r);
        r = accepted("{\"method\":\"ping\",\"params\":{},\"jsonrpc\":\"2.0\"}");
        assert_non_null(r.doc);
        pl_request_clear(&r);
        pl_request_clear(&r);
        assert_null(r.doc);
}

static void what_is_no_json_is_a_parse_error_without_id(void **state)
{
        static const char *const lines[] = {"", "{", "ping", REQUEST("\"id\":1,\"method\":\"ping\"") "x",
                                            "\xef\xbb\xbf" REQUEST("\"id\":1,\"method\":\"ping\""),
                                            REQUEST("\"id\":1,\"method\":\"pi\xffng\""), REQUEST("\"id\":1,\"method\":\"ping\\u0000\""),
                                            REQUEST("\"id\":1,\"method\":\"pi\tng\""), REQUEST("\"id\":1e999,\"method\":\"ping\""),
                                            REQUEST("\"id\":9007199254740990.5,\"method\":\"ping\""),
                                            REQUEST("\"id\":1,\"method\":\"\\ud800\"")};
        size_t i;

        (void)state;
        for (i = 0; i < COUNT(lines); i++) {
                struct pl_fault f = refused(lines[i], PL_E_PARSE_ERROR);

                assert_int_equal(f.id.kind, PL_ID_NONE);
                assert_string_equal(f.limit, "");
                assert_false(f.silent);
        }
}

static void nesting_past_the_maximum_names_its_limit(void **state)
{
        char line[400] = REQUEST("\"id\":1,\"method\":\"ping\",\"params\":");
        size_t i, at;
        struct pl_fault f;

        (void)state;
        at = strlen(line) - 1;
        for (i = 0; i < PL_DEPTH_MAX - 1; i++) {
                line[at + i] = '[';
                line[at + PL_DEPTH_MAX - 1 + i] = ']';
        }
        strcpy(line + at + 2 * (PL_DEPTH_MAX - 1), "}");
        (void)refused(line, PL_E_INVALID_PARAMS);       /* as deep as allowed: read, and refused for what it is */
        memmove(line + at + 1, line + at, strlen(line + at) + 1);
        strcpy(line + strlen(line) - 1, "]}");
        f = refused(line, PL_E_PARSE_ERROR);
        assert_string_equal(f.limit, "depth");
        assert_int_equal(f.id.kind, PL_ID_NONE);
}

static void a_line_that_was_too_long_names_its_limit(void **state)
{
        struct pl_fault f;

        (void)state;
        memset(&f, 0x55, sizeof f);
        pl_fault_line_too_long(&f);
        assert_int_equal(f.code, PL_E_PARSE_ERROR);
        assert_string_equal(f.limit, "line");
        assert_string_equal(f.text, "the line is longer than 65536 bytes");
        assert_int_equal(PL_LINE_MAX, 65536);
        assert_int_equal(f.id.kind, PL_ID_NONE);
        assert_string_equal(f.member, "");
        assert_false(f.silent || f.supported || f.took_fd);
}

static void what_is_json_but_no_request_is_an_invalid_request(void **state)
{
        static const char *const lines[] = {
                "[]", "[" REQUEST("\"id\":1,\"method\":\"ping\"") "]", "1", "\"ping\"", "null", "{}", "{\"id\":1,\"method\":\"ping\"}",
                "{\"jsonrpc\":2.0,\"id\":1,\"method\":\"ping\"}", "{\"jsonrpc\":\"2\",\"id\":1,\"method\":\"ping\"}",
                "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"ping\"}", "{\"JSONRPC\":\"2.0\",\"id\":1,\"method\":\"ping\"}",
                REQUEST("\"id\":1"),
                REQUEST("\"id\":1,\"method\":5"), REQUEST("\"id\":1,\"method\":null"), REQUEST("\"id\":1,\"Method\":\"ping\""),
                REQUEST("\"id\":1,\"method\":\"ping\",\"Params\":{}"), REQUEST("\"id\":1,\"method\":\"ping\",\"extra\":0"),
                REQUEST("\"id\":1,\"method\":\"ping\",\"method\":\"ping\""), REQUEST("\"id\":1,\"method\":\"ping\",\"jsonrpc\":\"2.0\""),
                REQUEST("\"id\":1,\"method\":\"ping\",\"params\":{},\"params\":{}"), REQUEST("\"id\":1,\"method\":\"ping\",\"ID\":1")};
        size_t i;

        (void)state;
        for (i = 0; i < COUNT(lines); i++) {
                struct pl_fault f = refused(lines[i], PL_E_INVALID_REQUEST);
                bool has_id = strstr(lines[i], "\"id\":1") != NULL && lines[i][0] == '{';

                assert_int_equal(f.id.kind, has_id ? PL_ID_INTEGER : PL_ID_NONE);
                assert_int_equal(f.id.number, has_id);
                assert_false(f.silent); /* nobody can tell whether an answer is wanted */
        }
}

static void an_unknown_method_is_said_to_be_unknown(void **state)
{
        static const char *const names[] = {"", "Ping", "ping ", "pin", "shutdown", "rpc.discover"};
        char line[128];
        size_t i;

        (void)state;
        for (i = 0; i < COUNT(names); i++) {
                snprintf(line, sizeof line, REQUEST("\"id\":\"q\",\"method\":\"%s\""), names[i]);
                assert_string_equal(refused(line, PL_E_METHOD_NOT_FOUND).id.text, "q");
        }
}

/* The same request, of which a parser alone can tell what it is: the name of its version is written with an escape. */
static void disguise(const char *line, char *out, size_t size)
{
        const char *name = strstr(line, "\"jsonrpc\"");

        assert_non_null(name);
        assert_true((size_t)snprintf(out, size, "%.*s\"\\u006asonrpc%s", (int)(name - line), line, name + strlen("\"jsonrpc")) < size);
}

static void a_request_is_the_same_whether_its_members_are_read_where_they_stand_or_from_the_tree(void **state)
{
        static const char *const lines[] = {REQUEST("\"id\":1,\"method\":\"ping\""),
                                            "{\"method\":\"ping\",\"jsonrpc\":\"2.0\"}",
                                            "{ \"id\" : -5 , \"params\" : { } , \"method\" : \"ping\" , \"jsonrpc\" : \"2.0\" }",
                                            REQUEST("\"id\":\"a b\",\"method\":\"break\",\"params\":{\"lock\":17}"),
                                            REQUEST("\"id\":\"\",\"method\":\"stop\",\"params\":{\"force\":true}"),
                                            REQUEST("\"id\":\"\xc3\xa4\",\"method\":\"ping\""),
                                            REQUEST("\"id\":\"\\n\",\"method\":\"ping\""),
                                            REQUEST("\"id\":1e2,\"method\":\"ping\""),
                                            REQUEST("\"id\":1.0,\"method\":\"ping\""),
                                            REQUEST("\"id\":9007199254740991,\"method\":\"ping\""),
                                            REQUEST("\"id\":9007199254740992,\"method\":\"ping\""),
                                            REQUEST("\"id\":12345678901234567890,\"method\":\"ping\""),
                                            REQUEST("\"id\":1,\"method\":\"p\\u0069ng\""),
                                            REQUEST("\"id\":1,\"meth\\u006fd\":\"ping\""),
                                            REQUEST("\"id\":1,\"method\":\"pin\""),
                                            REQUEST("\"id\":1,\"method\":\"p\\u0069n\""),
                                            REQUEST("\"id\":1,\"method\":[]"),
                                            REQUEST("\"id\":null,\"method\":\"ping\""),
                                            REQUEST("\"id\":1,\"method\":\"ping\",\"params\":[]"),
                                            REQUEST("\"id\":1,\"method\":\"ping\",\"params\":null"),
                                            REQUEST("\"id\":1,\"method\":\"ping\",\"params\":{\"fd\":true}"),
                                            REQUEST("\"id\":1,\"params\":{\"fd\":true}"),
                                            REQUEST("\"id\":1,\"id\":1,\"method\":\"ping\""),
                                            REQUEST("\"id\":1,\"id\":2"),
                                            REQUEST("\"id\":1,\"method\":\"ping\",\"method\":\"ping\""),
                                            REQUEST("\"id\":1,\"method\":\"ping\",\"jsonrpc\":\"2.0\""),
                                            REQUEST("\"id\":1,\"params\":{},\"params\":{\"fd\":true}"),
                                            REQUEST("\"id\":1,\"method\":\"ping\",\"a\":1"),
                                            REQUEST("\"id\":1,\"method\":\"ping\",\"params\":{},\"a\":1"),
                                            REQUEST("\"id\":1,\"method\":\"ping\",\"a\":1,\"b\":2,\"c\":3"),
                                            "{\"jsonrpc\":\"2\",\"id\":1,\"method\":\"ping\"}",
                                            "{\"jsonrpc\":2.0,\"id\":1,\"method\":\"ping\"}",
                                            "{\"jsonrpc\":\"2.\\u0030\",\"id\":1,\"method\":\"ping\"}",
                                            "[\"jsonrpc\"]",
                                            "{\"jsonrpc\":{\"jsonrpc\":\"2.0\"}}",
                                            "\"jsonrpc\""};
        char other[256];
        size_t i;

        (void)state;
        for (i = 0; i < COUNT(lines); i++) {
                struct pl_request a, b;
                struct pl_fault f, g;
                int r, q;

                disguise(lines[i], other, sizeof other);
                r = pl_request_decode(lines[i], strlen(lines[i]), &a, &f);
                q = pl_request_decode(other, strlen(other), &b, &g);
                if (r != q || (r != 0 && (f.code != g.code || strcmp(f.text, g.text) != 0 || strcmp(f.member, g.member) != 0 || f.silent != g.silent ||
                                          f.took_fd != g.took_fd || !pl_id_equal(&f.id, &g.id))))
                        fail_msg("%d \"%s\", but %d \"%s\": %s", f.code, f.text, g.code, g.text, lines[i]);
                if (r != 0)
                        continue;
                assert_true(pl_id_equal(&a.id, &b.id));
                assert_int_equal(a.method, b.method);
                assert_memory_equal(&a.break_, &b.break_, sizeof a.break_);     /* the largest of those here */
                pl_request_clear(&a);
                pl_request_clear(&b);
        }
}

/* ---- ids ---- */

static void an_id_is_a_string_or_an_integer_and_nothing_else(void **state)
{
        static const char *const bad[] = {"null", "1.5", "9007199254740992", "-9007199254740992", "true", "{}", "[]", "[1]"};
        char line[320], text[PL_ID_BYTES_MAX + 2];
        struct pl_request r = accepted(REQUEST("\"id\":9007199254740991,\"method\":\"ping\""));
        size_t i;

        (void)state;
        assert_true(r.id.kind == PL_ID_INTEGER && r.id.number == PL_INTEGER_MAX);
        pl_request_clear(&r);
        r = accepted(REQUEST("\"id\":-9007199254740991,\"method\":\"ping\""));
        assert_true(r.id.kind == PL_ID_INTEGER && r.id.number == -PL_INTEGER_MAX);
        pl_request_clear(&r);
        r = accepted(REQUEST("\"id\":-0,\"method\":\"ping\""));
        assert_true(r.id.kind == PL_ID_INTEGER && r.id.number == 0);
        pl_request_clear(&r);
        r = accepted(REQUEST("\"id\":\"\",\"method\":\"ping\""));
        assert_int_equal(r.id.kind, PL_ID_STRING);
        assert_string_equal(r.id.text, "");
        pl_request_clear(&r);
        for (i = 0; i < COUNT(bad); i++) {
                snprintf(line, sizeof line, REQUEST("\"id\":%s,\"method\":\"ping\""), bad[i]);
                assert_int_equal(refused(line, PL_E_INVALID_REQUEST).id.kind, PL_ID_NONE);
        }
        memset(text, 'i', PL_ID_BYTES_MAX);
        text[PL_ID_BYTES_MAX] = '\0';
        snprintf(line, sizeof line, REQUEST("\"id\":\"%s\",\"method\":\"ping\""), text);
        r = accepted(line);
        assert_string_equal(r.id.text, text);
        pl_request_clear(&r);
        strcat(text, "i");
        snprintf(line, sizeof line, REQUEST("\"id\":\"%s\",\"method\":\"ping\""), text);
        assert_int_equal(refused(line, PL_E_INVALID_REQUEST).id.kind, PL_ID_NONE);
}

static void a_doubled_id_is_not_echoed(void **state)
{
        (void)state;
        assert_int_equal(refused(REQUEST("\"id\":1,\"id\":2,\"method\":\"ping\""), PL_E_INVALID_REQUEST).id.kind, PL_ID_NONE);
        assert_int_equal(refused(REQUEST("\"id\":1,\"id\":1,\"method\":\"ping\""), PL_E_INVALID_REQUEST).id.kind, PL_ID_NONE);
}

static struct pl_id id_of(const char *text, struct pl_json **doc)
{
        struct pl_id id;

        assert_int_equal(pl_json_parse(text, strlen(text), doc), 0);
        assert_int_equal(pl_id_decode(*doc, &id), 0);
        return id;
}

static void ids_are_equal_by_kind_and_value(void **state)
{
        static const char *const all[] = {"1", "-1", "0", "\"1\"", "\"\"", "\"a\"", "\"A\"", "\"aa\""};
        size_t i, k;

        (void)state;
        for (i = 0; i < COUNT(all); i++) {
                for (k = 0; k < COUNT(all); k++) {
                        struct pl_json *docs[2];
                        struct pl_id a = id_of(all[i], &docs[0]), b = id_of(all[k], &docs[1]);

                        assert_int_equal(pl_id_equal(&a, &b), i == k);
                        pl_json_free(docs[0]);
                        pl_json_free(docs[1]);
                }
        }
        assert_int_equal(pl_id_decode(NULL, &(struct pl_id){0}), -1);
}

/* ---- faults ---- */

static void without_id_only_a_request_that_is_one_stays_unanswered(void **state)
{
        (void)state;
        assert_true(refused(REQUEST("\"method\":\"nothing\""), PL_E_METHOD_NOT_FOUND).silent);
        assert_true(refused(REQUEST("\"method\":\"ping\",\"params\":[]"), PL_E_INVALID_PARAMS).silent);
        assert_false(refused(REQUEST("\"id\":0,\"method\":\"nothing\""), PL_E_METHOD_NOT_FOUND).silent);
        assert_false(refused(REQUEST("\"id\":\"\",\"method\":\"ping\",\"params\":[]"), PL_E_INVALID_PARAMS).silent);
        assert_false(refused(REQUEST("\"method\":5"), PL_E_INVALID_REQUEST).silent);
        assert_false(refused("{", PL_E_PARSE_ERROR).silent);
}

static void a_refused_request_tells_whether_it_passed_a_descriptor(void **state)
{
        static const char *const yes[] = {
                REQUEST("\"id\":1,\"method\":\"lock\",\"params\":{\"fd\":true}"),
                REQUEST("\"id\":1,\"method\":\"nothing\",\"params\":{\"fd\":true}"),
                REQUEST("\"id\":1,\"method\":\"ping\",\"params\":{\"fd\":true}"),
                REQUEST("\"id\":null,\"method\":\"lock\",\"params\":{\"fd\":true}"),
                "{\"params\":{\"x\":1,\"fd\":true}}", REQUEST("\"method\":\"lock\",\"params\":{\"fd\":true,\"fd\":true}"),
                REQUEST("\"method\":\"lock\",\"params\":{\"fd\":false,\"fd\":true}"),
                REQUEST("\"method\":\"lock\",\"params\":{\"fd\":true,\"fd\":false}")};
        static const char *const no[] = {
                REQUEST("\"id\":1,\"method\":\"lock\",\"params\":{\"fd\":false}"),
                REQUEST("\"id\":1,\"method\":\"lock\",\"params\":{\"fd\":1}"),
                REQUEST("\"id\":1,\"method\":\"lock\",\"params\":{\"FD\":true}"), REQUEST("\"id\":1,\"method\":\"lock\",\"params\":[true]"),
                REQUEST("\"id\":1,\"method\":\"lock\",\"fd\":true"),
                REQUEST("\"id\":1,\"method\":\"lock\",\"params\":{\"x\":{\"fd\":true}}"),
                "[{\"params\":{\"fd\":true}}]", "{", "null"};
        struct pl_request r;
        struct pl_fault f;
        size_t i;

        (void)state;
        for (i = 0; i < COUNT(yes) + COUNT(no); i++) {
                const char *line = i < COUNT(yes) ? yes[i] : no[i - COUNT(yes)];

                assert_int_equal(pl_request_decode(line, strlen(line), &r, &f), -1);
                if (f.took_fd != (i < COUNT(yes)))
                        fail_msg("took_fd %d: %s", f.took_fd, line);
        }
}

/* ---- without memory ---- */

#define T3 "\"token\":1,\"token\":1,\"token\":1,"
#define T18 T3 T3 T3 T3 T3 T3
#define LOCK "\"path\":\"" ROOT "f\",\"flags\":[\"LOCK_EX\"],"
#define A5 "\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,"
#define M9 "\"m1\":1,\"m2\":1,\"m3\":1,\"m4\":1,\"m5\":1,\"m6\":1,\"m7\":1,\"m8\":1,\"m9\":1,"

/* Code 0: it is accepted when there is memory. Objects of more than 16 members are searched for doubled ones with memory of their own. */
static void without_memory_a_request_is_refused_as_an_internal_error(void **state)
{
        static const struct {
                const char *line;
                int code;
        } rows[] = {{REQUEST("\"id\":\"i\",\"method\":\"lock\",\"params\":{" LOCK "\"reclaim\":{\"waited_ms\":1}}"), 0},
                    {"[]", PL_E_INVALID_REQUEST},
                    {REQUEST(M9 A5 "\"n\":{},\"id\":1"), PL_E_INVALID_REQUEST},
                    {REQUEST("\"id\":1,\"method\":\"stop\",\"params\":{" M9 A5 "\"f\":1,\"g\":1,\"h\":1}"), PL_E_INVALID_PARAMS},
                    {REQUEST("\"id\":1,\"method\":\"lock\",\"params\":{" LOCK "\"reclaim\":{" T18 "\"mode\":1}}"), PL_E_INVALID_PARAMS}};
        struct pl_request r;
        struct pl_fault f;
        bool failed;
        size_t i;
        long n;

        (void)state;
        for (i = 0; i < 2 * COUNT(rows); i++) {
                const char *line = rows[i / 2].line;

                for (n = 1, failed = true; failed; n++) {
                        int result, code;

                        starve_at(n, i % 2 == 1);
                        result = pl_request_decode(line, strlen(line), &r, &f);
                        failed = starve_end();
                        code = failed ? PL_E_INTERNAL_ERROR : rows[i / 2].code;
                        if (result != (code == 0 ? 0 : -1) || f.code != code)
                                fail_msg("%d and not %d, allocation %ld: %s", f.code, code, n, line);
                        assert_true(!failed || (f.member[0] == '\0' && f.limit[0] == '\0'));
                        if (result == 0)
                                pl_request_clear(&r);
                }
                assert_true(n > 2);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_request_needs_version_and_method_only),
                cmocka_unit_test(what_is_no_json_is_a_parse_error_without_id),
                cmocka_unit_test(nesting_past_the_maximum_names_its_limit),
                cmocka_unit_test(a_line_that_was_too_long_names_its_limit),
                cmocka_unit_test(what_is_json_but_no_request_is_an_invalid_request),
                cmocka_unit_test(an_unknown_method_is_said_to_be_unknown),
                cmocka_unit_test(a_request_is_the_same_whether_its_members_are_read_where_they_stand_or_from_the_tree),
                cmocka_unit_test(an_id_is_a_string_or_an_integer_and_nothing_else),
                cmocka_unit_test(a_doubled_id_is_not_echoed),
                cmocka_unit_test(ids_are_equal_by_kind_and_value),
                cmocka_unit_test(without_id_only_a_request_that_is_one_stays_unanswered),
                cmocka_unit_test(a_refused_request_tells_whether_it_passed_a_descriptor),
                cmocka_unit_test(without_memory_a_request_is_refused_as_an_internal_error),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
