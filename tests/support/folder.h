/* Folders and files for tests, the same on every system. What fails here fails the test. */
#ifndef FOLDER_H
#define FOLDER_H

#include <stdbool.h>
#include <stddef.h>

#define FOLDER_PATH_MAX 256

/* A new one, where temporary ones are. */
void folder_create(char out[FOLDER_PATH_MAX]);
/* With all that is in it; it may be a file. */
void folder_remove(const char *path);
/* Below one that exists; it may be there already. For its owner alone. */
void folder_make(const char *path);
bool folder_exists(const char *path);
/* How many names are in it. */
size_t folder_count(const char *path);

/* The whole text of a file. It is made when missing, or emptied. */
void file_put(const char *path, const char *text, size_t len);
/* At most `size - 1` bytes of it, with a NUL behind them. Returns how many there are. */
size_t file_get(const char *path, char *out, size_t size);
/* Of the owner, as stat(2) tells it. */
unsigned file_mode(const char *path);

#endif
