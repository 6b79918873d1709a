/* lockctl: a table of subcommands (main.c), a file each (cmd_*.c), and what they share. It knows the library by portalock.h only. */
#ifndef LOCKCTL_H
#define LOCKCTL_H

#include "portalock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Exit codes beside those of the command that ran: sysexits.h, as flock(1) uses them. */
enum {
        EXIT_CONFLICT = 1,      /* somebody else has the lock, or the time ran out; also: the daemon said no */
        EXIT_BAD_USAGE = 64,
        EXIT_BAD_LOCK = 65,     /* the lock failed for another reason than a holder */
        EXIT_NO_FILE = 66,      /* the lock file cannot be opened */
        EXIT_NO_DAEMON = 69,
        EXIT_UNAVAILABLE = 69,  /* the command cannot be executed */
        EXIT_SYSTEM = 71,       /* out of memory, processes, descriptors */
        EXIT_CANNOT_CREATE = 73,
        EXIT_NO_OUTPUT = 74,    /* what was to be printed did not arrive */
        EXIT_LOST = 75,         /* the lock was broken while the command ran */
        EXIT_PEER = 76,         /* the daemon broke off or does not speak our protocol */
        EXIT_NOT_PERMITTED = 77,
        EXIT_DEADLOCK = 79      /* waiting would never end */
};

#define ANSWER_MS 10000 /* the longest that a question to the daemon may take */

struct command {
        const char *name;
        const char *arguments;  /* for the usage line */
        const char *summary;    /* one line for `help` */
        const char *details;    /* the options, for `help NAME` */
        int (*run)(int argc, char **argv); /* argv[0] is the subcommand's name; returns the exit code */
};
extern const struct command commands[];
const struct command *find_command(const char *name);

int cmd_run(int argc, char **argv);
/* flock(1): we were called by that name. */
int flock_main(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_watch(int argc, char **argv);
int cmd_break(int argc, char **argv);
int cmd_ping(int argc, char **argv);
int cmd_stats(int argc, char **argv);
int cmd_stop(int argc, char **argv);
int cmd_sockname(int argc, char **argv);
int cmd_help(int argc, char **argv);

/* ---- output.c ---- */
/* The name that messages begin with: "lockctl" unless said otherwise. */
void be_called(const char *name);
/* How many bytes of `text` fit into so many columns, characters kept whole (each taken for one column). */
int fit_columns(const char *text, int columns);
/* How many columns it takes. */
int text_columns(const char *text);
/* The columns of `list`, one line each. */
void list_columns(FILE *out);
/* The exit code for a failed system call on the lock file. */
int code_of_errno(int error, const char *syscall);
/* A copy, to be freed, in which nothing can play tricks with a terminal or break a row: control characters become \xNN. NULL: out of memory. */
char *printable(const char *text);
/* "lockctl: ..." and a newline to stderr: one line whatever the words hold, in one write. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A sentence to stderr and EXIT_BAD_USAGE. */
int bad_usage(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for what getopt_long() refused with `refusal` ('?' or ':'), having been given `shorts` and opterr = 0. */
int bad_option(const char *command, int refusal, char **argv, const char *shorts);
/* What was printed to stdout, now; finish_output() tells if that failed. */
void flush_output(void);
/* The exit code to end with: `code`, unless what was printed to stdout did not get there. */
int finish_output(int code);
/* "make[1234] (alice)": who it is, in as many words as are known. */
void describe_process(char *out, size_t size, const char *command, const char *client, int64_t pid, int64_t uid);
/* 3m12s, 2d4h, 80ms; "-" for less than 0 */
void describe_age(char *out, size_t size, int64_t ms);
/* What went wrong with `path` (NULL: nothing of a file), with its holders and what to do; returns the exit code for it. May ask the daemon who holds it. */
int report_failure(portalock_session *s, const char *path);

/* ---- session of a subcommand ---- */
/* portalock_watch() for each path, for everything without any. */
int watch_files(portalock_session *s, const char *const *paths, int count);
/* For those who watch: the daemon has gone, or is there again. */
void report_connection(bool connected);
/* No arguments and options but those in `flags` ("force", NULL-ended): -1 to go on, else an exit code. found[i] is set for flags[i]. */
int take_flags(int argc, char **argv, const char *const *flags, bool *found);
/* Connect to a running daemon. NULL after a complaint, with *code; quiet: nothing is said and NULL means that none runs. */
portalock_session *open_session(bool quiet, int *code);

#endif
