/* What a path that needs no current folder looks like. */
#ifndef PL_PATH_H
#define PL_PATH_H

#include <stdbool.h>

bool pl_path_is_absolute(const char *path);

/* What every absolute path fulfils, for messages: "must be absolute: ...". */
extern const char pl_path_rule[];

#endif
