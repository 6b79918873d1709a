# Toolchain: from Debian to 64-bit Windows with MinGW-w64. What the build needs beside the compiler comes from scripts/windows-deps, whose folder is
# PORTALOCK_WINDOWS_DEPS (a CMake variable or in the environment); programs of the build itself, such as tests, run under Wine.
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(CMAKE_C_COMPILER x86_64-w64-mingw32-gcc)
set(CMAKE_RC_COMPILER x86_64-w64-mingw32-windres)
set(CMAKE_OBJCOPY x86_64-w64-mingw32-objcopy)

set(PORTALOCK_WINDOWS_DEPS "$ENV{PORTALOCK_WINDOWS_DEPS}" CACHE PATH "What scripts/windows-deps printed")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES PORTALOCK_WINDOWS_DEPS)
set(CMAKE_FIND_ROOT_PATH /usr/x86_64-w64-mingw32 ${PORTALOCK_WINDOWS_DEPS})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(ENV{PKG_CONFIG_LIBDIR} "${PORTALOCK_WINDOWS_DEPS}/lib/pkgconfig")
set(CMAKE_C_STANDARD_INCLUDE_DIRECTORIES "${PORTALOCK_WINDOWS_DEPS}/include")   # uthash.h, sys/queue.h

# Windows 8 and later; printf as C11 has it (CMakeLists.txt says so too, this is for what scripts/windows-deps builds). Nothing to ship but the programs.
set(CMAKE_C_FLAGS_INIT "-D_WIN32_WINNT=0x0602 -D__USE_MINGW_ANSI_STDIO=1")
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)
set(CMAKE_SHARED_LINKER_FLAGS_INIT -static)

set(CMAKE_CROSSCOMPILING_EMULATOR /usr/lib/wine/wine64)
