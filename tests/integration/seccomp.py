"""A system call filter for a child, as containers have them: what is forbidden says EPERM. Linux on x86-64 and arm64."""

import ctypes
import platform
import struct

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO_EPERM = 0x7FFF0000, 0x00050001
NUMBER, SECOND_ARGUMENT = 0, 24  # offsets in struct seccomp_data
KCMP = {"x86_64": 312, "aarch64": 272}.get(platform.machine())
OPENAT2 = 437  # everywhere
FCNTL = {"x86_64": 72, "aarch64": 25}.get(platform.machine())

libc = ctypes.CDLL(None, use_errno=True)


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]


def forbid(*calls):
    """For this process and all it starts. Each call is (number, second argument or None). Raises OSError where there is no seccomp."""
    code = b""
    for number, argument in calls:
        code += struct.pack("=HBBI", LOAD, 0, 0, NUMBER)
        code += struct.pack("=HBBI", JUMP_IF_EQUAL, 0, 1 if argument is None else 3, number)
        if argument is not None:
            code += struct.pack("=HBBI", LOAD, 0, 0, SECOND_ARGUMENT)
            code += struct.pack("=HBBI", JUMP_IF_EQUAL, 0, 1, argument)
        code += struct.pack("=HBBI", RETURN, 0, 0, ERRNO_EPERM)
    code += struct.pack("=HBBI", RETURN, 0, 0, ALLOW)
    program = Program(len(code) // 8, code)
    zero = ctypes.c_ulong(0)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    if libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.byref(program), zero, zero) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")
