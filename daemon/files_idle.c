/*
 * Descriptions that nobody needs now, kept for a moment: whoever locks the same path again and again, as loops and build tools do, is spared the opening and closing,
 * and the first of the two looks at the path. The second one, after the lock, tells whether the path still leads there.
 *
 * Kept are only those of local files, at most FILES_KEEP_OPEN_MAX and for f->idle.keep_ms, and only as long as descriptors are plenty. And only from the second time within that
 * time on: what was locked once is closed at once, so that its file system can be unmounted.
 */
#include "files_internal.h"

#include <stdlib.h>
#include <string.h>

/* Of a bearer that was opened again soon; it lives as long. */
struct keepsake {
        struct bearer *bearer;
        uint64_t idle_since_ms;
        bool idle;
        TAILQ_ENTRY(keepsake) entry;    /* of the idle ones */
        UT_hash_handle hh;              /* of all, by path */
        char path[];
};

static struct keepsake *keepsake_of(const struct bearer *b)
{
        return b->is_passed ? NULL : b->keepsake;
}

static size_t place_of(const struct table_key *key)
{
        return (size_t)((key->device ^ key->inode * UINT64_C(0x9e3779b97f4a7c15)) >> 32) % FILES_KEEP_OPEN_MAX;
}

void files_idle_start(struct files *f, uv_loop_t *loop, uint64_t keep_open_ms)
{
        TAILQ_INIT(&f->idle.oldest_first);
        uv_timer_init(loop, &f->idle.timer);
        f->idle.timer.data = f;
        f->idle.keep_ms = keep_open_ms;
}

void files_idle_stop(struct files *f, uv_close_cb closed)
{
        uv_close((uv_handle_t *)&f->idle.timer, closed);
}

void files_idle_expect(struct files *f, struct bearer *b, const char *path)
{
        size_t place = place_of(&b->file->key), len = strlen(path);
        bool soon = memcmp(&f->idle.closed[place].key, &b->file->key, sizeof b->file->key) == 0 &&
                    uv_now(f->idle.timer.loop) - f->idle.closed[place].at_ms < f->idle.keep_ms;
        struct keepsake *k, *other;

        if (!soon || b->away || b->is_passed || b->keepsake != NULL || !file_may_linger)
                return;
        HASH_FIND(hh, f->idle.by_path, path, len, other);
        if (other != NULL)      /* the path does not lead there any more */
                files_idle_end(f, other->bearer);
        k = calloc(1, sizeof *k + len + 1);
        if (k == NULL)
                return;
        memcpy(k->path, path, len + 1);
        HASH_ADD_KEYPTR(hh, f->idle.by_path, k->path, len, k);
        if (k->hh.tbl == NULL) {
                free(k);
                return;
        }
        k->bearer = b;
        b->keepsake = k;
}

static void close_oldest(struct files *f)
{
        files_remove_bearer(f, TAILQ_FIRST(&f->idle.oldest_first)->bearer);
}

static void on_timer(uv_timer_t *timer)
{
        struct files *f = timer->data;
        uint64_t now = uv_now(timer->loop);
        const struct keepsake *k;

        while ((k = TAILQ_FIRST(&f->idle.oldest_first)) != NULL && now - k->idle_since_ms >= f->idle.keep_ms)
                close_oldest(f);
        if (k != NULL)
                uv_timer_start(timer, on_timer, k->idle_since_ms + f->idle.keep_ms - now, 0);
}

bool files_idle_keep(struct files *f, struct bearer *b)
{
        struct keepsake *k = keepsake_of(b);
        size_t place = place_of(&b->file->key);
        uint64_t now = uv_now(f->idle.timer.loop);

        if (b->file->shared != b)
                return false;   /* what was passed, or has been replaced, is nobody's by path */
        if (k == NULL || f->descriptors->level != DESCRIPTORS_PLENTY) {
                f->idle.closed[place].key = b->file->key;
                f->idle.closed[place].at_ms = now;
                return false;
        }
        if (f->idle.count == FILES_KEEP_OPEN_MAX)
                close_oldest(f);
        k->idle = true;
        k->idle_since_ms = now;
        TAILQ_INSERT_TAIL(&f->idle.oldest_first, k, entry);
        f->idle.count++;
        if (!uv_is_active((uv_handle_t *)&f->idle.timer))       /* it is set to the oldest one's time, or to an earlier one's */
                uv_timer_start(&f->idle.timer, on_timer, f->idle.keep_ms, 0);
        return true;
}

void files_idle_take(struct files *f, struct bearer *b)
{
        struct keepsake *k = keepsake_of(b);

        if (k == NULL || !k->idle)
                return;
        k->idle = false;
        TAILQ_REMOVE(&f->idle.oldest_first, k, entry);
        f->idle.count--;
}

void files_idle_forget(struct files *f, struct bearer *b)
{
        struct keepsake *k = keepsake_of(b);

        if (k == NULL)
                return;
        files_idle_take(f, b);
        b->keepsake = NULL;
        HASH_DELETE(hh, f->idle.by_path, k);
        free(k);
}

void files_idle_end(struct files *f, struct bearer *b)
{
        files_idle_forget(f, b);
        if (b->references == 0 && b->last_errands == 0)
                files_remove_bearer(f, b);
}

struct bearer *files_idle_find(struct files *f, const char *path)
{
        struct keepsake *k;

        HASH_FIND_STR(f->idle.by_path, path, k);
        return k != NULL && k->idle ? k->bearer : NULL;
}

void files_idle_close_all(void *files)
{
        struct files *f = files;

        while (!TAILQ_EMPTY(&f->idle.oldest_first))
                close_oldest(f);
}
