/* Windows' own strings and errors, as the rest of the programs knows them: UTF-8 and errno. */
#ifndef PL_WIN_TEXT_H
#define PL_WIN_TEXT_H

#include <stddef.h>
#include <wchar.h>

/* UTF-8 to a new UTF-16 string (free() it), or NULL: no memory (errno ENOMEM) or not UTF-8 (EILSEQ). */
wchar_t *pl_wide(const char *text);

/* UTF-16 to a new UTF-8 string (free() it), or NULL with errno; lone surrogates, which names of files may have, are EILSEQ. */
char *pl_narrow(const wchar_t *text);

/* The errno value that says best what GetLastError() said. */
int pl_errno_of(unsigned long error);

#endif
