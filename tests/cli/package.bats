#!/usr/bin/env bats
# What `cmake --install` leaves behind, used from outside of our tree.
# shellcheck disable=SC2154 # output is set by run
load helper

PREFIX=$BATS_FILE_TMPDIR/prefix
HERE=$BATS_TEST_DIRNAME

install_once() {
        : "${BUILD_DIR:?names the build to install}"
        [ -d "$PREFIX" ] || cmake --install "$BUILD_DIR" --prefix "$PREFIX" >install.log
        LIBDIR=$(dirname "$(find "$PREFIX" -name libportalock.a)")
        export PKG_CONFIG_PATH=$LIBDIR/pkgconfig
        unset PORTALOCKD # the installed one is to be found
}

unless_sanitized() {
        run ! grep -q '^PORTALOCK_SANITIZE:[A-Z]*=.' "$BUILD_DIR/CMakeCache.txt" || skip "an outsider would have to be built with the same sanitizers"
}

# works COMMAND...: the outsider's program locks, excludes and is excluded.
works() {
        local PATH=$PREFIX/bin:$PATH # where the library finds the daemon
        run -0 "$@" f
        [[ $output =~ ^"locked, token "[0-9]{10,}", daemon "[0-9.]+$ ]]
        hold a "$LOCKCTL" run f
        run -1 "$@" f
        one_line
        has "f: "
        release a
        finish a 0
        unset 'PIDS[a]' 'GO[a]'
        rm a.ready a.go
}

@test "package: another project finds it with find_package, shared and static" {
        install_once
        unless_sanitized
        cmake -G Ninja -S "$HERE/../package" -B build -DCMAKE_PREFIX_PATH="$PREFIX" -DCMAKE_C_FLAGS="-Wall -Wextra -Werror" >cmake.log
        cmake --build build >>cmake.log
        run -0 ldd build/outside_shared
        has "libportalock.so.0 => $LIBDIR/"
        run -0 ldd build/outside_static
        [[ $output != *libportalock* ]]
        works build/outside_shared
        works build/outside_static
}

@test "package: find_package refuses a version that we are not" {
        install_once
        unless_sanitized
        local version
        for version in 0.2 1.0; do
                mkdir "$version"
                sed "s/portalock 0.1/portalock $version/" "$HERE/../package/CMakeLists.txt" >"$version/CMakeLists.txt"
                run ! cmake -G Ninja -S "$version" -B "$version/build" -DCMAKE_PREFIX_PATH="$PREFIX"
                has "portalock"
        done
}

@test "package: another project finds it with pkg-config, shared and static" {
        install_once
        unless_sanitized
        # shellcheck disable=SC2046 # words
        "${CC:-cc}" -Wall -Werror -o shared "$HERE/../package/main.c" $(pkg-config --cflags --libs portalock)
        run -0 env LD_LIBRARY_PATH="$LIBDIR" ldd shared
        has "libportalock.so.0 => $LIBDIR/"
        works env LD_LIBRARY_PATH="$LIBDIR" ./shared
        [ "$(pkg-config --modversion portalock)" = "$("$PREFIX/bin/lockctl" --version | cut -d ' ' -f 2)" ]
        # static: ours; cJSON comes as Requires.private has it
        local libs
        libs=$(pkg-config --static --libs portalock)
        [[ $libs == *-lcjson* ]]
        [[ "$(pkg-config --libs portalock)" != *cjson* ]]
        # shellcheck disable=SC2046,SC2086 # words
        "${CC:-cc}" -Wall -Werror -o static "$HERE/../package/main.c" $(pkg-config --cflags portalock) ${libs/-lportalock/-l:libportalock.a}
        run -0 ldd static
        [[ $output != *libportalock* ]]
        works ./static
}

# The functions that the header promises.
promised() {
        sed -nE 's/^PORTALOCK_API [^(]*\<(portalock_[a-z_0-9]+)\(.*/\1/p' "$PREFIX/include/portalock.h" | sort
}

@test "package: the shared library exports what the header promises, nothing else, with a version" {
        install_once
        [ "$(promised | wc -l)" -ge 30 ]
        [ "$(promised | wc -l)" -eq "$(grep -c '^PORTALOCK_API ' "$PREFIX/include/portalock.h")" ]
        nm -D --defined-only "$LIBDIR/libportalock.so" >symbols
        awk '$2 != "A" { print $3 }' symbols | sed 's/@@PORTALOCK_0\.1$//' | sort >exported
        diff <(promised) exported
        run ! grep -v '@@PORTALOCK_0\.1$' <(awk '$2 != "A"' symbols)
        run -0 readelf -d "$LIBDIR/libportalock.so"
        has "soname: [libportalock.so.0]"
}

@test "package: the static library defines the same, and no other global symbol" {
        install_once
        unless_sanitized
        nm --defined-only --extern-only "$LIBDIR/libportalock.a" | awk 'NF == 3 { print $3 }' | sort >defined
        diff <(promised) defined
}

@test "package: the header stands alone, in C11 and C++" {
        install_once
        echo '#include <portalock.h>' >alone.c
        "${CC:-cc}" -std=c11 -pedantic -Wall -Wextra -Werror -I"$PREFIX/include" -c alone.c
        type -P c++ >/dev/null || skip "the rest needs a C++ compiler"
        c++ -x c++ -std=c++11 -pedantic -Wall -Wextra -Werror -I"$PREFIX/include" -c alone.c
}

@test "package: the installed lockctl finds the installed portalockd" {
        install_once
        run -0 "$PREFIX/bin/lockctl" run f echo in
        [ "$output" = in ]
        [ "$(readlink "/proc/$(daemon_pid)/exe")" = "$(readlink -f "$PREFIX/bin/portalockd")" ]
        ln -s "$PREFIX/bin/lockctl" flock
        "$PREFIX/bin/lockctl" stop
        run -0 ./flock --verbose f true
        [ -n "$(daemon_pid)" ]
}
