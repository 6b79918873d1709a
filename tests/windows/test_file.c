/* Paths as clients may send them to the daemon: all spellings of one file are one file, and what is none is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "file.h"
#include "folder.h"
#include "oslock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fixture {
        char folder[FOLDER_PATH_MAX], file[FOLDER_PATH_MAX + 16];      /* from the drive on, with backslashes */
        struct file_identity id;
};

static int set_up(void **state)
{
        struct fixture *f = calloc(1, sizeof *f);
        struct file_error e;
        char *c;
        int fd;

        assert_non_null(f);
        folder_create(f->folder);
        for (c = f->folder; *c != '\0'; c++)
                *c = *c == '/' ? '\\' : *c;
        snprintf(f->file, sizeof f->file, "%s\\f.lock", f->folder);
        fd = file_open(f->file, true, NULL, &f->id, &e);
        assert_true(fd >= 0);
        file_close(fd);
        *state = f;
        return 0;
}

static int tear_down(void **state)
{
        struct fixture *f = *state;

        folder_remove(f->folder);
        free(f);
        return 0;
}

static void assert_same(const struct fixture *f, const char *prefix, const char *path, bool slashes)
{
        char spelling[2 * FOLDER_PATH_MAX], *c;
        struct file_identity id = {0};
        struct file_error e = {0};
        int fd;

        snprintf(spelling, sizeof spelling, "%s%s", prefix, path);
        for (c = spelling; slashes && *c != '\0'; c++)
                *c = *c == '\\' ? '/' : *c;
        fd = file_open(spelling, false, NULL, &id, &e);
        if (fd < 0)
                fail_msg("%s: %s, errno %d, code %u", spelling, e.syscall, e.error, e.code);
        assert_memory_equal(&id, &f->id, sizeof id);
        file_close(fd);
        memset(&id, 0, sizeof id);
        assert_int_equal(file_stat(spelling, &id, &e), 0);
        assert_memory_equal(&id, &f->id, sizeof id);
}

static void each_spelling_is_the_same_file(void **state)
{
        struct fixture *f = *state;
        char upper[FOLDER_PATH_MAX + 16], round[FOLDER_PATH_MAX + 32];

        assert_same(f, "", f->file, true);
        assert_same(f, "\\\\?\\", f->file, false);
        assert_same(f, "//?/", f->file, false);
        assert_same(f, "\\\\?\\", f->file, true);
        snprintf(upper, sizeof upper, "%s\\F.LOCK", f->folder);
        assert_same(f, "", upper, false);
        snprintf(round, sizeof round, "%s\\.\\x\\..\\f.lock", f->folder);
        assert_same(f, "", round, false);
        assert_same(f, "//?/", round, true);
}

static void what_is_no_file_is_refused(void **state)
{
        static const char *const words[] = {"NUL", "\\\\.\\NUL", "\\\\.\\C:", "//./C:", "\\\\?\\pipe\\x", "//?/pipe/x", "\\\\.\\pipe\\x", "\\\\?\\GLOBALROOT\\x"};
        struct fixture *f = *state;
        char path[FOLDER_PATH_MAX + 32];
        struct file_identity id;
        struct file_error e;
        size_t i;

        for (i = 0; i < sizeof words / sizeof words[0]; i++) {
                e = (struct file_error){0};
                assert_int_equal(file_open(words[i], true, NULL, &id, &e), -1);
                assert_int_equal(e.error, ENOTSUP);
        }
        snprintf(path, sizeof path, "%s:stream", f->file);
        assert_int_equal(file_open(path, true, NULL, &id, &e), -1);
        assert_int_equal(e.error, ENOTSUP);
        snprintf(path, sizeof path, "//?/%s:stream", f->file);
        assert_int_equal(file_open(path, true, NULL, &id, &e), -1);
        snprintf(path, sizeof path, "%s\\NUL", f->folder);
        assert_int_equal(file_open(path, true, NULL, &id, &e), -1);
        assert_int_equal(folder_count(f->folder), 1);
}

static void a_folder_opens_but_the_system_does_not_lock_it(void **state)
{
        struct fixture *f = *state;
        struct file_identity id;
        struct file_error e;
        int error = 0, fd = file_open(f->folder, false, NULL, &id, &e);

        assert_true(fd >= 0);
        assert_int_equal(oslock_try(fd, OSLOCK_EX, &error), OSLOCK_FAILED);
        assert_int_equal(error, ENOTSUP);
        assert_int_equal(oslock_bears(fd), OSLOCK_NONE);
        file_close(fd);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(each_spelling_is_the_same_file, set_up, tear_down),
                cmocka_unit_test_setup_teardown(what_is_no_file_is_refused, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_folder_opens_but_the_system_does_not_lock_it, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
