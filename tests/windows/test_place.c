/* Where the file that outlives the daemon lies on Windows. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "folder.h"
#include "statefile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void an_option_says_where_and_its_last_folder_is_made(void **state)
{
        struct statefile p;

        (void)state;
        assert_true(statefile_place(&p, "C:\\a\\b\\", false));
        assert_string_equal(p.folder, "C:\\a\\b\\");
        assert_int_equal(p.given, strlen("C:\\a\\"));
        assert_true(statefile_place(&p, "C:/a/b", false));
        assert_int_equal(p.given, strlen("C:/a/"));
}

static void the_variable_of_unix_holds_here_too(void **state)
{
        struct statefile p;

        (void)state;
        _wputenv_s(L"XDG_STATE_HOME", L"D:\\x\\\u00e4");
        assert_true(statefile_place(&p, NULL, false));
        assert_string_equal(p.folder, "D:\\x\\\xc3\xa4\\portalock");
        assert_int_equal(p.given, strlen("D:\\x\\"));
        _wputenv_s(L"XDG_STATE_HOME", L"\\\\server\\share\\x");
        assert_true(statefile_place(&p, NULL, false));
        assert_string_equal(p.folder, "\\\\server\\share\\x\\portalock");
        _wputenv_s(L"XDG_STATE_HOME", L"");
}

static void else_it_is_the_users_own_folder_which_must_be_there(void **state)
{
        struct statefile p;

        (void)state;
        _wputenv_s(L"XDG_STATE_HOME", L"relative");
        _wputenv_s(L"LOCALAPPDATA", L"C:\\users\\u\\local");
        assert_true(statefile_place(&p, NULL, false));
        assert_string_equal(p.folder, "C:\\users\\u\\local\\portalock");
        assert_int_equal(p.given, strlen("C:\\users\\u\\local"));
        _wputenv_s(L"LOCALAPPDATA", L"");
        assert_false(statefile_place(&p, NULL, false));
        _wputenv_s(L"XDG_STATE_HOME", L"");
}

static void folders_are_made_with_either_separator_and_beyond_ascii(void **state)
{
        struct statefile p = {.name = "n"};
        char base[FOLDER_PATH_MAX], text[STATEFILE_TEXT_MAX];
        const char *step = NULL;

        (void)state;
        folder_create(base);
        snprintf(p.folder, sizeof p.folder, "%s/\xc3\xa4\\\\b/", base);
        p.given = strlen(base);
        assert_int_equal(statefile_write(&p, "text", true, &step), 0);
        assert_int_equal(statefile_read(&p, text, &step), 4);
        folder_remove(base);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_option_says_where_and_its_last_folder_is_made),
                cmocka_unit_test(the_variable_of_unix_holds_here_too),
                cmocka_unit_test(else_it_is_the_users_own_folder_which_must_be_there),
                cmocka_unit_test(folders_are_made_with_either_separator_and_beyond_ascii),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
