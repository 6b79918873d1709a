/*
 * One line to stderr per event: level=... event=... key=value, with the words that `lockctl list` uses.
 *
 * Whoever reads the log must not be able to stop the daemon: what a pipe, socket or terminal does not take at once is dropped, and said to be dropped as
 * soon as there is room again.
 */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

/* "error", "warning", "info" or "debug"; false when it is none of these. */
bool log_level_parse(const char *text, enum log_level *out);
void log_set_level(enum log_level level);
/* Never wait for the reader of stderr from now on. Others who have stderr open see no change. */
void log_start(void);

/* Compilers that can compare a format with its arguments do so. MinGW's "printf" is the old one of Windows, which it does not use here. */
#if defined __MINGW32__
#define LOG_PRINTF(format_at, arguments_at) __attribute__((format(gnu_printf, format_at, arguments_at)))
#elif defined __GNUC__
#define LOG_PRINTF(format_at, arguments_at) __attribute__((format(printf, format_at, arguments_at)))
#else
#define LOG_PRINTF(format_at, arguments_at)
#endif

extern enum log_level log_threshold;    /* for log_event() alone */
LOG_PRINTF(3, 4) void log_write(enum log_level level, const char *event, const char *format, ...);

/* (level, event, format, ...): `format` makes the key=value part; values that may hold spaces are quoted by log_quote(). What is not logged is not evaluated. */
#define log_event(level, ...)                                                                                                                                                  \
        do {                                                                                                                                                                   \
                if ((level) <= log_threshold)                                                                                                                                  \
                        log_write(level, __VA_ARGS__);                                                                                                                         \
        } while (0)

/* `text` in double quotes, control characters and quotes escaped, cut at a bound. One of a few static buffers: use it within one log call. */
const char *log_quote(const char *text);

#endif
