/*
 * A pipe's name that exists when the daemon starts: ours, kept alive by a client of a dead daemon, or a stranger's. Wine ignores FILE_FLAG_FIRST_PIPE_INSTANCE,
 * and keeps the security by name as Windows does: so what is tried here is the second half of the way, of which Windows goes the first as well.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "address.h"
#include "pipe.h"
#include "security.h"

#include <errno.h>
#include <sddl.h>
#include <stdio.h>
#include <stdlib.h>

#define OUR_LIST "D:P(D;;FA;;;NU)(A;;FA;;;SY)(A;;FA;;;%s)"
#define OUR_LABEL (pl_is_elevated() ? "S:(ML;;NRNW;;;HI)" : "")

struct fixture {
        struct pl_address address;
        wchar_t name[128];
        char user[PL_SID_TEXT];
};

static int set_up(void **state)
{
        static int count;
        struct fixture *f = calloc(1, sizeof *f);
        char name[64];

        assert_non_null(f);
        snprintf(name, sizeof name, "portalock-test-pipe-%lu-%d", GetCurrentProcessId(), ++count);
        assert_int_equal(pl_address_find(&f->address, name), 0);
        swprintf(f->name, sizeof f->name / sizeof f->name[0], L"\\\\.\\pipe\\%hs", name);
        assert_true(pl_own_sid_text(f->user));
        *state = f;
        return 0;
}

static int tear_down(void **state)
{
        free(*state);
        return 0;
}

/* Somebody else's instance: all as ours, but for these parts of its security. %s stands for our user. */
static HANDLE strange_instance(const struct fixture *f, const char *owner, const char *list, const char *label)
{
        SECURITY_ATTRIBUTES sa = {.nLength = sizeof sa};
        char part[PL_SID_TEXT + 96], text[2 * PL_SID_TEXT + 160];
        HANDLE h;

        snprintf(part, sizeof part, list, f->user);
        snprintf(text, sizeof text, "O:%s%s%s", owner != NULL ? owner : f->user, part, label != NULL ? label : OUR_LABEL);
        assert_true(ConvertStringSecurityDescriptorToSecurityDescriptorA(text, SDDL_REVISION_1, &sa.lpSecurityDescriptor, NULL));
        h = CreateNamedPipeW(f->name, PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED, PIPE_TYPE_BYTE | PIPE_READMODE_BYTE | PIPE_REJECT_REMOTE_CLIENTS, PIPE_UNLIMITED_INSTANCES,
                             PL_PIPE_BUFFER, PL_PIPE_BUFFER, 0, &sa);
        LocalFree(sa.lpSecurityDescriptor);
        assert_true(h != INVALID_HANDLE_VALUE);
        return h;
}

static void assert_refused(const struct fixture *f, HANDLE stranger)
{
        HANDLE again;

        assert_false(pl_is_owner_only(stranger));
        assert_int_equal(pl_address_bind(&f->address, false), -EADDRINUSE);
        /* The security is the name's: a further instance has it, too, and not what it was made with. */
        again = pl_pipe_instance(f->name, false);
        assert_true(again != INVALID_HANDLE_VALUE);
        assert_false(pl_is_owner_only(again));
        CloseHandle(again);
        CloseHandle(stranger);
}

static void a_name_that_nobody_has_becomes_ours(void **state)
{
        struct fixture *f = *state;
        int fd = pl_address_bind(&f->address, false);

        assert_true(fd >= 0);
        assert_true(pl_is_owner_only(pl_int_handle(fd)));
        pl_address_close(fd);
}

static void a_name_that_a_daemon_of_ours_has_left_is_taken_over(void **state)
{
        struct fixture *f = *state;
        HANDLE old = pl_pipe_instance(f->name, true), client;
        int fd;

        assert_true(old != INVALID_HANDLE_VALUE);
        client = CreateFileW(f->name, GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_EXISTING, 0, NULL);
        assert_true(client != INVALID_HANDLE_VALUE);
        /* A later instance while the name is alive: what FIRST_PIPE_INSTANCE would refuse. */
        fd = pl_address_bind(&f->address, false);
        assert_true(fd >= 0);
        assert_true(pl_is_owner_only(pl_int_handle(fd)));
        pl_address_close(fd);
        /* With its server dead, and the client holding on. */
        CloseHandle(old);
        fd = pl_address_bind(&f->address, false);
        assert_true(fd >= 0);
        assert_true(pl_is_owner_only(pl_int_handle(fd)));
        pl_address_close(fd);
        CloseHandle(client);
}

/* So that each of the others is refused for what it says, and not for how it is made here. */
static void a_name_with_just_our_security_is_ours(void **state)
{
        struct fixture *f = *state;
        HANDLE ours = strange_instance(f, NULL, OUR_LIST, NULL);
        int fd = pl_address_bind(&f->address, false);

        assert_true(fd >= 0);
        pl_address_close(fd);
        CloseHandle(ours);
}

static void a_name_that_everybody_may_use_is_a_strangers(void **state)
{
        assert_refused(*state, strange_instance(*state, NULL, "D:P(A;;FA;;;WD)", NULL));
}

static void a_name_that_one_more_may_use_is_as_well(void **state)
{
        assert_refused(*state, strange_instance(*state, NULL, OUR_LIST "(A;;FR;;;BU)", NULL));
}

static void a_name_without_any_list_is_as_well(void **state)
{
        assert_refused(*state, strange_instance(*state, NULL, "", NULL));
}

static void a_list_that_may_inherit_more_is_not_ours(void **state)
{
        assert_refused(*state, strange_instance(*state, NULL, "D:(D;;FA;;;NU)(A;;FA;;;SY)(A;;FA;;;%s)", NULL));
}

/* Who owns a name may change its list whenever he wants. */
static void a_name_that_another_owns_is_not_ours(void **state)
{
        assert_refused(*state, strange_instance(*state, "BU", OUR_LIST, NULL));
}

/* Made by a program of this user with fewer rights, or more, than we have. */
static void a_name_of_another_level_is_not_ours(void **state)
{
        assert_refused(*state, strange_instance(*state, NULL, OUR_LIST, "S:(ML;;NW;;;LW)"));
}

static void a_name_without_or_with_an_elevated_programs_label_is_not_ours(void **state)
{
        assert_refused(*state, strange_instance(*state, NULL, OUR_LIST, pl_is_elevated() ? "" : "S:(ML;;NRNW;;;HI)"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_name_that_nobody_has_becomes_ours, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_name_that_a_daemon_of_ours_has_left_is_taken_over, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_name_with_just_our_security_is_ours, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_name_that_everybody_may_use_is_a_strangers, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_name_that_one_more_may_use_is_as_well, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_name_without_any_list_is_as_well, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_list_that_may_inherit_more_is_not_ours, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_name_that_another_owns_is_not_ours, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_name_of_another_level_is_not_ours, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_name_without_or_with_an_elevated_programs_label_is_not_ours, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
