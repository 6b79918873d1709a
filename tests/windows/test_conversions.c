/* Conversions of a lock when LockFileEx refuses what it never should: told by a LockFileEx of the test's own. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "descriptions.h"
#include "oslock.h"

#include <errno.h>
#include <stdbool.h>
#include <windows.h>

typedef BOOL WINAPI lock_function(HANDLE file, DWORD flags, DWORD reserved, DWORD low, DWORD high, LPOVERLAPPED at);

extern lock_function *__real___imp_LockFileEx;
extern lock_function *__wrap___imp_LockFileEx;

static int refused;     /* so many calls to come */

static BOOL WINAPI lock_or_refuse(HANDLE file, DWORD flags, DWORD reserved, DWORD low, DWORD high, LPOVERLAPPED at)
{
        if (refused == 0)
                return __real___imp_LockFileEx(file, flags, reserved, low, high, at);
        refused--;
        SetLastError(ERROR_NOT_ENOUGH_MEMORY);
        return FALSE;
}

lock_function *__wrap___imp_LockFileEx = lock_or_refuse;

static int ours, outsider;

static int set_up(void **state)
{
        (void)state;
        refused = 0;
        descriptions_begin();
        ours = description_open();
        outsider = description_open();
        return 0;
}

static int tear_down(void **state)
{
        (void)state;
        refused = 0;
        description_close(ours);
        description_close(outsider);
        descriptions_end();
        return 0;
}

static void a_downgrade_that_the_system_refuses_lets_nobody_in(void **state)
{
        int error = 0;

        (void)state;
        assert_int_equal(oslock_try(ours, OSLOCK_EX, &error), OSLOCK_TAKEN);
        refused = 1;
        oslock_downgrade(ours);
        assert_int_equal(refused, 0);
        assert_int_equal(oslock_bears(ours), OSLOCK_SH);
        assert_int_equal(oslock_try(outsider, OSLOCK_EX, &error), OSLOCK_BUSY);
        assert_int_equal(oslock_upgrade(ours, &error), OSLOCK_TAKEN);
        oslock_unlock(ours);
        assert_int_equal(oslock_try(outsider, OSLOCK_EX, &error), OSLOCK_TAKEN);
}

static void an_upgrade_that_the_system_refuses_twice_is_lost(void **state)
{
        int error = 0;

        (void)state;
        assert_int_equal(oslock_try(ours, OSLOCK_SH, &error), OSLOCK_TAKEN);
        refused = 1;
        assert_int_equal(oslock_upgrade(ours, &error), OSLOCK_FAILED);
        assert_int_equal(error, ENOMEM);
        assert_int_equal(oslock_bears(ours), OSLOCK_SH);
        assert_int_equal(oslock_try(outsider, OSLOCK_EX, &error), OSLOCK_BUSY);
        refused = 2;
        assert_int_equal(oslock_upgrade(ours, &error), OSLOCK_LOST);
        assert_int_equal(oslock_bears(ours), OSLOCK_NONE);
        assert_int_equal(oslock_try(outsider, OSLOCK_EX, &error), OSLOCK_TAKEN);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_downgrade_that_the_system_refuses_lets_nobody_in, set_up, tear_down),
                cmocka_unit_test_setup_teardown(an_upgrade_that_the_system_refuses_twice_is_lost, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
