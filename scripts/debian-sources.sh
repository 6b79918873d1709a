# shellcheck shell=sh disable=SC2154,SC2016
# Shared by windows-deps and musl-lockctl, which have made a folder "$work": Debian's source packages, from where the system itself gets its packages.
# The system's package lists stay as they are: sources are listed in that folder.
. /etc/os-release

mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
# Where the system itself gets its packages from; deb-src is asked of the same place.
mirror=${PORTALOCK_DEBIAN_MIRROR:-$(apt-get indextargets --format '$(CODENAME) $(SITE)' 'Created-By: Packages' | sed -n "s/^$VERSION_CODENAME //p" | sort -u | head -n 1)}
cat >"$work/sources.list" <<EOF
deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $VERSION_CODENAME main
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $VERSION_CODENAME main
EOF
apt() {
        tool=$1
        shift
        "$tool" -qq -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists="$work/lists" \
                -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root -o Acquire::Languages=none "$@"
}
# source_version PACKAGE: the newest, after apt apt-get update.
source_version() {
        apt apt-cache showsrc --only-source "$1" | sed -n 's/^Version: //p' | sort -V | tail -n 1
}
