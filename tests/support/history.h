/* What the tests of the table's histories (unit/test_table*.c) begin with: traces in cmocka, and short words. */
#ifndef HISTORY_H
#define HISTORY_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "trace.h"

#define SH TABLE_SH
#define EX TABLE_EX
#define FOREVER (-1)
#define AT_ONCE 0

#define HISTORY(test) cmocka_unit_test_setup_teardown(test, trace_set_up, trace_tear_down)

#endif
