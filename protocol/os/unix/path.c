#include "../path.h"

const char pl_path_rule[] = "must be absolute: it must begin with a slash";

bool pl_path_is_absolute(const char *path)
{
        return path[0] == '/';
}
