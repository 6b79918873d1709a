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

bool pl_is_elevated(void)
{
        TOKEN_ELEVATION_TYPE type = TokenElevationTypeDefault;
        DWORD len;
        HANDLE h;
        bool ok;

        if (!OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &h))
                return false;
        /* Default: the account has but one token (no UAC), and all its programs the same rights: one daemon for them. */
        ok = GetTokenInformation(h, TokenElevationType, &type, sizeof type, &len);
        CloseHandle(h);
        return ok && type == TokenElevationTypeFull;
}

bool pl_is_trusted(const union pl_sid *sid)
{
        return IsWellKnownSid((PSID)&sid->sid, WinLocalSystemSid) || IsWellKnownSid((PSID)&sid->sid, WinBuiltinAdministratorsSid);
}

PSECURITY_DESCRIPTOR pl_owner_only(void)
{
        PSECURITY_DESCRIPTOR sd = NULL;
        char user[PL_SID_TEXT], text[PL_SID_TEXT + 64];

        if (!pl_own_sid_text(user))
                return NULL;
        snprintf(text, sizeof text, "D:P(D;;FA;;;NU)(A;;FA;;;SY)(A;;FA;;;%s)", user);
        if (!ConvertStringSecurityDescriptorToSecurityDescriptorA(text, SDDL_REVISION_1, &sd, NULL))
                return NULL;
        return sd;
}
