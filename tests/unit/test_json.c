/* Typed values of a parsed text; the writer and the printer, whose text must read back as it was meant; and no memory for any of it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "json.h"
#include "starve.h"
#include "wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static struct pl_json *parsed(const char *text)
{
        struct pl_json *doc = NULL;

        if (pl_json_parse(text, strlen(text), &doc) != 0)
                fail_msg("refused: %s", text);
        return doc;
}

static void an_integer_has_no_fraction_and_stays_exact(void **state)
{
        static const struct {
                const char *text;
                int64_t value;
        } good[] = {{"0", 0}, {"-0", 0}, {"7", 7}, {"-7", -7}, {"1.0", 1}, {"1e3", 1000}, {"1.5e1", 15}, {"100e-2", 1},
                    {"2147483648", 2147483648},
                    {"9007199254740991", PL_INTEGER_MAX}, {"-9007199254740991", -PL_INTEGER_MAX}, {"9007199254740990", PL_INTEGER_MAX - 1}};
        static const char *const bad[] = {"9007199254740992", "-9007199254740992", "9007199254740993", "18446744073709551616", "1e300",
                                          "0.5", "-1.5",
                                          "1e-1", "null", "true", "\"1\"", "[1]", "{}"};
        struct pl_json *doc;
        int64_t value;
        size_t i;

        (void)state;
        for (i = 0; i < COUNT(good); i++) {
                doc = parsed(good[i].text);
                assert_true(pl_json_integer(doc, &value));
                assert_int_equal(value, good[i].value);
                pl_json_free(doc);
        }
        for (i = 0; i < COUNT(bad); i++) {
                doc = parsed(bad[i]);
                value = 42;
                if (pl_json_integer(doc, &value))
                        fail_msg("an integer: %s", bad[i]);
                assert_int_equal(value, 42);
                pl_json_free(doc);
        }
        assert_false(pl_json_integer(NULL, &value));
}

static void a_value_is_taken_for_its_own_type_only(void **state)
{
        struct pl_json *doc = parsed("[null,true,false,1,\"x\",[],{}]");
        static const enum pl_json_type types[] = {PL_JSON_NULL, PL_JSON_BOOL, PL_JSON_BOOL, PL_JSON_NUMBER, PL_JSON_STRING, PL_JSON_ARRAY,
                                                  PL_JSON_OBJECT};
        const struct pl_json *n;
        const char *text = "untouched";
        bool flag = true;
        int64_t number;
        size_t i = 0;

        (void)state;
        for (n = pl_json_first(doc); n != NULL; n = pl_json_next(n), i++) {
                assert_int_equal(pl_json_type(n), types[i]);
                assert_int_equal(pl_json_integer(n, &number), i == 3);
                assert_int_equal(pl_json_string(n, &text), i == 4);
                assert_string_equal(text, i < 4 ? "untouched" : "x");
                assert_int_equal(pl_json_bool(n, &flag), i == 1 || i == 2);
                assert_int_equal(flag, i < 2);
                assert_null(pl_json_key(n));
        }
        assert_int_equal(i, COUNT(types));
        assert_false(pl_json_bool(NULL, &flag));
        assert_false(pl_json_string(NULL, &text));
        assert_null(pl_json_first(NULL));
        pl_json_free(doc);
}

static void a_member_is_found_by_its_exact_name(void **state)
{
        struct pl_json *doc = parsed("{\"Path\":1,\"path\":2,\"PATH\":3,\"\\u0070ID\":4,\"in\":{\"path\":5}}"),
        *array = parsed("[{\"path\":1}]");
        int64_t value = 0;

        (void)state;
        assert_true(pl_json_integer(pl_json_get(doc, "path"), &value) && value == 2);
        assert_true(pl_json_integer(pl_json_get(doc, "pID"), &value) && value == 4);
        assert_true(pl_json_integer(pl_json_get(pl_json_get(doc, "in"), "path"), &value) && value == 5);
        assert_null(pl_json_get(doc, "pATH"));
        assert_null(pl_json_get(doc, "pat"));
        assert_null(pl_json_get(doc, ""));
        assert_null(pl_json_get(array, "path"));
        assert_null(pl_json_get(NULL, "path"));
        assert_string_equal(pl_json_key(pl_json_first(doc)), "Path");
        pl_json_free(doc);
        pl_json_free(array);
}

static void doubled(const char *text, const char *name)
{
        struct pl_json *doc = parsed(text);
        const char *found = NULL;

        assert_int_equal(pl_json_doubled(doc, &found), name != NULL);
        if (name == NULL)
                assert_null(found);
        else
                assert_string_equal(found, name);
        pl_json_free(doc);
}

/* `count` members m0, m1, ... of which the last is called `last`. */
static char *many_members(int count, const char *last)
{
        char *text = malloc((size_t)count * 16 + 32), *p = text;
        int i;

        assert_non_null(text);
        *p++ = '{';
        for (i = 0; i < count - 1; i++)
                p += sprintf(p, "\"m%d\":0,", i);
        sprintf(p, "\"%s\":0}", last);
        return text;
}

static void a_doubled_member_is_found(void **state)
{
        static const int counts[] = {2, 16, 17, 1000};
        size_t i;
        char *text;

        (void)state;
        doubled("{\"a\":1,\"a\":1}", "a");
        doubled("{\"a\":1,\"b\":1,\"c\":2,\"b\":3}", "b");
        doubled("{\"a\":1,\"\\u0061\":2}", "a");
        doubled("{\"\":1,\"\":2}", "");
        doubled("{\"a\":1,\"A\":2}", NULL);
        doubled("{\"a\":1,\"aa\":2}", NULL);
        doubled("{}", NULL);
        doubled("[1,1]", NULL);
        doubled("{\"a\":{\"b\":1,\"b\":2}}", NULL);    /* each object for itself */
        for (i = 0; i < COUNT(counts); i++) {
                text = many_members(counts[i], "m0");
                doubled(text, "m0");
                free(text);
                text = many_members(counts[i], "m");
                doubled(text, NULL);
                free(text);
        }
}

/* ---- writing ---- */

/* The text so far as a C string. */
static const char *written(struct pl_buf *b)
{
        assert_false(b->failed);
        pl_buf_append(b, "", 1);
        b->len--;
        return b->data;
}

static void the_writer_sets_commas_and_keys(void **state)
{
        struct pl_buf b = {0};
        struct pl_writer w = {.buf = &b};

        (void)state;
        pl_write_open(&w, NULL, '{');
        pl_write_integer(&w, "i", -5);
        pl_write_bool(&w, "t", true);
        pl_write_bool(&w, "f", false);
        pl_write_null(&w, "n");
        pl_write_string(&w, "k", "v");
        pl_write_open(&w, "a", '[');
        pl_write_open(&w, NULL, '{');
        pl_write_close(&w, '}');
        pl_write_integer(&w, NULL, 0);
        pl_write_open(&w, NULL, '[');
        pl_write_close(&w, ']');
        pl_write_string(&w, NULL, "");
        pl_write_close(&w, ']');
        pl_write_integer(&w, "z", 1);
        pl_write_close(&w, '}');
        assert_string_equal(written(&b),
                "{\"i\":-5,\"t\":true,\"f\":false,\"n\":null,\"k\":\"v\",\"a\":[{},0,[],\"\"],\"z\":1}");
        pl_json_free(parsed(b.data));
        pl_buf_clear(&b);
        assert_null(b.data);
}

static void an_integer_is_written_with_all_its_digits(void **state)
{
        static const struct {
                int64_t value;
                const char *text;
        } rows[] = {{0, "0"}, {9, "9"}, {10, "10"}, {99, "99"}, {100, "100"}, {101, "101"}, {1000, "1000"}, {-1, "-1"}, {-305, "-305"}, {INT64_MAX, "9223372036854775807"}, {INT64_MIN, "-9223372036854775808"},
                    {PL_INTEGER_MAX, "9007199254740991"}, {-PL_INTEGER_MAX, "-9007199254740991"}, {1791234567890120, "1791234567890120"}};
        size_t i;

        (void)state;
        for (i = 0; i < COUNT(rows); i++) {
                struct pl_buf b = {0};
                struct pl_writer w = {.buf = &b};

                pl_write_integer(&w, NULL, rows[i].value);
                assert_string_equal(written(&b), rows[i].text);
                pl_buf_clear(&b);
        }
}

/* What a reader gets for `value`, as value and, once it is printed again, as name of a member. (Names that are written are ours.) */
static void reads_back(const char *value, const char *as)
{
        struct pl_buf b = {0};
        struct pl_writer w = {.buf = &b};
        struct pl_json *doc, *again;
        const char *text = NULL;
        char *printed;

        pl_write_string(&w, NULL, value);
        doc = parsed(written(&b));
        assert_true(pl_json_string(doc, &text));
        assert_string_equal(text, as);
        pl_json_free(doc);

        pl_buf_clear(&b);
        pl_buf_append(&b, "{", 1);
        w.comma = false;
        pl_write_string(&w, NULL, value);
        pl_buf_append(&b, ":1}", 3);
        doc = parsed(written(&b));
        printed = pl_json_print(doc);
        again = parsed(printed);
        assert_string_equal(pl_json_key(pl_json_first(again)), as);
        free(printed);
        pl_json_free(again);
        pl_json_free(doc);
        pl_buf_clear(&b);
}

static void a_written_string_reads_back_as_the_same(void **state)
{
        char all[256], one[4] = "x?y";
        int c;

        (void)state;
        for (c = 1; c < 0x80; c++) {
                one[1] = all[c - 1] = (char)c;
                reads_back(one, one);
        }
        all[127] = '\0';
        reads_back(all, all);
        reads_back("", "");
        reads_back("\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf",
                   "\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf");
        reads_back("\\u0041 \\x41", "\\u0041 \\x41");
}

static void bytes_that_are_not_utf8_are_shown_in_hex(void **state)
{
        (void)state;
        reads_back("a\xff" "b", "a\\xFFb");
        reads_back("\x80", "\\x80");
        reads_back("\xc3", "\\xC3");
        reads_back("\xc3(", "\\xC3(");
        reads_back("\xe2\x82", "\\xE2\\x82");
        reads_back("\xe2\x82\xac\xe2\x82", "\xe2\x82\xac\\xE2\\x82");
        reads_back("\xed\xa0\x80", "\\xED\\xA0\\x80");
        reads_back("\xc0\x80", "\\xC0\\x80");
        reads_back("\xf4\x90\x80\x80", "\\xF4\\x90\\x80\\x80");
        reads_back("/tmp/\xe9t\xc3\xa9\n", "/tmp/\\xE9t\xc3\xa9\n");
}

static void a_long_string_is_written_whole(void **state)
{
        size_t lengths[] = {1020, 1021, 1022, 1023, 1024, 1025, 200000}, i;

        (void)state;
        for (i = 0; i < COUNT(lengths); i++) {
                char *text = malloc(lengths[i] + 1);

                assert_non_null(text);
                memset(text, 'x', lengths[i]);
                text[lengths[i]] = '\0';
                text[lengths[i] / 2] = '"';
                reads_back(text, text);
                free(text);
        }
}

static void what_is_printed_is_what_was_read(void **state)
{
        static const struct {
                const char *text, *as;
        } rows[] = {{" { } ", "{}"}, {"[ ]", "[]"}, {"null", "null"}, {"[true , false]", "[true,false]"},
                    {"{\"a\\\"\":{\"b\":[1,\"x\\n\"]},\"c\":2}", "{\"a\\\"\":{\"b\":[1,\"x\\u000a\"]},\"c\":2}"},
                    {"[0.5,-2.25,1e300]", "[0.5,-2.25,1e+300]"}, {"[-9007199254740992,0.1,1234567890123456.7]", "[-9007199254740992,0.1,1234567890123456.8]"}, {"[-0,1.0,1e3]", "[0,1,1000]"},
                    {"\"\\u00e9\\ud83d\\ude00\"", "\"\xc3\xa9\xf0\x9f\x98\x80\""},
                    /* tokens: cJSON would print the first as 1.79123456789012e+15 */
                    {"[1791234567890120,1791234567890123,1000000000000000,9007199254740991,-9007199254740990]",
                     "[1791234567890120,1791234567890123,1000000000000000,9007199254740991,-9007199254740990]"}};
        size_t i;

        (void)state;
        for (i = 0; i < COUNT(rows); i++) {
                struct pl_json *doc = parsed(rows[i].text);
                char *text = pl_json_print(doc);

                assert_string_equal(text, rows[i].as);
                pl_json_free(doc);
                doc = parsed(text);
                free(text);
                text = pl_json_print(doc);
                assert_string_equal(text, rows[i].as);
                free(text);
                pl_json_free(doc);
        }
}

static void a_part_is_printed_without_its_name(void **state)
{
        struct pl_json *doc = parsed("{\"locks\":[{\"pid\":1}],\"next\":\"n\"}");
        char *text = pl_json_print(pl_json_get(doc, "locks"));

        (void)state;
        assert_string_equal(text, "[{\"pid\":1}]");
        free(text);
        pl_json_free(doc);
}

/* ---- without memory ---- */

static const char sample[] = "{\"a\":[1,-2.5,true,null,\"x\\u00e9\\n\xc3\xa9\"],\"b\":{\"c\":\"\",\"d\":[[],{}]}}";

static void each_allocation_of_the_parser_may_fail(void **state)
{
        int good_runs = 0, for_good;

        (void)state;
        for (for_good = 0; for_good < 2; for_good++) {
                bool failed = true;
                long n;

                for (n = 1; failed; n++) {
                        struct pl_json *doc = NULL;
                        int r;

                        starve_at(n, for_good);
                        r = pl_json_parse(sample, sizeof sample - 1, &doc);
                        failed = starve_end();
                        assert_int_equal(r, failed ? -ENOMEM : 0);
                        assert_true(failed == (doc == NULL));
                        pl_json_free(doc);
                        good_runs += !failed;
                }
                assert_true(n > 15);    /* 14 nodes at least were tried */
        }
        assert_int_equal(good_runs, 2);
}

static void without_memory_a_doubled_member_is_neither_denied_nor_claimed(void **state)
{
        static const char *const last[] = {"m0", "other"};
        size_t i;

        (void)state;
        for (i = 0; i < COUNT(last); i++) {
                char *text = many_members(17, last[i]);
                struct pl_json *doc = parsed(text);
                const char *name = NULL;
                int r;

                starve_at(1, true);
                r = pl_json_doubled(doc, &name);
                assert_true(starve_end());
                assert_int_equal(r, -ENOMEM);
                assert_null(name);
                pl_json_free(doc);
                free(text);
        }
}

static void without_memory_nothing_is_printed(void **state)
{
        char big[3000], *text;
        struct pl_json *doc;
        bool failed = true;
        long n;

        (void)state;
        memset(big, 'x', sizeof big);
        big[0] = big[sizeof big - 2] = '"';
        big[sizeof big - 1] = '\0';
        doc = parsed(big);
        for (n = 1; failed; n++) {
                starve_at(n, false);
                text = pl_json_print(doc);
                failed = starve_end();
                assert_true(failed == (text == NULL));
                free(text);
        }
        assert_true(n > 2);
        pl_json_free(doc);
}

/* Some of everything, enough for several growths. */
static void write_much(struct pl_buf *b)
{
        struct pl_writer w = {.buf = b};
        int i;

        pl_write_open(&w, NULL, '[');
        for (i = 0; i < 300; i++) {
                pl_write_open(&w, NULL, '{');
                pl_write_integer(&w, "i", i);
                pl_write_bool(&w, "b", true);
                pl_write_null(&w, "n");
                pl_write_string(&w, "s", i % 2 == 0 ? "" : "\"\xff\n");
                pl_write_close(&w, '}');
        }
        pl_write_close(&w, ']');
}

static void a_buffer_that_could_not_grow_says_so_and_can_be_used_again(void **state)
{
        int for_good;

        (void)state;
        for (for_good = 0; for_good < 2; for_good++) {
                bool failed = true;
                long n;

                for (n = 1; failed; n++) {
                        struct pl_buf b = {0};

                        starve_at(n, for_good);
                        write_much(&b);
                        failed = starve_end();
                        assert_int_equal(b.failed, failed);
                        assert_true(b.len <= b.cap);
                        pl_buf_clear(&b);
                        assert_false(b.failed);
                        write_much(&b);
                        pl_json_free(parsed(written(&b)));
                        pl_buf_clear(&b);
                }
                assert_true(n > 3);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_integer_has_no_fraction_and_stays_exact),
                cmocka_unit_test(a_value_is_taken_for_its_own_type_only),
                cmocka_unit_test(a_member_is_found_by_its_exact_name),
                cmocka_unit_test(a_doubled_member_is_found),
                cmocka_unit_test(the_writer_sets_commas_and_keys),
                cmocka_unit_test(an_integer_is_written_with_all_its_digits),
                cmocka_unit_test(a_written_string_reads_back_as_the_same),
                cmocka_unit_test(bytes_that_are_not_utf8_are_shown_in_hex),
                cmocka_unit_test(a_long_string_is_written_whole),
                cmocka_unit_test(what_is_printed_is_what_was_read),
                cmocka_unit_test(a_part_is_printed_without_its_name),
                cmocka_unit_test(each_allocation_of_the_parser_may_fail),
                cmocka_unit_test(without_memory_a_doubled_member_is_neither_denied_nor_claimed),
                cmocka_unit_test(without_memory_nothing_is_printed),
                cmocka_unit_test(a_buffer_that_could_not_grow_says_so_and_can_be_used_again),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
