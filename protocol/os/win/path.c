#include "../path.h"

const char pl_path_rule[] = "must be absolute: it must begin with a drive and a backslash (C:\\) or with two backslashes";

static bool is_separator(char c)
{
        return c == '\\' || c == '/';
}

/* \folder and C:folder depend on the current drive and on its current folder, of a process that is not the client. */
bool pl_path_is_absolute(const char *path)
{
        char drive = (char)(path[0] | 0x20);

        if (drive >= 'a' && drive <= 'z' && path[1] == ':')
                return is_separator(path[2]);
        return is_separator(path[0]) && is_separator(path[1]);
}
