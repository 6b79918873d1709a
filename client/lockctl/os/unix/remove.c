/*
 * Removing a lock file. It is safe under three conditions: nobody but us has it locked, for whoever removes must exclude whoever locks; its path names it
 * still, else it would be somebody else's file that goes; and it has no other name, under which others would go on to lock it. Those who waited for
 * it find that its path names it no more, and lock the file that takes its place.
 */
#include "../../os.h"

#include <errno.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

const char *os_kept_kind(const char *path)
{
        struct stat st;

        if (lstat(path, &st) != 0 || S_ISREG(st.st_mode))
                return NULL;
        return S_ISDIR(st.st_mode) ? "a directory" : S_ISLNK(st.st_mode) ? "a symbolic link" : "no regular file";
}

/* The kernel has the last word, whatever we believe. For who has it already nothing changes. */
static bool has_exclusively(int fd, bool shared)
{
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
                return true;
        /* A conversion that failed has cost the share, which what the command left running may still need. */
        if (shared)
                (void)flock(fd, LOCK_SH | LOCK_NB);
        return false;
}

enum os_removal os_remove_locked(const char *path, int fd, bool shared, const char **why)
{
        struct stat ours, now;

        if (!has_exclusively(fd, shared))
                return OS_KEPT;
        if (lstat(path, &now) != 0 && errno == ENOENT)
                return OS_KEPT;         /* somebody was quicker */
        if (fstat(fd, &ours) != 0 || lstat(path, &now) != 0) {
                *why = strerror(errno);
                return OS_REMOVAL_FAILED;
        }
        if (ours.st_dev != now.st_dev || ours.st_ino != now.st_ino)
                return OS_KEPT;
        *why = os_kept_kind(path);
        if (*why == NULL && now.st_nlink > 1)
                *why = "it has other names";
        if (*why != NULL)
                return OS_REMOVAL_FAILED;
        if (unlink(path) == 0 || errno == ENOENT)
                return OS_REMOVED;
        *why = strerror(errno);
        return OS_REMOVAL_FAILED;
}
