/* What a user takes of a daemon for all: counted, limited, and forgotten with the last of it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "account.h"

static unsigned freed;

static void on_freed(void *arg)
{
        (void)arg;
        freed++;
}

static void limits_are_one_users_own(void **state)
{
        struct account *a, *b;
        struct accounts all;

        (void)state;
        accounts_init(&all, 8);         /* a quarter: two */
        assert_false(accounts_full(&all, 1000, ACCOUNT_SESSIONS));
        a = account_open(&all, 1000);
        assert_ptr_equal(account_open(&all, 1000), a);
        assert_true(accounts_full(&all, 1000, ACCOUNT_SESSIONS));
        b = account_open(&all, 1001);
        assert_ptr_not_equal(a, b);
        assert_false(accounts_full(&all, 1001, ACCOUNT_SESSIONS));
        assert_false(account_full(a, ACCOUNT_DESCRIPTORS));
        account_remove(a, ACCOUNT_SESSIONS);
        assert_false(accounts_full(&all, 1000, ACCOUNT_SESSIONS));
        account_remove(a, ACCOUNT_SESSIONS);
        account_remove(b, ACCOUNT_SESSIONS);
        assert_null(all.by_uid);
}

static void an_account_lives_as_long_as_anything_counts_on_it(void **state)
{
        struct accounts all;
        struct account *a;

        (void)state;
        accounts_init(&all, 1000);
        a = account_open(&all, 1000);
        account_add(a, ACCOUNT_DESCRIPTORS);
        account_remove(a, ACCOUNT_SESSIONS);    /* its descriptor is still being closed somewhere */
        assert_ptr_equal(account_open(&all, 1000), a);
        account_remove(a, ACCOUNT_DESCRIPTORS);
        assert_non_null(all.by_uid);
        account_remove(a, ACCOUNT_SESSIONS);
        assert_null(all.by_uid);
}

static void a_descriptor_is_said_to_be_free_only_when_there_was_none(void **state)
{
        struct accounts all;
        struct account *a;

        (void)state;
        freed = 0;
        accounts_init(&all, 8);
        accounts_watch(&all, on_freed, NULL);
        a = account_open(&all, 1000);
        account_add(a, ACCOUNT_DESCRIPTORS);
        account_add(a, ACCOUNT_DESCRIPTORS);
        assert_true(account_full(a, ACCOUNT_DESCRIPTORS));
        account_remove(a, ACCOUNT_DESCRIPTORS);
        assert_int_equal(freed, 1);
        account_remove(a, ACCOUNT_DESCRIPTORS);
        assert_int_equal(freed, 1);
        account_remove(a, ACCOUNT_SESSIONS);
        assert_int_equal(freed, 1);
}

static void the_backlog_of_all_sessions_is_one(void **state)
{
        struct accounts all;
        struct account *a;

        (void)state;
        accounts_init(&all, 1000);
        a = account_open(&all, 1000);
        account_backlog(a, 0, ACCOUNT_BACKLOG_BYTES_MAX);
        assert_false(account_clogged(a));
        account_backlog(a, 0, 1);
        assert_true(account_clogged(a));
        account_backlog(a, ACCOUNT_BACKLOG_BYTES_MAX, 10);
        assert_false(account_clogged(a));
        account_backlog(a, 10, 0);
        account_backlog(a, 1, 0);
        assert_int_equal(a->backlog, 0);
        account_remove(a, ACCOUNT_SESSIONS);
}

static void without_an_account_nothing_is_counted_or_full(void **state)
{
        int i;

        (void)state;
        for (i = 0; i < ACCOUNT_ITEMS; i++) {
                account_add(NULL, (enum account_item)i);
                assert_false(account_full(NULL, (enum account_item)i));
                account_remove(NULL, (enum account_item)i);
        }
        account_backlog(NULL, 0, 100u << 20);
        assert_false(account_clogged(NULL));
        assert_int_equal(account_user(NULL), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(limits_are_one_users_own),
                cmocka_unit_test(an_account_lives_as_long_as_anything_counts_on_it),
                cmocka_unit_test(a_descriptor_is_said_to_be_free_only_when_there_was_none),
                cmocka_unit_test(the_backlog_of_all_sessions_is_one),
                cmocka_unit_test(without_an_account_nothing_is_counted_or_full),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
