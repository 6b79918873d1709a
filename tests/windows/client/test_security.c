/* Who may open the daemon's pipe, read back from the pipe itself: Wine keeps a pipe's security, though it does not ask it who may come in. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "portalock.h"
#include "process.h"

#include <aclapi.h>
#include <sddl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define INSTANCES 12            /* more than the daemon keeps waiting (listener.c): the first of all, and some that were made when one was taken */
#define SID_BYTES 68            /* SECURITY_MAX_SID_SIZE */

struct fixture {
        char pipe[128];
        portalock_session *session;
        char *user;     /* its SID */
};

/* Our user's, and so the daemon's. LocalFree() it. */
static char *own_sid(void)
{
        union {
                TOKEN_USER user;
                unsigned char bytes[sizeof(TOKEN_USER) + SID_BYTES];
        } info;
        HANDLE token;
        char *text;
        DWORD len;

        assert_true(OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &token));
        assert_true(GetTokenInformation(token, TokenUser, &info, sizeof info, &len));
        CloseHandle(token);
        assert_true(ConvertSidToStringSidA(info.user.User.Sid, &text));
        return text;
}

static int set_up(void **state)
{
        struct fixture *f = calloc(1, sizeof *f);

        assert_non_null(f);
        snprintf(f->pipe, sizeof f->pipe, "\\\\.\\pipe\\portalock-security-%lu", GetCurrentProcessId());
        SetEnvironmentVariableA("PORTALOCK_SOCKET", f->pipe);
        _putenv_s("PORTALOCK_SOCKET", f->pipe);
        f->user = own_sid();
        assert_int_equal(portalock_connect("security", 0, &f->session), 0);     /* starts the daemon */
        *state = f;
        return 0;
}

static int tear_down(void **state)
{
        struct fixture *f = *state;
        char *json;

        if (portalock_call_wait(f->session, "stop", "{\"force\":true}", 10000, &json) == 0)
                free(json);
        portalock_disconnect(f->session);
        LocalFree(f->user);
        free(f);
        return 0;
}

static HANDLE open_pipe(const struct fixture *f)
{
        HANDLE h = CreateFileA(f->pipe, GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_EXISTING, SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION, NULL);

        while (h == INVALID_HANDLE_VALUE && GetLastError() == ERROR_PIPE_BUSY) {
                assert_true(WaitNamedPipeA(f->pipe, 20000));
                h = CreateFileA(f->pipe, GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_EXISTING, SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION, NULL);
        }
        assert_true(h != INVALID_HANDLE_VALUE);
        return h;
}

/* LocalFree() it. */
static char *text_of(PSECURITY_DESCRIPTOR sd, SECURITY_INFORMATION what)
{
        char *text;

        assert_true(ConvertSecurityDescriptorToStringSecurityDescriptorA(sd, SDDL_REVISION_1, what, &text, NULL));
        return text;
}

/* `sddl` as this system would write it: it has short words for some users. */
static void assert_text(PSECURITY_DESCRIPTOR actual, SECURITY_INFORMATION what, const char *sddl)
{
        PSECURITY_DESCRIPTOR sd;
        char *is, *should;

        assert_true(ConvertStringSecurityDescriptorToSecurityDescriptorA(sddl, SDDL_REVISION_1, &sd, NULL));
        is = text_of(actual, what);
        should = text_of(sd, what);
        assert_string_equal(is, should);
        LocalFree(is);
        LocalFree(should);
        LocalFree(sd);
}

/* Whole lists are compared, so nobody else is in them. */
static void assert_owner_only(const struct fixture *f, HANDLE object)
{
        SECURITY_DESCRIPTOR_CONTROL control;
        PSECURITY_DESCRIPTOR sd;
        char expected[256];
        DWORD revision;
        PACL dacl;

        assert_int_equal(GetSecurityInfo(object, SE_KERNEL_OBJECT, OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION, NULL, NULL, &dacl, NULL, &sd), ERROR_SUCCESS);
        assert_non_null(dacl);  /* NULL: everybody may do everything */
        assert_true(GetSecurityDescriptorControl(sd, &control, &revision));
        assert_true((control & SE_DACL_PROTECTED) != 0);
        snprintf(expected, sizeof expected, "D:P(D;;FA;;;NU)(A;;FA;;;SY)(A;;FA;;;%s)", f->user);
        assert_text(sd, DACL_SECURITY_INFORMATION, expected);
        snprintf(expected, sizeof expected, "O:%s", f->user);
        assert_text(sd, OWNER_SECURITY_INFORMATION, expected);
        LocalFree(sd);
}

static void every_instance_is_for_its_owner_and_the_system_alone(void **state)
{
        struct fixture *f = *state;
        HANDLE pipes[INSTANCES];
        int i;

        for (i = 0; i < INSTANCES; i++) {
                pipes[i] = open_pipe(f);
                assert_owner_only(f, pipes[i]);
        }
        for (i = 0; i < INSTANCES; i++)
                CloseHandle(pipes[i]);
}

/* Who could open the mutex could keep it when the daemon has ended, and no other would start. */
static void its_mutex_is_as_well(void **state)
{
        struct fixture *f = *state;
        char name[160];
        HANDLE mutex;

        snprintf(name, sizeof name, "Global\\portalock:%s", strrchr(f->pipe, '\\') + 1);
        mutex = OpenMutexA(READ_CONTROL, FALSE, name);
        assert_non_null(mutex);
        assert_owner_only(f, mutex);
        CloseHandle(mutex);
}

/* By its integrity level: high and above is what an administrator's programs have when they do not run as everybody's. */
static bool are_elevated(void)
{
        union {
                TOKEN_MANDATORY_LABEL label;
                unsigned char bytes[sizeof(TOKEN_MANDATORY_LABEL) + SID_BYTES];
        } info;
        HANDLE token;
        DWORD len;

        assert_true(OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &token));
        assert_true(GetTokenInformation(token, TokenIntegrityLevel, &info, sizeof info, &len));
        CloseHandle(token);
        return *GetSidSubAuthority(info.label.Label.Sid, 0) >= SECURITY_MANDATORY_HIGH_RID;
}

/* Its only system entry. NULL: it has none. */
static const SYSTEM_MANDATORY_LABEL_ACE *label_of(PACL sacl)
{
        LPVOID ace;

        if (sacl == NULL || sacl->AceCount == 0)
                return NULL;
        assert_int_equal(sacl->AceCount, 1);
        assert_true(GetAce(sacl, 0, &ace));
        assert_int_equal(((ACE_HEADER *)ace)->AceType, SYSTEM_MANDATORY_LABEL_ACE_TYPE);
        return ace;
}

/* The same user's other programs have the same SID: the label is what keeps them from having files opened for them. (Wine 8 has no words for it in texts.) */
static void an_elevated_daemon_is_for_elevated_programs(void **state)
{
        struct fixture *f = *state;
        const SYSTEM_MANDATORY_LABEL_ACE *label;
        HANDLE pipe = open_pipe(f);
        PSECURITY_DESCRIPTOR sd;
        PACL sacl;

        assert_int_equal(GetSecurityInfo(pipe, SE_KERNEL_OBJECT, LABEL_SECURITY_INFORMATION, NULL, NULL, NULL, &sacl, &sd), ERROR_SUCCESS);
        label = label_of(sacl);
        if (are_elevated()) {
                assert_non_null(label);
                assert_int_equal(label->Mask, SYSTEM_MANDATORY_LABEL_NO_READ_UP | SYSTEM_MANDATORY_LABEL_NO_WRITE_UP);
                assert_int_equal(*GetSidSubAuthority((PSID)&label->SidStart, 0), SECURITY_MANDATORY_HIGH_RID);
        } else {
                assert_null(label);
        }
        LocalFree(sd);
        CloseHandle(pipe);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_instance_is_for_its_owner_and_the_system_alone),
                cmocka_unit_test(its_mutex_is_as_well),
                cmocka_unit_test(an_elevated_daemon_is_for_elevated_programs),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
