#include "security.h"

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
        char user[PL_SID_TEXT], text[PL_SID_TEXT + 96];

        if (!pl_own_sid_text(user))
                return NULL;
        /* The list cannot tell an elevated program from others of its user; the label can, and no privilege is needed for a level that one has. */
        snprintf(text, sizeof text, "D:P(D;;FA;;;NU)(A;;FA;;;SY)(A;;FA;;;%s)%s", user, pl_is_elevated() ? "S:(ML;;NRNW;;;HI)" : "");
        if (!ConvertStringSecurityDescriptorToSecurityDescriptorA(text, SDDL_REVISION_1, &sd, NULL))
                return NULL;
        return sd;
}
