# shellcheck shell=sh disable=SC2034
# Shared by quickstart and check: the Debian packages that portalock needs, and how to get those that are missing.
PACKAGES_BUILD="gcc libc6-dev cmake ninja-build pkg-config libuv1-dev libcjson-dev uthash-dev"
PACKAGES_TEST="clang libclang-rt-14-dev libcmocka-dev bats python3 util-linux procps binutils"
# scripts/windows-test: the cross-compiler, and Wine without a screen.
PACKAGES_WINDOWS="gcc-mingw-w64-x86-64-win32 wine64 dpkg-dev"
# scripts/musl-lockctl
PACKAGES_MUSL="gcc libc6-dev musl-tools cmake ninja-build pkg-config binutils dpkg-dev uthash-dev"
PACKAGES_BENCH="redis-server redis-tools libhiredis-dev postgresql-15 libpq-dev etcd-server python3 python3-portalocker python3-filelock util-linux musl-tools
        strace gnuplot-nox"

# install_packages NAME...: installs what dpkg does not know as installed; needs root (or sudo) only then.
install_packages() {
        missing=""
        for package in "$@"; do
                status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
                [ "$status" = installed ] || missing="$missing $package"
        done
        [ -n "$missing" ] || return 0
        echo "installing:$missing"
        as_root=""
        [ "$(id -u)" = 0 ] || as_root=sudo
        $as_root apt-get update -qq
        # shellcheck disable=SC2086 # a list of words
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}
