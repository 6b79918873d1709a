/* A small file that outlives the daemon: what is made for it, and what is read. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "folder.h"
#include "statefile.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void folders_are_made_below_the_given_one_only(void **state)
{
        struct statefile p = {.name = "n"};
        char base[FOLDER_PATH_MAX], home[FOLDER_PATH_MAX + 8];
        char text[STATEFILE_TEXT_MAX];
        const char *step = NULL;

        (void)state;
        folder_create(base);
        snprintf(home, sizeof home, "%s/home", base);
        snprintf(p.folder, sizeof p.folder, "%s/a/b", home);
        p.given = strlen(home);
        assert_int_equal(statefile_write(&p, "text", true, &step), -ENOENT);
        assert_string_equal(step, "mkdir");
        assert_false(folder_exists(home));
        p.given = strlen(base);
        assert_int_equal(statefile_write(&p, "text", true, &step), 0);
        assert_int_equal(statefile_read(&p, text, &step), 4);
        assert_string_equal(text, "text");
        assert_int_equal(statefile_write(&p, "other", false, &step), 0);
        assert_int_equal(statefile_read(&p, text, &step), 5);
        assert_string_equal(text, "other");
        folder_remove(base);
}

static void a_file_is_read_as_far_as_there_is_room_and_with_a_nul_behind_it(void **state)
{
        struct statefile p = {.name = "n"};
        char base[FOLDER_PATH_MAX], path[FOLDER_PATH_MAX + 8], text[STATEFILE_TEXT_MAX], much[STATEFILE_TEXT_MAX];
        const char *step = NULL;

        (void)state;
        folder_create(base);
        snprintf(p.folder, sizeof p.folder, "%s", base);
        p.given = strlen(base);
        assert_int_equal(statefile_read(&p, text, &step), -ENOENT);
        assert_string_equal(step, "open");
        snprintf(path, sizeof path, "%s/n", base);
        memset(much, 'x', sizeof much);
        file_put(path, much, sizeof much);
        assert_int_equal(statefile_read(&p, text, &step), STATEFILE_TEXT_MAX - 1);
        assert_int_equal(strlen(text), STATEFILE_TEXT_MAX - 1);
        folder_remove(base);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(folders_are_made_below_the_given_one_only),
                cmocka_unit_test(a_file_is_read_as_far_as_there_is_room_and_with_a_nul_behind_it),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
