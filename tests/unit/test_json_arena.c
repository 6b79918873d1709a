/* Documents in the daemon's block: they stay what they are, whoever goes first, and whatever does not fit. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "json.h"
#include "json_arena.h"
#include "starve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MANY 2000

static int begin(void **state)
{
        (void)state;
        pl_json_use_arena(true);
        return 0;
}

static int end(void **state)
{
        (void)state;
        pl_json_use_arena(false);
        return 0;
}

/* Of about so many nodes, all with that number. */
static struct pl_json *document(int number, int nodes)
{
        size_t cap = 64 + (size_t)nodes * 16, len;
        char *text = malloc(cap);
        struct pl_json *doc = NULL;
        int i;

        assert_non_null(text);
        len = (size_t)snprintf(text, cap, "{\"name\":\"number %d\",\"all\":[%d", number, number);
        for (i = 1; i < nodes; i++)
                len += (size_t)snprintf(text + len, cap - len, ",%d", number);
        len += (size_t)snprintf(text + len, cap - len, "]}");
        assert_int_equal(pl_json_parse(text, len, &doc), 0);
        free(text);
        return doc;
}

static void assert_document(const struct pl_json *doc, int number, int nodes)
{
        const struct pl_json *n;
        const char *name;
        char expected[64];
        int64_t value;
        int count = 0;

        snprintf(expected, sizeof expected, "number %d", number);
        assert_true(pl_json_string(pl_json_get(doc, "name"), &name));
        assert_string_equal(name, expected);
        for (n = pl_json_first(pl_json_get(doc, "all")); n != NULL; n = pl_json_next(n), count++) {
                assert_true(pl_json_integer(n, &value));
                assert_int_equal(value, number);
        }
        assert_int_equal(count, nodes);
}

static void one_after_the_other_takes_no_memory(void **state)
{
        int i;

        (void)state;
        for (i = 0; i < MANY; i++) {
                struct pl_json *doc = document(i, 10);

                assert_document(doc, i, 10);
                assert_false(json_arena_spilled());
                pl_json_free(doc);
        }
}

static void what_does_not_fit_is_the_heaps(void **state)
{
        int i;

        (void)state;
        for (i = 0; i < 3; i++) {
                struct pl_json *big = document(i, 3000), *small = document(i + 10, 1);

                assert_true(json_arena_spilled());
                assert_document(big, i, 3000);
                assert_document(small, i + 10, 1);
                pl_json_free(i % 2 == 0 ? big : small);
                assert_document(i % 2 == 0 ? small : big, i % 2 == 0 ? i + 10 : i, i % 2 == 0 ? 1 : 3000);
                pl_json_free(i % 2 == 0 ? small : big);
                assert_false(json_arena_spilled());
        }
}

static void a_kept_one_is_not_written_over(void **state)
{
        struct pl_json *kept = document(-1, 5), *last[7] = {NULL};
        int i;

        (void)state;
        for (i = 0; i < MANY; i++) {
                pl_json_free(last[i % 7]);
                last[i % 7] = document(i, i % 50 + 1);
                assert_document(kept, -1, 5);
                if (i >= 6)
                        assert_document(last[(i + 1) % 7], i - 6, (i - 6) % 50 + 1);
        }
        for (i = 0; i < 7; i++)
                pl_json_free(last[i]);
        assert_document(kept, -1, 5);
        pl_json_free(kept);
        assert_false(json_arena_spilled());
}

static void what_is_not_json_leaves_nothing(void **state)
{
        struct pl_json *doc;
        int i;

        (void)state;
        for (i = 0; i < MANY; i++)
                assert_int_equal(pl_json_parse("{\"a\":[1,2,3", 11, &doc), -EBADMSG);
        pl_json_free(NULL);
        doc = document(1, 10);
        assert_false(json_arena_spilled());
        pl_json_free(doc);
}

/* cJSON's memory comes from the block, and what does not fit from malloc(3), which fails here. */
static void one_that_does_not_fit_may_fail_and_leaves_nothing(void **state)
{
        static char text[40000];
        struct pl_json *doc = NULL, *kept = document(7, 3);
        size_t len = 0;
        int i;

        (void)state;
        text[len++] = '[';
        for (i = 0; i < 15000; i++)
                len += (size_t)snprintf(text + len, sizeof text - len, "%s1", i > 0 ? "," : "");
        text[len++] = ']';
        for (i = 1; i < 300; i++) {
                starve_at(i, i % 2);
                pl_json_use_arena(true);        /* starve_at() has its own hooks for cJSON */
                assert_int_equal(pl_json_parse(text, len, &doc), -ENOMEM);
                assert_document(kept, 7, 3);
                assert_true(starve_end());
                pl_json_use_arena(true);
        }
        pl_json_free(kept);
        assert_false(json_arena_spilled());
        kept = document(8, 10);
        assert_false(json_arena_spilled());
        pl_json_free(kept);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(one_after_the_other_takes_no_memory),
                cmocka_unit_test(what_does_not_fit_is_the_heaps),
                cmocka_unit_test(a_kept_one_is_not_written_over),
                cmocka_unit_test(what_is_not_json_leaves_nothing),
                cmocka_unit_test(one_that_does_not_fit_may_fail_and_leaves_nothing),
        };

        return cmocka_run_group_tests(tests, begin, end);
}
