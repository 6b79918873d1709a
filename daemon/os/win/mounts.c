/* Drives: those of this machine are local, those of others are not. To ask may take milliseconds, so an answer is good for a second. */
#include "mounts.h"

#include <stdlib.h>
#include <uv.h>
#include <windows.h>

#define LETTERS 26
#define KEEP_MS 1000

struct mounts {
        uv_loop_t *loop;
        struct {
                bool known, local;
                uint64_t asked_ms;
        } drives[LETTERS];
};

struct mounts *mounts_create(uv_loop_t *loop)
{
        struct mounts *m = calloc(1, sizeof *m);

        if (m != NULL)
                m->loop = loop;
        return m;
}

void mounts_destroy(struct mounts *m)
{
        free(m);
}

static bool ask(wchar_t letter)
{
        wchar_t root[] = L"A:\\";

        root[0] = letter;
        switch (GetDriveTypeW(root)) {
        case DRIVE_REMOVABLE:
        case DRIVE_FIXED:
        case DRIVE_CDROM:
        case DRIVE_RAMDISK:
                return true;
        default:
                return false;
        }
}

/* `mount_id` is the drive's letter, as a capital; 0 for \\server\share and for volumes that have no letter. */
bool mounts_is_local(struct mounts *m, uint64_t mount_id, uint64_t device)
{
        uint64_t now = uv_now(m->loop);
        size_t i;

        (void)device;
        if (mount_id < 'A' || mount_id > 'Z')
                return false;
        i = (size_t)(mount_id - 'A');
        if (!m->drives[i].known || now - m->drives[i].asked_ms >= KEEP_MS) {
                m->drives[i].local = ask((wchar_t)mount_id);
                m->drives[i].asked_ms = now;
                m->drives[i].known = true;
        }
        return m->drives[i].local;
}
