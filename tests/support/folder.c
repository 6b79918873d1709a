#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "folder.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

/* Each call without a loop: it waits. What it returned; the request is done with. */
static int64_t done(uv_fs_t *r)
{
        int64_t result = (int64_t)r->result;

        uv_fs_req_cleanup(r);
        return result;
}

void folder_create(char out[FOLDER_PATH_MAX])
{
        char root[FOLDER_PATH_MAX - 24], pattern[FOLDER_PATH_MAX];
        size_t size = sizeof root;
        uv_fs_t r;

        assert_int_equal(uv_os_tmpdir(root, &size), 0);
        snprintf(pattern, sizeof pattern, "%s/portalock-test-XXXXXX", root);
        assert_int_equal(uv_fs_mkdtemp(NULL, &r, pattern, NULL), 0);
        snprintf(out, FOLDER_PATH_MAX, "%s", r.path);
        uv_fs_req_cleanup(&r);
}

void folder_make(const char *path)
{
        uv_fs_t r;

        uv_fs_mkdir(NULL, &r, path, 0700, NULL);
        assert_true(r.result == 0 || r.result == UV_EEXIST);
        uv_fs_req_cleanup(&r);
}

bool folder_exists(const char *path)
{
        uv_fs_t r;

        uv_fs_lstat(NULL, &r, path, NULL);
        return done(&r) == 0;
}

size_t folder_count(const char *path)
{
        uv_fs_t r;

        assert_true(uv_fs_scandir(NULL, &r, path, 0, NULL) >= 0);
        return (size_t)done(&r);
}

/* No deeper than tests make them. */
void folder_remove(const char *path)
{
        char below[2 * FOLDER_PATH_MAX];
        uv_dirent_t entry;
        uv_fs_t r, one;

        uv_fs_unlink(NULL, &one, path, NULL);
        if (done(&one) == 0)
                return;
        assert_true(uv_fs_scandir(NULL, &r, path, 0, NULL) >= 0);
        while (uv_fs_scandir_next(&r, &entry) == 0) {
                snprintf(below, sizeof below, "%s/%s", path, entry.name);
                folder_remove(below);
        }
        uv_fs_req_cleanup(&r);
        uv_fs_rmdir(NULL, &one, path, NULL);
        assert_int_equal(done(&one), 0);
}

/* In binary: on Windows too, where a descriptor of libuv's has no text mode. */
static uv_file open_file(const char *path, int flags)
{
        uv_fs_t r;
        int64_t file;

        uv_fs_open(NULL, &r, path, flags, 0600, NULL);
        file = done(&r);
        assert_true(file >= 0);
        return (uv_file)file;
}

static void close_file(uv_file file)
{
        uv_fs_t r;

        uv_fs_close(NULL, &r, file, NULL);
        assert_int_equal(done(&r), 0);
}

void file_put(const char *path, const char *text, size_t len)
{
        uv_file file = open_file(path, UV_FS_O_WRONLY | UV_FS_O_CREAT | UV_FS_O_TRUNC);
        uv_buf_t buf = uv_buf_init((char *)text, (unsigned)len);
        uv_fs_t r;

        uv_fs_write(NULL, &r, file, &buf, 1, 0, NULL);
        assert_int_equal(done(&r), len);
        close_file(file);
}

size_t file_get(const char *path, char *out, size_t size)
{
        uv_file file = open_file(path, UV_FS_O_RDONLY);
        uv_buf_t buf = uv_buf_init(out, (unsigned)size - 1);
        int64_t n;
        uv_fs_t r;

        uv_fs_read(NULL, &r, file, &buf, 1, 0, NULL);
        n = done(&r);
        assert_true(n >= 0);
        out[n] = '\0';
        close_file(file);
        return (size_t)n;
}

unsigned file_mode(const char *path)
{
        unsigned mode;
        uv_fs_t r;

        assert_int_equal(uv_fs_stat(NULL, &r, path, NULL), 0);
        mode = (unsigned)r.statbuf.st_mode & 0777;
        uv_fs_req_cleanup(&r);
        return mode;
}
