#include "error.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

const char *pl_error_name(int code)
{
        switch (code) {
#define X(number, name, sentence) \
        case number:              \
                return #name;
                PL_ERRORS(X)
#undef X
        }
        return "UNKNOWN";
}

const char *pl_error_sentence(int code)
{
        switch (code) {
#define X(number, name, sentence) \
        case number:              \
                return sentence;
                PL_ERRORS(X)
#undef X
        }
        return "unknown error";
}

#define ERRNOS(X)                                                                                                          \
        X(EPERM) X(ENOENT) X(EINTR) X(EIO) X(ENXIO) X(EBADF) X(EAGAIN) X(ENOMEM) X(EACCES) X(EFAULT) X(EBUSY) X(EEXIST)    \
        X(EXDEV) X(ENODEV) X(ENOTDIR) X(EISDIR) X(EINVAL) X(ENFILE) X(EMFILE) X(ENOTTY) X(ETXTBSY) X(EFBIG) X(ENOSPC)      \
        X(EROFS) X(EMLINK) X(ENAMETOOLONG) X(ENOLCK) X(ENOSYS) X(ELOOP) X(EOVERFLOW) X(ENOTSUP) X(ETIMEDOUT) X(EDEADLK)

static const struct {
        int value;
        const char *name;
} errnos[] = {
#define X(name) {name, #name},
        ERRNOS(X)
#undef X
#ifdef ESTALE
        {ESTALE, "ESTALE"},
#endif
#ifdef EDQUOT
        {EDQUOT, "EDQUOT"},
#endif
};

const char *pl_errno_name(int err)
{
        size_t i;

        for (i = 0; i < sizeof errnos / sizeof errnos[0]; i++) {
                if (errnos[i].value == err)
                        return errnos[i].name;
        }
        return "E?";
}

const char *pl_errno_text(int err)
{
        const char *text = strerror(err);

        return strncmp(text, "Unknown error", strlen("Unknown error")) != 0 ? text : pl_errno_name(err);
}

int pl_errno_value(const char *name)
{
        size_t i;

        for (i = 0; i < sizeof errnos / sizeof errnos[0]; i++) {
                if (strcmp(errnos[i].name, name) == 0)
                        return errnos[i].value;
        }
        return 0;
}
