/* The names of errors: every code has its own name and sentence, and errno values travel as names. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "error.h"

#include <errno.h>
#include <string.h>

static const struct {
        int code;
        const char *name, *sentence;
} rows[] = {
#define X(code, name, sentence) {code, #name, sentence},
        PL_ERRORS(X)
#undef X
};
#define ROWS (sizeof rows / sizeof rows[0])

static void every_code_has_its_name_and_its_sentence(void **state)
{
        size_t i;

        (void)state;
        for (i = 0; i < ROWS; i++) {
                assert_string_equal(pl_error_name(rows[i].code), rows[i].name);
                assert_string_equal(pl_error_sentence(rows[i].code), rows[i].sentence);
                assert_true(strlen(rows[i].sentence) > 0);
        }
}

static void no_two_codes_share_a_number_a_name_or_a_sentence(void **state)
{
        size_t i, k;

        (void)state;
        for (i = 0; i < ROWS; i++) {
                for (k = 0; k < i; k++) {
                        assert_int_not_equal(rows[i].code, rows[k].code);
                        assert_string_not_equal(rows[i].name, rows[k].name);
                        assert_string_not_equal(rows[i].sentence, rows[k].sentence);
                }
        }
}

/* They are on the wire and in people's scripts: a change of the table must break a test. */
static void the_codes_are_those_of_the_protocol(void **state)
{
        (void)state;
        assert_int_equal(ROWS, 15);
        assert_int_equal(PL_OK, 0);
        assert_string_equal(pl_error_name(-32700), "PARSE_ERROR");
        assert_string_equal(pl_error_name(-32600), "INVALID_REQUEST");
        assert_string_equal(pl_error_name(-32601), "METHOD_NOT_FOUND");
        assert_string_equal(pl_error_name(-32602), "INVALID_PARAMS");
        assert_string_equal(pl_error_name(-32603), "INTERNAL_ERROR");
        assert_string_equal(pl_error_name(1), "LOCK_FAILED");
        assert_string_equal(pl_error_name(2), "TIMED_OUT");
        assert_string_equal(pl_error_name(3), "DEADLOCK");
        assert_string_equal(pl_error_name(4), "CANCELLED");
        assert_string_equal(pl_error_name(5), "LOST");
        assert_string_equal(pl_error_name(6), "DENIED");
        assert_string_equal(pl_error_name(7), "OS_ERROR");
        assert_string_equal(pl_error_name(8), "LIMIT");
        assert_string_equal(pl_error_name(9), "SHUTTING_DOWN");
        assert_string_equal(pl_error_name(10), "NOT_FOUND");
}

static void a_code_that_nobody_knows_has_a_name_all_the_same(void **state)
{
        static const int strange[] = {0, -1, 11, -32604, -32699, INT32_MAX, INT32_MIN};
        size_t i;

        (void)state;
        for (i = 0; i < sizeof strange / sizeof strange[0]; i++) {
                assert_string_equal(pl_error_name(strange[i]), "UNKNOWN");
                assert_string_equal(pl_error_sentence(strange[i]), "unknown error");
        }
}

static void an_errno_goes_to_its_name_and_back(void **state)
{
        int err, known = 0;

        (void)state;
        for (err = 1; err < 4096; err++) {
                const char *name = pl_errno_name(err);

                if (strcmp(name, "E?") == 0)
                        continue;
                known++;
                assert_int_equal(pl_errno_value(name), err);
        }
        assert_true(known >= 30);
}

static void the_errnos_of_files_and_locks_have_their_names(void **state)
{
        (void)state;
        assert_string_equal(pl_errno_name(ENOENT), "ENOENT");
        assert_string_equal(pl_errno_name(EACCES), "EACCES");
        assert_string_equal(pl_errno_name(EAGAIN), "EAGAIN");
        assert_string_equal(pl_errno_name(EBADF), "EBADF");
        assert_string_equal(pl_errno_name(EINTR), "EINTR");
        assert_string_equal(pl_errno_name(ENOLCK), "ENOLCK");
        assert_string_equal(pl_errno_text(ENOENT), strerror(ENOENT));
        assert_null(strstr(pl_errno_text(ENOTSUP), "Unknown"));
        assert_string_equal(pl_errno_text(123456), "E?");
        assert_string_equal(pl_errno_name(EMFILE), "EMFILE");
        assert_string_equal(pl_errno_name(ELOOP), "ELOOP");
        assert_string_equal(pl_errno_name(ETXTBSY), "ETXTBSY");
        assert_string_equal(pl_errno_name(ESTALE), "ESTALE");
}

static void an_errno_that_nobody_knows_is_told_as_such(void **state)
{
        (void)state;
        assert_string_equal(pl_errno_name(0), "E?");
        assert_string_equal(pl_errno_name(-ENOENT), "E?");
        assert_string_equal(pl_errno_name(99999), "E?");
        assert_int_equal(pl_errno_value("E?"), 0);
        assert_int_equal(pl_errno_value(""), 0);
        assert_int_equal(pl_errno_value("enoent"), 0);
        assert_int_equal(pl_errno_value("ENOENT "), 0);
        assert_int_equal(pl_errno_value("ENO"), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_code_has_its_name_and_its_sentence),
                cmocka_unit_test(no_two_codes_share_a_number_a_name_or_a_sentence),
                cmocka_unit_test(the_codes_are_those_of_the_protocol),
                cmocka_unit_test(a_code_that_nobody_knows_has_a_name_all_the_same),
                cmocka_unit_test(an_errno_goes_to_its_name_and_back),
                cmocka_unit_test(the_errnos_of_files_and_locks_have_their_names),
                cmocka_unit_test(an_errno_that_nobody_knows_is_told_as_such),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
