/* The file that outlives the daemon, as Unix' own ways concern it: where it lies, links and FIFOs of its name, who else may write to its folder. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "folder.h"
#include "statefile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void the_place_follows_the_rules(void **state)
{
        char *xdg = getenv("XDG_STATE_HOME") != NULL ? strdup(getenv("XDG_STATE_HOME")) : NULL;
        char *home = getenv("HOME") != NULL ? strdup(getenv("HOME")) : NULL;
        uid_t uid = geteuid();
        struct statefile p;

        (void)state;
        assert_true(statefile_place(&p, "/a/b/", false));
        assert_string_equal(p.folder, "/a/b/");
        assert_int_equal(p.given, strlen("/a/"));
        setenv("XDG_STATE_HOME", "/x/y", 1);
        assert_true(statefile_place(&p, NULL, true));
        assert_string_equal(p.folder, "/x/y/portalock");
        assert_int_equal(p.given, strlen("/x/"));
        setenv("XDG_STATE_HOME", "relative", 1);
        assert_true(statefile_place(&p, NULL, true));
        assert_string_equal(p.folder, "/var/lib/portalock");
        assert_int_equal(p.given, strlen("/var/lib"));
        if (uid == 0)
                assert_int_equal(seteuid(12345), 0);
        setenv("HOME", "/home/u", 1);
        assert_true(statefile_place(&p, NULL, false));
        assert_string_equal(p.folder, "/home/u/.local/state/portalock");
        assert_int_equal(p.given, strlen("/home/u"));
        setenv("HOME", "", 1);
        assert_false(statefile_place(&p, NULL, false));
        if (uid == 0)
                assert_int_equal(seteuid(0), 0);
        xdg != NULL ? setenv("XDG_STATE_HOME", xdg, 1) : unsetenv("XDG_STATE_HOME");
        home != NULL ? setenv("HOME", home, 1) : unsetenv("HOME");
        free(xdg);
        free(home);
}

static int set_up(void **state)
{
        struct statefile *p = calloc(1, sizeof *p);
        char base[FOLDER_PATH_MAX];

        assert_non_null(p);
        folder_create(base);
        snprintf(p->folder, sizeof p->folder, "%s/state", base);
        p->given = strlen(base);
        strcpy(p->name, "n");
        *state = p;
        return 0;
}

static int tear_down(void **state)
{
        struct statefile *p = *state;

        p->folder[p->given] = '\0';
        folder_remove(p->folder);
        free(p);
        return 0;
}

static void it_is_for_its_owner_alone(void **state)
{
        struct statefile *p = *state;
        char path[FOLDER_PATH_MAX];
        const char *step;

        assert_int_equal(statefile_write(p, "text", true, &step), 0);
        assert_int_equal(file_mode(p->folder), 0700);
        snprintf(path, sizeof path, "%.200s/n", p->folder);
        assert_int_equal(file_mode(path), 0600);
}

static void whatever_else_bears_its_name_is_left_alone(void **state)
{
        struct statefile *p = *state;
        char path[FOLDER_PATH_MAX], other[FOLDER_PATH_MAX], text[STATEFILE_TEXT_MAX];
        const char *step;
        int kind;

        folder_make(p->folder);
        snprintf(path, sizeof path, "%.200s/n", p->folder);
        snprintf(other, sizeof other, "%.200s/../other", p->folder);
        file_put(other, "keep me", 7);
        for (kind = 0; kind < 3; kind++) {
                struct stat before, after;

                assert_int_equal(kind == 0 ? symlink(other, path) : kind == 1 ? mkfifo(path, 0600) : mkdir(path, 0700), 0);
                assert_int_equal(lstat(path, &before), 0);
                assert_true(statefile_read(p, text, &step) < 0);
                assert_int_equal(statefile_write(p, "text", true, &step), -EEXIST);
                assert_int_equal(lstat(path, &after), 0);
                assert_int_equal(before.st_ino, after.st_ino);
                assert_int_equal(file_get(other, text, sizeof text), 7);
                assert_int_equal(folder_count(p->folder), 1);
                assert_int_equal(remove(path), 0);
        }
}

static void a_folder_is_not_found_by_a_link_nor_used_when_open_to_others(void **state)
{
        struct statefile *p = *state;
        char real[FOLDER_PATH_MAX], text[STATEFILE_TEXT_MAX];
        const char *step;

        snprintf(real, sizeof real, "%.200s/../real", p->folder);
        folder_make(p->folder);
        folder_make(real);
        assert_int_equal(rmdir(p->folder), 0);
        assert_int_equal(symlink("real", p->folder), 0);
        assert_true(statefile_write(p, "text", true, &step) < 0);
        assert_int_equal(folder_count(p->folder), 0);
        assert_int_equal(unlink(p->folder), 0);
        assert_int_equal(statefile_write(p, "text", true, &step), 0);
        assert_int_equal(chmod(p->folder, 0770), 0);
        assert_true(statefile_read(p, text, &step) < 0);
        assert_true(statefile_write(p, "other", true, &step) < 0);
        assert_int_equal(chmod(p->folder, 0700), 0);
        assert_int_equal(statefile_read(p, text, &step), 4);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_place_follows_the_rules),
                cmocka_unit_test_setup_teardown(it_is_for_its_owner_alone, set_up, tear_down),
                cmocka_unit_test_setup_teardown(whatever_else_bears_its_name_is_left_alone, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_folder_is_not_found_by_a_link_nor_used_when_open_to_others, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
