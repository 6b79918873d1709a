#include "lookup.h"

#include "names.h"
#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <wctype.h>

#define UNITS 32768             /* of a path or of a variable's value */
#define DEFAULT_ENDINGS L".COM;.EXE;.BAT;.CMD"

/* A variable's value, to be freed; NULL: not set, or no memory. */
static wchar_t *variable(const wchar_t *name)
{
        wchar_t *value = malloc(UNITS * sizeof *value);
        DWORD len;

        if (value == NULL)
                return NULL;
        len = GetEnvironmentVariableW(name, value, UNITS);
        if (len > 0 && len < UNITS)
                return value;
        free(value);
        return NULL;
}

/* ---- where it is ---- */

struct search {
        const wchar_t *name;
        const wchar_t *endings;
        wchar_t path[UNITS];
};

static bool is_program(const wchar_t *path)
{
        DWORD attributes = GetFileAttributesW(path);

        return attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY) == 0;
}

static const wchar_t *base_of(const wchar_t *path)
{
        const wchar_t *base = path;

        for (; *path != L'\0'; path++)
                if (*path == L'\\' || *path == L'/' || *path == L':')
                        base = path + 1;
        return base;
}

/* s->path with one ending of the list behind it. True: there it is. */
static bool try_ending(struct search *s, size_t len, const wchar_t *ending, size_t ending_len)
{
        if (len + ending_len + 1 > UNITS)
                return false;
        wmemcpy(s->path + len, ending, ending_len);
        s->path[len + ending_len] = L'\0';
        return ending_len > 0 && is_program(s->path);
}

/* In one folder (of `len` characters; 0: the name says itself where it is). */
static bool try_folder(struct search *s, const wchar_t *folder, size_t len)
{
        const wchar_t *ending = s->endings;
        size_t name_len = wcslen(s->name), end;

        if (len + name_len + 2 > UNITS)
                return false;
        wmemcpy(s->path, folder, len);
        if (len > 0 && folder[len - 1] != L'\\' && folder[len - 1] != L'/')
                s->path[len++] = L'\\';
        wmemcpy(s->path + len, s->name, name_len + 1);
        len += name_len;
        if (wcschr(base_of(s->name), L'.') != NULL && is_program(s->path))
                return true;
        for (;;) {
                end = wcscspn(ending, L";");
                if (try_ending(s, len, ending, end))
                        return true;
                if (ending[end] == L'\0')
                        return false;
                ending += end + 1;
        }
}

static bool try_path(struct search *s, const wchar_t *path)
{
        size_t len;

        for (;; path += len + 1) {
                len = wcscspn(path, L";");
                /* A folder may stand in quotes. */
                if (len >= 2 && path[0] == L'"' && path[len - 1] == L'"' ? try_folder(s, path + 1, len - 2) : len > 0 && try_folder(s, path, len))
                        return true;
                if (path[len] == L'\0')
                        return false;
        }
}

static bool search(struct search *s)
{
        wchar_t *path;
        bool found;

        if (base_of(s->name) != s->name)
                return try_folder(s, L"", 0);
        if (NeedCurrentDirectoryForExePathW(s->name) && try_folder(s, L".", 1))
                return true;
        path = variable(L"PATH");
        found = path != NULL && try_path(s, path);
        free(path);
        return found;
}

/* The path of what `name` means, to be freed; NULL with errno. */
static wchar_t *find(const wchar_t *name)
{
        wchar_t *endings = variable(L"PATHEXT"), *out = NULL;
        struct search *s = malloc(sizeof *s);

        errno = ENOMEM;
        if (s != NULL) {
                s->name = name;
                s->endings = endings != NULL ? endings : DEFAULT_ENDINGS;
                if (name[0] == L'\0' || !search(s))
                        errno = ENOENT;
                else if ((out = malloc((wcslen(s->path) + 1) * sizeof *out)) != NULL)
                        wcscpy(out, s->path);
        }
        free(s);
        free(endings);
        return out;
}

/* ---- the line ---- */

/*
 * cmd.exe reads a line by rules of its own: within quotes everything stands for itself but the quote, which is doubled, and %, which names variables
 * even there. Behind a % goes a variable that is empty, %cd:~,%: so no name can be completed. What ends a line cannot be said at all.
 */
static void add_shell_argument(struct pl_command *c, const wchar_t *argument)
{
        size_t backslashes = 0, i;
        wchar_t one[2] = L"";

        pl_command_append(c, c->len > 0 ? L" \"" : L"\"");
        for (; *argument != L'\0'; argument++) {
                if (*argument == L'"')
                        for (i = 0; i < backslashes; i++)
                                pl_command_append(c, L"\\");    /* for the program that reads it at last */
                backslashes = *argument == L'\\' ? backslashes + 1 : 0;
                one[0] = *argument;
                pl_command_append(c, *argument == L'"' ? L"\"\"" : *argument == L'%' ? L"%%cd:~,%" : one);
        }
        for (i = 0; i < backslashes; i++)
                pl_command_append(c, L"\\");
        pl_command_append(c, L"\"");
}

static wchar_t *shell_program(void)
{
        wchar_t *shell = variable(L"COMSPEC");

        return shell != NULL ? shell : find(L"cmd.exe");
}

/* COMSPEC with `switches` and the line in quotes, which /s makes it strip; `line` is taken over. */
static int by_shell(const wchar_t *switches, wchar_t *line, struct launch *out)
{
        struct pl_command c = {0};

        out->program = line != NULL ? shell_program() : NULL;
        if (out->program == NULL) {
                free(line);
                return line != NULL ? ENOENT : ENOMEM;
        }
        pl_command_argument(&c, out->program);
        pl_command_append(&c, switches);
        pl_command_append(&c, L" \"");
        pl_command_append(&c, line);
        pl_command_append(&c, L"\"");
        free(line);
        out->line = c.text;
        if (!c.failed)
                return 0;
        free(out->program);
        free(c.text);
        return E2BIG;
}

int find_shell_line(const char *line, struct launch *out)
{
        return by_shell(L" /d /s /c", pl_wide(line), out);
}

typedef void adder(struct pl_command *c, const wchar_t *argument);

/* The arguments behind the first one. 0 or errno. */
static int add_arguments(struct pl_command *c, char *const *argv, adder *add, const wchar_t *forbidden)
{
        wchar_t *wide;
        size_t i;

        for (i = 1; argv[i] != NULL; i++) {
                wide = pl_wide(argv[i]);
                if (wide == NULL)
                        return errno;
                if (wcspbrk(wide, forbidden) != NULL) {
                        free(wide);
                        return EINVAL;
                }
                add(c, wide);
                free(wide);
        }
        return c->failed ? E2BIG : 0;
}

static bool has_ending(const wchar_t *path, const wchar_t *ending)
{
        size_t len = wcslen(path), ending_len = wcslen(ending);

        return len > ending_len && _wcsicmp(path + len - ending_len, ending) == 0;
}

int find_command_line(char *const *argv, struct launch *out)
{
        wchar_t *name = pl_wide(argv[0]), *program;
        struct pl_command c = {0};
        bool direct;
        int error;

        if (name == NULL)
                return errno;
        program = find(name);
        error = errno;
        if (program == NULL) {
                free(name);
                return error;
        }
        direct = has_ending(program, L".exe") || has_ending(program, L".com");
        if (direct)
                pl_command_argument(&c, name);
        else
                add_shell_argument(&c, program);
        free(name);
        error = add_arguments(&c, argv, direct ? pl_command_argument : add_shell_argument, direct ? L"" : L"\r\n");
        if (error == 0 && !direct) {
                free(program);
                return by_shell(L" /e:on /v:off /d /s /c", c.text, out);
        }
        if (error != 0) {
                free(program);
                free(c.text);
                return error;
        }
        *out = (struct launch){program, c.text};
        return 0;
}
