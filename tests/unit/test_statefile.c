/* A small file that outlives the daemon: where it lies, and what is made for it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "statefile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void remove_all(const char *folder)
{
        char command[128];

        snprintf(command, sizeof command, "rm -rf %s", folder);
        assert_int_equal(system(command), 0);
}

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

static void folders_are_made_below_the_given_one_only(void **state)
{
        struct statefile p = {.name = "n"};
        char base[] = "/tmp/portalock-statefile-XXXXXX", home[64];
        char text[STATEFILE_TEXT_MAX];
        const char *step = NULL;

        (void)state;
        assert_non_null(mkdtemp(base));
        snprintf(home, sizeof home, "%s/home", base);
        snprintf(p.folder, sizeof p.folder, "%s/a/b", home);
        p.given = strlen(home);
        assert_int_equal(statefile_write(&p, "text", true, &step), -ENOENT);
        assert_string_equal(step, "mkdir");
        assert_int_equal(access(home, F_OK), -1);
        p.given = strlen(base);
        assert_int_equal(statefile_write(&p, "text", true, &step), 0);
        assert_int_equal(statefile_read(&p, text, &step), 4);
        assert_string_equal(text, "text");
        assert_int_equal(statefile_write(&p, "other", false, &step), 0);
        assert_int_equal(statefile_read(&p, text, &step), 5);
        assert_string_equal(text, "other");
        remove_all(base);
}

static void a_file_is_read_as_far_as_there_is_room_and_with_a_nul_behind_it(void **state)
{
        struct statefile p = {.name = "n"};
        char base[] = "/tmp/portalock-statefile-XXXXXX", path[64], text[STATEFILE_TEXT_MAX];
        const char *step = NULL;
        int fd, i;

        (void)state;
        assert_non_null(mkdtemp(base));
        snprintf(p.folder, sizeof p.folder, "%s", base);
        p.given = strlen(base);
        assert_int_equal(statefile_read(&p, text, &step), -ENOENT);
        assert_string_equal(step, "open");
        snprintf(path, sizeof path, "%s/n", base);
        fd = open(path, O_WRONLY | O_CREAT, 0600);
        for (i = 0; i < STATEFILE_TEXT_MAX; i++)
                assert_int_equal(write(fd, "x", 1), 1);
        close(fd);
        assert_int_equal(statefile_read(&p, text, &step), STATEFILE_TEXT_MAX - 1);
        assert_int_equal(strlen(text), STATEFILE_TEXT_MAX - 1);
        remove_all(base);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_place_follows_the_rules),
                cmocka_unit_test(folders_are_made_below_the_given_one_only),
                cmocka_unit_test(a_file_is_read_as_far_as_there_is_room_and_with_a_nul_behind_it),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
