/* What JSON may be, for json.c alone. */
#ifndef PL_JSON_SCAN_H
#define PL_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Is it one JSON text that cJSON reads as it is meant? 0, -EBADMSG, or -E2BIG: more than PL_DEPTH_MAX levels. */
int pl_json_scan(const char *s, size_t len);

/* Length of the UTF-8 sequence at s, 0 when it is none (no overlong forms, no surrogates, at most U+10FFFF). */
size_t pl_utf8_length(const unsigned char *s, size_t len);

static inline bool pl_is_plain(unsigned char c)
{
        return c >= 0x20 && c <= 0x7f && c != '"' && c != '\\';
}

/* Are all eight bytes of it? In each lane the highest bit tells. */
static inline bool pl_all_plain(uint64_t v)
{
        const uint64_t ones = UINT64_C(0x0101010101010101), high = 0x80 * ones, low = 0x7f * ones;
        uint64_t text = v + 0x60 * ones;                        /* high for 0x20 and above; what is above 0x7f is found by `v` itself */
        uint64_t quote = ((v ^ '"' * ones) & low) + low;        /* high but for a quote; likewise */
        uint64_t backslash = ((v ^ '\\' * ones) & low) + low;

        return (((v | ~text | ~quote | ~backslash) & high)) == 0;
}

/* How many bytes from s on are ASCII that stands for itself in a JSON string. */
static inline size_t pl_plain_length(const char *s, size_t len)
{
        size_t i = 0;
        uint64_t v;

        for (; len - i >= sizeof v; i += sizeof v) {
                memcpy(&v, s + i, sizeof v);
                if (!pl_all_plain(v))
                        break;
        }
        while (i < len && pl_is_plain((unsigned char)s[i]))
                i++;
        return i;
}

/* False when it has a fraction or lies beyond +-PL_INTEGER_MAX. */
bool pl_double_to_integer(double value, int64_t *out);

/* isfinite() is a macro that not all compilers take without a warning. */
bool pl_is_finite(double value);

#endif
