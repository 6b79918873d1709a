/* Replies and notifications: as they are written, as a client reads them, and that each side reads what the other writes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "message.h"
#include "starve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define REQUEST(members) "{\"jsonrpc\":\"2.0\"," members "}"

/* ---- writing ---- */

/* The lines so far; the buffer is empty afterwards. */
static void expect(struct pl_buf *b, const char *lines)
{
        assert_false(b->failed);
        pl_buf_append(b, "", 1);
        assert_string_equal(b->data, lines);
        pl_buf_clear(b);
}

static void replies_and_notifications_are_lines(void **state)
{
        struct pl_id number = {.kind = PL_ID_INTEGER, .number = -3}, string = {.kind = PL_ID_STRING, .text = "a\"\n"},
        none = {.kind = PL_ID_NONE};
        struct pl_buf b = {0};
        struct pl_writer w;

        (void)state;
        pl_reply_begin(&w, &b, &number);
        pl_reply_end(&w);
        pl_reply_begin(&w, &b, &string);
        pl_write_bool(&w, "released", true);
        pl_reply_end(&w);
        expect(&b,
        "{\"jsonrpc\":\"2.0\",\"id\":-3,\"result\":{}}\n{\"jsonrpc\":\"2.0\",\"id\":\"a\\\"\\u000a\",\"result\":{\"released\":true}}\n");
        pl_error_begin(&w, &b, &none, PL_E_TIMED_OUT, NULL);
        pl_error_end(&w);
        pl_error_begin(&w, &b, &number, PL_E_LIMIT, "too much");
        pl_write_string(&w, "limit", "locks");
        pl_error_end(&w);
        pl_error_begin(&w, &b, &number, PL_E_LOST, "");
        pl_error_end(&w);
        expect(&b, "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":2,\"message\":\"the time ran out before the lock was free\","
                   "\"data\":{\"name\":\"TIMED_OUT\"}}}\n"
                   "{\"jsonrpc\":\"2.0\",\"id\":-3,\"error\":{\"code\":8,\"message\":\"too much\","
                   "\"data\":{\"name\":\"LIMIT\",\"limit\":\"locks\"}}}\n"
                   "{\"jsonrpc\":\"2.0\",\"id\":-3,\"error\":{\"code\":5,\"message\":\"the lock was taken away\","
                   "\"data\":{\"name\":\"LOST\"}}}\n");
        pl_notification_begin(&w, &b, "waiting");
        pl_write_integer(&w, "position", 2);
        pl_reply_end(&w);
        pl_request_begin(&w, &b, 9, "ping");
        pl_reply_end(&w);
        expect(&b, "{\"jsonrpc\":\"2.0\",\"method\":\"waiting\",\"params\":{\"position\":2}}\n"
                   "{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"ping\",\"params\":{}}\n");
}

static void what_a_client_writes_the_daemon_reads(void **state)
{
        struct pl_buf b = {0};
        struct pl_writer w;
        struct pl_request r;
        struct pl_fault f;

        (void)state;
        pl_request_begin(&w, &b, 12, "unlock");
        pl_write_integer(&w, "lock", 1791234567890120);
        pl_reply_end(&w);
        assert_int_equal(b.data[b.len - 1], '\n');
        assert_int_equal(pl_request_decode(b.data, b.len - 1, &r, &f), 0);
        assert_true(r.id.number == 12 && r.method == PL_UNLOCK && r.unlock.lock == 1791234567890120);
        pl_request_clear(&r);
        pl_buf_clear(&b);
}

static void what_the_daemon_refuses_the_client_reads(void **state)
{
        static const struct {
                const char *line, *member, *limit;
                int64_t id;
                bool supported;
        } rows[] = {{"{", NULL, NULL, 0, false},
                    {REQUEST("\"id\":4,\"method\":\"list\",\"params\":{\"limit\":4001}"), "limit", NULL, 4, false},
                    {REQUEST("\"id\":5,\"method\":\"hello\",\"params\":{\"protocol\":2}"), "protocol", NULL, 5, true},
                    {REQUEST("\"id\":6,\"method\":\"list\",\"params\":{\"a\\\"\\n\":1}"), "a\"\n", NULL, 6, false},
                    {NULL, NULL, "line", 0, false}};
        size_t i;

        (void)state;
        for (i = 0; i < COUNT(rows); i++) {
                const char *name = NULL, *member = NULL, *limit = NULL;
                const struct pl_json *supported;
                struct pl_buf b = {0};
                struct pl_request r;
                struct pl_reply reply;
                struct pl_fault f;

                if (rows[i].line == NULL)
                        pl_fault_line_too_long(&f);
                else
                        assert_int_equal(pl_request_decode(rows[i].line, strlen(rows[i].line), &r, &f), -1);
                pl_fault_write(&b, &f);
                assert_int_equal(pl_reply_decode(b.data, b.len, &reply), 0);
                assert_int_equal(reply.code, f.code);
                assert_string_equal(reply.text, f.text);
                assert_true(reply.id == rows[i].id && reply.method == NULL);
                assert_true(pl_json_string(pl_json_get(reply.body, "name"), &name));
                assert_string_equal(name, pl_error_name(f.code));
                assert_int_equal(pl_json_string(pl_json_get(reply.body, "member"), &member), rows[i].member != NULL);
                assert_int_equal(pl_json_string(pl_json_get(reply.body, "limit"), &limit), rows[i].limit != NULL);
                assert_true(member == NULL || strcmp(member, rows[i].member) == 0);
                assert_true(limit == NULL || strcmp(limit, rows[i].limit) == 0);
                supported = pl_json_get(reply.body, "supported");
                assert_int_equal(supported != NULL && pl_json_type(supported) == PL_JSON_ARRAY, rows[i].supported);
                pl_reply_clear(&reply);
                pl_buf_clear(&b);
        }
}

/* ---- replies ---- */

static struct pl_reply read_reply(const char *line)
{
        struct pl_reply r;

        if (pl_reply_decode(line, strlen(line), &r) != 0)
                fail_msg("no reply: %s", line);
        return r;
}

static void a_reply_is_a_result_an_error_or_a_notification(void **state)
{
        struct pl_reply r = read_reply("{\"jsonrpc\":\"2.0\",\"id\":9007199254740991,\"result\":{\"lock\":5},\"newer\":1}");
        int64_t n = 0;

        (void)state;
        assert_true(r.id == PL_INTEGER_MAX && r.code == 0 && r.method == NULL);
        assert_true(pl_json_integer(pl_json_get(r.body, "lock"), &n) && n == 5);
        pl_reply_clear(&r);
        pl_reply_clear(&r);
        r = read_reply("{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32700,\"message\":\"m\",\"data\":{\"n\":1},\"newer\":2}}");
        assert_true(r.id == 0 && r.code == PL_E_PARSE_ERROR && r.method == NULL);
        assert_string_equal(r.text, "m");
        assert_non_null(pl_json_get(r.body, "n"));
        pl_reply_clear(&r);
        r = read_reply("{\"jsonrpc\":\"2.0\",\"id\":3,\"error\":{\"code\":40000}}");
        assert_true(r.id == 3 && r.code == 40000 && r.body == NULL);
        assert_string_equal(r.text, "");
        pl_reply_clear(&r);
        r = read_reply("{\"jsonrpc\":\"2.0\",\"method\":\"lost\",\"params\":{\"lock\":5}}");
        assert_true(r.id == 0 && r.code == 0);
        assert_string_equal(r.method, "lost");
        assert_non_null(pl_json_get(r.body, "lock"));
        pl_reply_clear(&r);
        r = read_reply("{\"jsonrpc\":\"2.0\",\"method\":\"news\"}");
        assert_null(r.body);
        pl_reply_clear(&r);
}

static void what_is_no_reply_is_refused(void **state)
{
        static const char *const lines[] = {"", "{", "{}", "[]", "null", "5", "\"result\"", "[{\"id\":1,\"result\":{}}]", "{\"id\":1}",
                                            "{\"id\":1,\"Result\":{}}", "{\"id\":1,\"error\":null}", "{\"id\":1,\"error\":{}}",
                                            "{\"id\":1,\"error\":[1]}",
                                            "{\"id\":1,\"error\":{\"code\":0}}", "{\"id\":1,\"error\":{\"code\":1.5}}",
                                            "{\"id\":1,\"error\":{\"code\":\"1\"}}",
                                            "{\"id\":1,\"error\":{\"code\":40001}}", "{\"id\":1,\"error\":{\"code\":-40001}}",
                                            "{\"id\":1,\"error\":{\"code\":4294967297}}", "{\"id\":1,\"method\":5}",
                                            "{\"id\":1,\"result\":{}}x"};
        char deep[PL_DEPTH_MAX + 2];
        struct pl_reply r;
        size_t i;

        (void)state;
        for (i = 0; i < COUNT(lines); i++) {
                if (pl_reply_decode(lines[i], strlen(lines[i]), &r) != -EBADMSG)
                        fail_msg("a reply: %s", lines[i]);
                assert_null(r.doc);
        }
        memset(deep, '[', sizeof deep);
        assert_int_equal(pl_reply_decode(deep, sizeof deep, &r), -EBADMSG);
}

/* ---- without memory ---- */

static void without_memory_a_reply_is_not_taken_for_a_bad_one(void **state)
{
        static const char line[] = "{\"id\":1,\"result\":{\"locks\":[{\"path\":\"/f\",\"holders\":[]}],\"next\":\"n\"}}";
        struct pl_reply r;
        bool failed = true;
        long n;

        (void)state;
        for (n = 1; failed; n++) {
                int result;

                starve_at(n, n % 2 == 0);
                result = pl_reply_decode(line, sizeof line - 1, &r);
                failed = starve_end();
                assert_int_equal(result, failed ? -ENOMEM : 0);
                assert_true(failed == (r.doc == NULL));
                pl_reply_clear(&r);
        }
        assert_true(n > 10);
}

static void without_memory_a_line_is_marked_as_not_to_be_sent(void **state)
{
        struct pl_fault f = {.code = PL_E_INVALID_PARAMS, .member = "protocol", .supported = true};
        struct pl_buf b = {0};

        (void)state;
        starve_at(1, true);
        pl_fault_write(&b, &f);
        assert_true(starve_end());
        assert_true(b.failed);
        pl_buf_clear(&b);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(replies_and_notifications_are_lines),
                cmocka_unit_test(what_a_client_writes_the_daemon_reads),
                cmocka_unit_test(what_the_daemon_refuses_the_client_reads),
                cmocka_unit_test(a_reply_is_a_result_an_error_or_a_notification),
                cmocka_unit_test(what_is_no_reply_is_refused),
                cmocka_unit_test(without_memory_a_reply_is_not_taken_for_a_bad_one),
                cmocka_unit_test(without_memory_a_line_is_marked_as_not_to_be_sent),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
