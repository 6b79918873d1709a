/* What JSON may be, for json.c alone. */
#ifndef PL_JSON_SCAN_H
#define PL_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Is it one JSON text that cJSON reads as it is meant? 0, -EBADMSG, or -E2BIG: more than PL_DEPTH_MAX levels. */
int pl_json_scan(const char *s, size_t len);

/* Length of the UTF-8 sequence at s, 0 when it is none (no overlong forms, no surrogates, at most U+10FFFF). */
size_t pl_utf8_length(const unsigned char *s, size_t len);

/* How many bytes from s on are ASCII that stands for itself in a JSON string. */
size_t pl_plain_length(const char *s, size_t len);

/* False when it has a fraction or lies beyond +-PL_INTEGER_MAX. */
bool pl_double_to_integer(double value, int64_t *out);

/* isfinite() is a macro that not all compilers take without a warning. */
bool pl_is_finite(double value);

#endif
