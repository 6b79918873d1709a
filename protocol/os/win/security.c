#include "security.h"

#include <aclapi.h>
#include <sddl.h>
#include <stdio.h>
#include <string.h>

bool pl_user_of(HANDLE process, union pl_sid *out)
{
        union {
                TOKEN_USER user;
                unsigned char bytes[sizeof(TOKEN_USER) + PL_SID_BYTES];
        } token;
        DWORD len;
        HANDLE h;
        bool ok;

        if (!OpenProcessToken(process, TOKEN_QUERY, &h))
                return false;
        ok = GetTokenInformation(h, TokenUser, &token, sizeof token, &len) && CopySid(sizeof *out, &out->sid, token.user.User.Sid);
        CloseHandle(h);
        return ok;
}

bool pl_own_sid_text(char out[PL_SID_TEXT])
{
        union pl_sid sid;
        char *text;

        if (!pl_user_of(GetCurrentProcess(), &sid) || !ConvertSidToStringSidA(&sid.sid, &text))
                return false;
        snprintf(out, PL_SID_TEXT, "%s", text);
        LocalFree(text);
        return true;
}

/*
 * The level is what the system itself compares (see pl_owner_only()). Where an account has but one token (no UAC; a service), all its programs have the level that goes
 * with their rights, too.
 */
bool pl_is_elevated(void)
{
        union {
                TOKEN_MANDATORY_LABEL label;
                unsigned char bytes[sizeof(TOKEN_MANDATORY_LABEL) + PL_SID_BYTES];
        } token;
        DWORD len;
        HANDLE h;
        PSID level;
        bool ok;

        if (!OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &h))
                return false;
        ok = GetTokenInformation(h, TokenIntegrityLevel, &token, sizeof token, &len);
        CloseHandle(h);
        if (!ok)
                return false;
        level = token.label.Label.Sid;
        return *GetSidSubAuthority(level, (DWORD)*GetSidSubAuthorityCount(level) - 1) >= SECURITY_MANDATORY_HIGH_RID;
}

bool pl_is_trusted(const union pl_sid *sid)
{
        return IsWellKnownSid((PSID)&sid->sid, WinLocalSystemSid) || IsWellKnownSid((PSID)&sid->sid, WinBuiltinAdministratorsSid);
}

PSECURITY_DESCRIPTOR pl_owner_only(void)
{
        PSECURITY_DESCRIPTOR sd = NULL;
        char user[PL_SID_TEXT], text[2 * PL_SID_TEXT + 96];

        if (!pl_own_sid_text(user))
                return NULL;
        /* The list cannot tell an elevated program from others of its user; the label can, and no privilege is needed for a level that one has. */
        snprintf(text, sizeof text, "O:%sD:P(D;;FA;;;NU)(A;;FA;;;SY)(A;;FA;;;%s)%s", user, user, pl_is_elevated() ? "S:(ML;;NRNW;;;HI)" : "");
        if (!ConvertStringSecurityDescriptorToSecurityDescriptorA(text, SDDL_REVISION_1, &sd, NULL))
                return NULL;
        return sd;
}

/* ---- is it still so? ---- */

/* Entry for entry: order is meaning. NULL stands for "everybody", or for no label. */
static bool same_entries(PACL a, PACL b)
{
        void *one, *two;
        WORD i, count = a != NULL ? a->AceCount : 0;

        if (count != (b != NULL ? b->AceCount : 0))
                return false;
        for (i = 0; i < count; i++) {
                if (!GetAce(a, i, &one) || !GetAce(b, i, &two) || ((ACE_HEADER *)one)->AceSize != ((ACE_HEADER *)two)->AceSize ||
                    memcmp(one, two, ((ACE_HEADER *)one)->AceSize) != 0)
                        return false;
        }
        return true;
}

static bool same_owner(PSECURITY_DESCRIPTOR a, PSECURITY_DESCRIPTOR b)
{
        PSID one, two;
        BOOL by_default;

        return GetSecurityDescriptorOwner(a, &one, &by_default) && GetSecurityDescriptorOwner(b, &two, &by_default) && one != NULL && two != NULL && EqualSid(one, two);
}

/* Protected: what it lets in is all there is, now and later. */
static bool same_list(PSECURITY_DESCRIPTOR a, PSECURITY_DESCRIPTOR b)
{
        SECURITY_DESCRIPTOR_CONTROL one, two;
        BOOL by_default, has_one, has_two;
        PACL first, second;
        DWORD revision;

        return GetSecurityDescriptorControl(a, &one, &revision) && GetSecurityDescriptorControl(b, &two, &revision) && ((one ^ two) & SE_DACL_PROTECTED) == 0 &&
               GetSecurityDescriptorDacl(a, &has_one, &first, &by_default) && GetSecurityDescriptorDacl(b, &has_two, &second, &by_default) && has_one && has_two &&
               first != NULL && second != NULL && same_entries(first, second);
}

static bool same_label(PSECURITY_DESCRIPTOR a, PSECURITY_DESCRIPTOR b)
{
        BOOL by_default, has_one, has_two;
        PACL first = NULL, second = NULL;

        return GetSecurityDescriptorSacl(a, &has_one, &first, &by_default) && GetSecurityDescriptorSacl(b, &has_two, &second, &by_default) &&
               same_entries(has_one ? first : NULL, has_two ? second : NULL);
}

bool pl_is_owner_only(HANDLE object)
{
        SECURITY_INFORMATION what = OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION | LABEL_SECURITY_INFORMATION;
        PSECURITY_DESCRIPTOR is = NULL, should = pl_owner_only();
        bool same;

        same = should != NULL && GetSecurityInfo(object, SE_KERNEL_OBJECT, what, NULL, NULL, NULL, NULL, &is) == ERROR_SUCCESS && same_owner(is, should) &&
               same_list(is, should) && same_label(is, should);
        LocalFree(is);
        LocalFree(should);
        return same;
}
