/* Whose processes, pipes and tokens these are. */
#ifndef PL_WIN_SECURITY_H
#define PL_WIN_SECURITY_H

#include <stdbool.h>
#include <windows.h>

#define PL_SID_BYTES 68         /* SECURITY_MAX_SID_SIZE */
#define PL_SID_TEXT 192         /* "S-1-...", as long as it may be */

union pl_sid {
        SID sid;
        unsigned char bytes[PL_SID_BYTES];
};

/* The user that `process` runs as. False with GetLastError(). */
bool pl_user_of(HANDLE process, union pl_sid *out);
/* As text, of our own process. */
bool pl_own_sid_text(char out[PL_SID_TEXT]);
/* Do we run with an administrator's full rights, or SYSTEM's? */
bool pl_is_elevated(void);
/* SYSTEM, or the group of administrators. */
bool pl_is_trusted(const union pl_sid *sid);

/*
 * Owner and SYSTEM may do everything, nobody else anything, and nothing comes over the network; if we are elevated, only elevated programs may.
 * LocalFree() it; NULL with GetLastError().
 */
PSECURITY_DESCRIPTOR pl_owner_only(void);
/* Has this pipe or mutex exactly that security? Owner, list and label, as the system has them now. */
bool pl_is_owner_only(HANDLE object);

#endif
