/* Which texts are JSON: the grammar, and the doors of cJSON that json.c closes before cJSON sees a byte. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "json.h"
#include "json_scan.h"
#include "wire.h"

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* From memory that ends where the text ends, so that the sanitizer sees one byte too many. */
static int parse_bytes(const char *text, size_t len, struct pl_json **out)
{
        char *copy = malloc(len > 0 ? len : 1);
        int r;

        assert_non_null(copy);
        memcpy(copy, text, len);
        *out = NULL;
        r = pl_json_parse(copy, len, out);
        free(copy);
        assert_true((r == 0) == (*out != NULL));
        return r;
}

static struct pl_json *parsed(const char *text)
{
        struct pl_json *doc;

        if (parse_bytes(text, strlen(text), &doc) != 0)
                fail_msg("refused: %s", text);
        return doc;
}

static void accepted(const char *text)
{
        pl_json_free(parsed(text));
}

static void refused_bytes(const char *text, size_t len)
{
        struct pl_json *doc;
        int r = parse_bytes(text, len, &doc);

        pl_json_free(doc);
        if (r != -EBADMSG)
                fail_msg("%d for: %.*s", r, (int)len, text);
}

static void refused(const char *text)
{
        refused_bytes(text, strlen(text));
}

static void texts_that_are_json(void **state)
{
        static const char *const texts[] = {"{}", "[]", " \t\r\n{ } \r\n\t ", "null", "true", "false", "0", "-1", "\"\"", "[[],{},[{}]]",
                                            "{\"a\":[1,2,{\"b\":null}],\"c\":\"d\"}", "[ 1 , true , \"x\" ]",
                                            "{ \"a\" : 1 , \"b\" : [ ] }", "{\"\":0}"};
        size_t i;

        (void)state;
        for (i = 0; i < COUNT(texts); i++)
                accepted(texts[i]);
}

static void texts_that_are_not_json(void **state)
{
        static const char *const texts[] = {
                "", " ", "\n", "{", "}", "[", "]", "{]", "[}", "[{]}", "\"", "\"a", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{,}",
                "{,\"a\":1}", "[,]",
                "[1,]", "[,1]", "[1,,2]", "[1 2]", "[1:2]", "{\"a\" 1}", "{\"a\":1 \"b\":2}", "{\"a\":1:2}", "{\"a\",1}", "{1:2}",
                "{null:1}", "{[]:1}",
                ",", ":", "1,2", "\"a\":1", "tru", "True", "TRUE", "nul", "nullx", "truefalse", "NaN", "nan", "Infinity", "-Infinity",
                "inf", "undefined",
                "'a'", "{a:1}", "{'a':1}", "//x\n{}", "/**/{}", "{}/**/", "{}#", "\v{}", "\f{}", "[\"a\"\"b\"]", "\\u0031", "[1]]", "{}}"};
        size_t i;

        (void)state;
        for (i = 0; i < COUNT(texts); i++)
                refused(texts[i]);
}

static void bytes_behind_the_text_are_refused(void **state)
{
        (void)state;
        refused("{} x");
        refused("{}{}");
        refused("[] []");
        refused("1 2");
        refused("\"a\" \"b\"");
        refused("null,");
        refused("{}\x01");
        refused_bytes("{}\0", 3);
}

static void a_byte_order_mark_is_refused(void **state)
{
        (void)state;
        refused("\xef\xbb\xbf{}");
        refused("{}\xef\xbb\xbf");
        accepted("\"\xef\xbb\xbf\"");   /* in a string it is a character like others */
}

static const char sample[] = "{\"a\":[1,-2.5e3,true,null,\"x\\u00e9\\ud83d\\ude00\\n\xc3\xa9\"],\"b\":{\"c\":\"\"}}";

static void a_text_cut_anywhere_is_refused(void **state)
{
        size_t cut;

        (void)state;
        accepted(sample);
        for (cut = 0; cut < sizeof sample - 1; cut++)
                refused_bytes(sample, cut);
}

/* scan() and cJSON agree: had cJSON refused what scan() let pass, it would be taken for want of memory. */
static void a_text_with_any_byte_changed_is_read_or_refused(void **state)
{
        char text[sizeof sample];
        struct pl_json *doc;
        size_t at;
        int c, r;

        (void)state;
        for (at = 0; at < sizeof sample - 1; at++) {
                for (c = 0; c < 256; c++) {
                        memcpy(text, sample, sizeof text);
                        text[at] = (char)c;
                        r = parse_bytes(text, sizeof text - 1, &doc);
                        if (r != 0 && r != -EBADMSG)
                                fail_msg("%d for: %s", r, text);
                        pl_json_free(doc);
                }
        }
}

static void a_nul_is_refused_raw_and_escaped(void **state)
{
        (void)state;
        refused_bytes("\"a\0b\"", 5);
        refused_bytes("\0", 1);
        refused_bytes("{\"a\0\":1}", 8);
        refused_bytes("[1,\0 2]", 7);
        refused("\"a\\u0000b\"");
        refused("{\"\\u0000\":1}");
        refused("{\"jsonrpc\\u0000x\":1}");
        accepted("\"\\u0001\"");
}

static void raw_control_characters_in_strings_are_refused(void **state)
{
        char text[] = "\"a?b\"", key[] = "{\"?\":1}";
        int c;

        (void)state;
        for (c = 1; c < 0x20; c++) {
                text[2] = key[2] = (char)c;
                refused(text);
                refused(key);
        }
        accepted("\" \"");
        accepted("\"\x7f\"");
}

static void only_the_escapes_of_json_are_allowed(void **state)
{
        struct pl_json *doc = parsed("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u20AC\\ud83d\\uDE00\"");
        const char *text = NULL;

        (void)state;
        assert_true(pl_json_string(doc, &text));
        assert_string_equal(text, "\"\\/\b\f\n\r\tA\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
        pl_json_free(doc);
        refused("\"\\a\"");
        refused("\"\\x41\"");
        refused("\"\\U0041\"");
        refused("\"\\'\"");
        refused("\"\\\n\"");
        refused("\"\\u004\"");
        refused("\"\\u00g1\"");
        refused("\"\\u 041\"");
        refused("\"\\u+041\"");
        refused("\"\\");
        refused("\"\\u12");
        refused_bytes("\"\\\0\"", 4);
}

static void lone_surrogates_are_refused(void **state)
{
        static const char *const texts[] = {"\"\\ud800\"", "\"\\udbff\"", "\"\\udc00\"", "\"\\udfff\"", "\"\\ud800x\"", "\"\\ud800\\n\"",
                                            "\"\\ud800\\u0041\"", "\"\\ud800\\ud800\"", "\"\\ud800\\ue000\"", "\"\\udc00\\ud800\"",
                                            "\"\\ud800\\udc0\"",
                                            "\"\\ud83d\\ude00\\ude00\"", "\"\\ud800", "\"\\ud800\\u", "\"\\ud800\\udc0"};
        size_t i;

        (void)state;
        for (i = 0; i < COUNT(texts); i++)
                refused(texts[i]);
        accepted("\"\\ud800\\udc00\\udbff\\udfff\\ud7ff\\ue000\"");
}

static void utf8_at_its_limits(void **state)
{
        static const char *const good[] = {"\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbf",
                                           "\xf0\x90\x80\x80", "\xf1\x80\x80\x80", "\xf4\x8f\xbf\xbf"};
        static const char *const bad[] = {
                "\x80", "\xbf",                                                         /* nothing before it */
                "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xe0\x9f\xbf", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf", /* overlong */
                "\xed\xa0\x80", "\xed\xbf\xbf", "\xed\xa0\x80\xed\xb0\x80",             /* surrogates */
                "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xf7\xbf\xbf\xbf",             /* past U+10FFFF */
                "\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80", "\xfe", "\xff",     /* no such lead */
                "\xc2", "\xe2\x82", "\xe2", "\xf0\x9f\x98", "\xf0\x9f", "\xf0",         /* cut */
                "\xc2x", "\xe2\x82x", "\xe2xx", "\xf0\x9f\x98x", "\xf0\x9fxx", "\xc2\xc2\x80"};
        const char *text = NULL;
        struct pl_json *doc;
        char line[64];
        size_t i;

        (void)state;
        for (i = 0; i < COUNT(good); i++) {
                snprintf(line, sizeof line, "\"%s\"", good[i]);
                doc = parsed(line);
                assert_true(pl_json_string(doc, &text));
                assert_string_equal(text, good[i]);
                pl_json_free(doc);
        }
        for (i = 0; i < COUNT(bad); i++) {
                snprintf(line, sizeof line, "\"%s\"", bad[i]);
                refused(line);
                refused_bytes(line, strlen(line) - 1);  /* where the text ends */
                snprintf(line, sizeof line, "{\"%s\":1}", bad[i]);
                refused(line);
                snprintf(line, sizeof line, "[%s]", bad[i]);
                refused(line);
        }
}

static void numbers_are_those_of_rfc_8259(void **state)
{
        static const char *const good[] = {"0", "-0", "10", "1.5", "0.1", "-0.0", "1e5", "1E+5", "1e-5", "1.25e2", "0e0", "1e308",
                                           "-1e308", "1e00005"};
        static const char *const bad[] = {"-", "+1", "01", "-01", "00", "1.", ".5", "-.5", "1.e5", "1e", "1e+", "1E-", "1e1.5", "0x10",
                                          "1_000", "1,000",
                                          "--1", "1-2", "1+2", "1.2.3", "1e5e5", "1f", "\xd9\xa1"};
        char line[64];
        size_t i;

        (void)state;
        for (i = 0; i < COUNT(good); i++)
                accepted(good[i]);
        for (i = 0; i < COUNT(bad); i++) {
                refused(bad[i]);
                snprintf(line, sizeof line, "{\"a\":%s}", bad[i]);
                refused(line);
        }
}

static void numbers_that_a_double_does_not_keep_are_refused(void **state)
{
        static const char *const bad[] = {"1e999", "-1e999", "1e309", "2e308", "1e99999999999999999999", "1e-400",
                                          "1e-99999999999999999999",
                                          "9007199254740990.5", "-9007199254740990.5", "9007199254740991.4", "1.00000000000000000000001",
                                          "0.99999999999999999999999", "900719925474099050e-2"};
        static const char *const good[] = {"1.50e1", "15e-1", "100e-2", "0.5", "0e999", "0e99999999999999999999", "0.000e-999",
                                           "4503599627370495.5", "1e300"};
        size_t i;

        (void)state;
        for (i = 0; i < COUNT(bad); i++)
                refused(bad[i]);
        for (i = 0; i < COUNT(good); i++)
                accepted(good[i]);
}

static void a_number_of_more_than_63_bytes_is_refused(void **state)
{
        char line[80];

        (void)state;
        snprintf(line, sizeof line, "0.%061d", 0);
        assert_int_equal(strlen(line), 63);
        accepted(line);
        snprintf(line, sizeof line, "0.%062d", 0);
        refused(line);
        snprintf(line, sizeof line, "[0.%062d]", 0);
        refused(line);
        snprintf(line, sizeof line, "1e%060d1e5", 0);
        refused(line);
}

/* cJSON and strtod() look for the locale's point; a library lives with the locale of its program. */
static void a_point_is_a_point_in_every_locale(void **state)
{
        (void)state;
        if (setlocale(LC_NUMERIC, "de_DE.UTF-8") == NULL && setlocale(LC_NUMERIC, "fr_FR.UTF-8") == NULL)
                skip();
        accepted("[0.5,1.25e2]");
        refused("1.5e999");
        refused("0,5");
        setlocale(LC_NUMERIC, "C");
}

static void nested(size_t levels, int expected)
{
        static const char *const pairs[][2] = {{"[", "]"}, {"{\"a\":", "}"}};
        char line[8 * (PL_DEPTH_MAX + 2)];
        struct pl_json *doc;
        size_t i, k;

        for (k = 0; k < 2; k++) {
                line[0] = '\0';
                for (i = 0; i < levels; i++)
                        strcat(line, pairs[k][0]);
                strcat(line, k == 0 ? "" : "1");
                for (i = 0; i < levels; i++)
                        strcat(line, pairs[k][1]);
                assert_int_equal(parse_bytes(line, strlen(line), &doc), expected);
                pl_json_free(doc);
        }
}

static void nesting_ends_at_its_maximum(void **state)
{
        char line[4 * PL_DEPTH_MAX] = "[";
        size_t i;

        (void)state;
        nested(PL_DEPTH_MAX, 0);
        nested(PL_DEPTH_MAX + 1, -E2BIG);
        for (i = 1; i < PL_DEPTH_MAX; i++)
                strcat(line, "[],");
        strcat(line, "[]]");
        accepted(line); /* many beside each other are not deep */
        memset(line, '[', PL_DEPTH_MAX * 2);
        line[0] = '"';
        line[PL_DEPTH_MAX * 2] = '\0';
        strcat(line, "\"");
        accepted(line); /* nor is a string */
}

/* It looks at eight bytes at a time: each byte is told from the others wherever it stands. */
static void what_stands_for_itself_in_a_string_is_told_byte_by_byte(void **state)
{
        char text[24];
        size_t at;
        int c;

        (void)state;
        for (at = 0; at < sizeof text; at++) {
                for (c = 0; c < 256; c++) {
                        bool plain = c >= 0x20 && c < 0x80 && c != '"' && c != '\\';

                        memset(text, "\x7f ~"[c % 3], sizeof text);
                        text[at] = (char)c;
                        assert_int_equal(pl_plain_length(text, sizeof text), plain ? sizeof text : at);
                        assert_int_equal(pl_plain_length(text, at), at);
                }
        }
}

/* ---- the outline ---- */

static void assert_span(struct pl_span span, const char *text)
{
        if (!pl_span_is(span, text))
                fail_msg("\"%.*s\" and not \"%s\"", (int)span.len, span.at, text);
}

static void an_outline_has_the_outermost_members_as_they_stand(void **state)
{
        static const char text[] = " { \"a\" : 1 ,\"b\":[ {\"c\":{}}, \"]}\" ] , \"\\u0064\": \"x\\\"\" ,\"\":{}\t}\n";
        struct pl_outline o;

        (void)state;
        assert_int_equal(pl_json_outline(text, sizeof text - 1, &o), 0);
        assert_int_equal(o.outer.count, 4);
        assert_span(o.outer.at[0].name, "\"a\"");
        assert_span(o.outer.at[0].value, "1");
        assert_span(o.outer.at[1].name, "\"b\"");
        assert_span(o.outer.at[1].value, "[ {\"c\":{}}, \"]}\" ]");
        assert_span(o.outer.at[2].name, "\"\\u0064\"");
        assert_span(o.outer.at[2].value, "\"x\\\"\"");
        assert_span(o.outer.at[3].name, "\"\"");
        assert_span(o.outer.at[3].value, "{}");
        assert_int_equal(o.inner.count, 0);
}

static void an_outline_has_the_members_of_the_last_object_in_the_outermost(void **state)
{
        static const char text[] = "{\"a\":{\"no\":0},\"b\": { \"c\" : {\"d\":[{\"e\":1}],\"f\":2} , \"g\":3 } ,\"h\":[{\"i\":4}],\"j\":5}";
        static const char empty[] = "{\"a\":{\"no\":0},\"b\":{ }}", list[] = "{\"a\":{\"no\":0},\"b\":[1,{\"c\":1}]}";
        struct pl_outline o;

        (void)state;
        assert_int_equal(pl_json_outline(text, sizeof text - 1, &o), 0);
        assert_int_equal(o.outer.count, 4);
        assert_int_equal(pl_json_outline(empty, sizeof empty - 1, &o), 0);
        assert_int_equal(o.inner.count, 0);
        assert_int_equal(pl_json_outline(list, sizeof list - 1, &o), 0);
        assert_int_equal(o.inner.count, 0);
        assert_span(o.outer.at[1].value, "[1,{\"c\":1}]");
        assert_int_equal(pl_json_outline(text, strcspn(text, "h") - 3, &o), -EBADMSG);
        assert_int_equal(o.inner.count, 2);
        assert_span(o.inner.at[0].name, "\"c\"");
        assert_span(o.inner.at[0].value, "{\"d\":[{\"e\":1}],\"f\":2}");
        assert_span(o.inner.at[1].name, "\"g\"");
        assert_span(o.inner.at[1].value, "3");
}

static void an_outline_counts_more_members_than_it_notes(void **state)
{
        static const char many[] = "{\"1\":1,\"2\":2,\"3\":3,\"4\":4,\"5\":[5,{\"6\":6}],\"7\":{\"1\":1,\"2\":2,\"3\":3,\"4\":4,\"5\":5}}";
        static const char *const none[] = {"{}", "[]", "[{\"a\":1}]", "1", "\"a\"", " null "};
        struct pl_outline o;
        size_t i;

        (void)state;
        assert_int_equal(pl_json_outline(many, sizeof many - 1, &o), 0);
        assert_int_equal(o.outer.count, 6);
        assert_span(o.outer.at[PL_MEMBERS_MAX - 1].name, "\"4\"");
        assert_span(o.outer.at[PL_MEMBERS_MAX - 1].value, "4");
        assert_int_equal(o.inner.count, 5);
        assert_span(o.inner.at[PL_MEMBERS_MAX - 1].value, "4");
        for (i = 0; i < COUNT(none); i++) {
                assert_int_equal(pl_json_outline(none[i], strlen(none[i]), &o), 0);
                assert_int_equal(o.outer.count, 0);
        }
}

/* Parsed whole, and by itself. */
static void assert_inner(const char *inner)
{
        struct pl_json *whole = NULL, *doc = NULL;
        char text[256], *a, *b;
        struct pl_outline o;

        snprintf(text, sizeof text, "{\"a\":%s,\"z\":1}", inner);
        assert_int_equal(pl_json_parse(text, strlen(text), &whole), 0);
        assert_int_equal(pl_json_outline(text, strlen(text), &o), 0);
        assert_int_equal(pl_json_parse_value(o.outer.at[0].value, &o.inner, &doc), 0);
        a = pl_json_print(pl_json_get(whole, "a"));
        b = pl_json_print(doc);
        assert_string_equal(b, a);
        free(a);
        free(b);
        pl_json_free(doc);
        pl_json_free(whole);
}

static void a_value_out_of_an_outline_is_parsed_by_itself(void **state)
{
        static const char *const all[] = {"{\"b\":[7]}", "{\"b\":7}", "{\"b\":-7,\"c\":9007199254740991,\"\":0}", "{\"b\":1,\"b\":2}", "{\"b\":1,\"c\":\"x\"}", "{\"b\":1.5}", "{\"b\":-0}",
                                          "{\"b\":1,\"c\":1e2}", "{\"b\":9007199254740993}", "{\"b\":1,\"c\":2,\"d\":3,\"e\":4,\"f\":5}", "{\"\\u0062\":1}", "{\"b\":1,\"\\n\":1}",
                                          "{\"1234567890123456789012345678901\":1}", "{\"12345678901234567890123456789012\":1}", "{\"b\":true}", "{}", "[1]", "1"};
        size_t i;

        (void)state;
        for (i = 0; i < COUNT(all); i++)
                assert_inner(all[i]);
}

static struct pl_span span(const char *text)
{
        return (struct pl_span){text, strlen(text)};
}

static void a_span_is_an_integer_by_its_digits_alone(void **state)
{
        static const char *const no[] = {"", "-", "1.0", "1e2", "9007199254740992", "-9007199254740992", "99999999999999999999", "\"1\"", "true", "[1]", "1 "};
        int64_t value = -7;
        size_t i;

        (void)state;
        for (i = 0; i < COUNT(no); i++)
                assert_false(pl_span_integer(span(no[i]), &value));
        assert_int_equal(value, -7);
        assert_true(pl_span_integer(span("9007199254740991"), &value) && value == PL_INTEGER_MAX);
        assert_true(pl_span_integer(span("-9007199254740991"), &value) && value == -PL_INTEGER_MAX);
        assert_true(pl_span_integer(span("-0"), &value) && value == 0);
        assert_true(pl_span_integer(span("42"), &value) && value == 42);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(texts_that_are_json),
                cmocka_unit_test(texts_that_are_not_json),
                cmocka_unit_test(bytes_behind_the_text_are_refused),
                cmocka_unit_test(a_byte_order_mark_is_refused),
                cmocka_unit_test(a_text_cut_anywhere_is_refused),
                cmocka_unit_test(a_text_with_any_byte_changed_is_read_or_refused),
                cmocka_unit_test(a_nul_is_refused_raw_and_escaped),
                cmocka_unit_test(raw_control_characters_in_strings_are_refused),
                cmocka_unit_test(only_the_escapes_of_json_are_allowed),
                cmocka_unit_test(lone_surrogates_are_refused),
                cmocka_unit_test(utf8_at_its_limits),
                cmocka_unit_test(numbers_are_those_of_rfc_8259),
                cmocka_unit_test(numbers_that_a_double_does_not_keep_are_refused),
                cmocka_unit_test(a_number_of_more_than_63_bytes_is_refused),
                cmocka_unit_test(a_point_is_a_point_in_every_locale),
                cmocka_unit_test(nesting_ends_at_its_maximum),
                cmocka_unit_test(what_stands_for_itself_in_a_string_is_told_byte_by_byte),
                cmocka_unit_test(an_outline_has_the_outermost_members_as_they_stand),
                cmocka_unit_test(an_outline_has_the_members_of_the_last_object_in_the_outermost),
                cmocka_unit_test(an_outline_counts_more_members_than_it_notes),
                cmocka_unit_test(a_value_out_of_an_outline_is_parsed_by_itself),
                cmocka_unit_test(a_span_is_an_integer_by_its_digits_alone),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
