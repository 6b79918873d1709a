/* Each text is there once, as long as somebody uses it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "labels.h"

#include <stdio.h>
#include <string.h>

static void equal_texts_are_one_until_nobody_uses_them(void **state)
{
        struct labels l = {0};
        char text[] = "/run/lock/a";
        const char *first, *second, *other;

        (void)state;
        assert_true(labels_init(&l));
        assert_null(labels_find(&l, text));
        first = labels_get(&l, text);
        assert_ptr_not_equal(first, text);
        second = labels_get(&l, "/run/lock/a");
        other = labels_get(&l, "/run/lock/aa");
        assert_ptr_equal(first, second);
        assert_ptr_not_equal(first, other);
        assert_ptr_equal(labels_keep(first), first);
        labels_drop(&l, first);
        labels_drop(&l, second);
        assert_ptr_equal(labels_find(&l, text), first);
        assert_string_equal(first, text);
        labels_drop(&l, first);
        assert_null(labels_find(&l, text));
        assert_ptr_equal(labels_find(&l, "/run/lock/aa"), other);
        labels_drop(&l, other);
        labels_clear(&l);
}

static void many_are_kept_apart(void **state)
{
        static const char *all[5000];
        struct labels l = {0};
        char text[32];
        size_t i;

        (void)state;
        assert_true(labels_init(&l));
        for (i = 0; i < 5000; i++) {
                snprintf(text, sizeof text, "%zu", i);
                all[i] = labels_get(&l, text);
        }
        for (i = 0; i < 5000; i++) {
                snprintf(text, sizeof text, "%zu", i);
                assert_string_equal(all[i], text);
                assert_ptr_equal(labels_find(&l, text), all[i]);
                labels_drop(&l, all[i]);
                assert_null(labels_find(&l, text));
        }
        assert_int_equal(l.texts.members, 0);
        labels_clear(&l);
}

static void texts_of_all_lengths(void **state)
{
        static const char *all[600];
        static char text[601];
        struct labels l = {0};
        size_t i;

        (void)state;
        assert_true(labels_init(&l));
        for (i = 0; i < 600; i++) {
                all[i] = labels_get(&l, text);
                text[i] = (char)('a' + i % 26);
        }
        while (i-- > 0) {
                text[i] = '\0';
                assert_int_equal(strlen(all[i]), i);
                assert_string_equal(all[i], text);
                labels_drop(&l, all[i]);
        }
        assert_int_equal(l.texts.members, 0);
        labels_clear(&l);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(equal_texts_are_one_until_nobody_uses_them),
                cmocka_unit_test(many_are_kept_apart),
                cmocka_unit_test(texts_of_all_lengths),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
