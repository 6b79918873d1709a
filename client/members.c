/* Members of what the daemon says. It may be older or younger than this library: one that is missing, or of another type, has a value all the same. */
#include "internal.h"

#include <string.h>

int64_t integer_member(const struct pl_json *object, const char *name, int64_t fallback)
{
        (void)pl_json_integer(pl_json_get(object, name), &fallback);
        return fallback;
}

const char *string_member(const struct pl_json *object, const char *name)
{
        const char *value = "";

        (void)pl_json_string(pl_json_get(object, name), &value);
        return value;
}

int mode_member(const struct pl_json *object, int fallback)
{
        const char *mode = string_member(object, "mode");

        return strcmp(mode, "LOCK_EX") == 0 ? PORTALOCK_EX : strcmp(mode, "LOCK_SH") == 0 ? PORTALOCK_SH : fallback;
}
