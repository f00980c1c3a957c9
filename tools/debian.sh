#!/usr/bin/env bash
# Runs a make target under Debian testing's Pythons (3.14, and 3.15 where the suite has it).
#
# Owns build/debian: the root that debootstrap makes once and every later run reuses. Its invariant: whatever it
# mounts lives in a mount namespace of its own and whatever it starts in a process namespace of its own, so both are
# gone when it ends, however it ends. No host is named here: the mirror is the one that this machine's apt uses, and
# pip finds inside the root the indexes, proxies and certificates that it finds outside.
# Called by `make test-debian [TARGET=test]`. DEBIAN_MIRROR and DEBIAN_SUITE overrule the choice of mirror and suite.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
ROOT=$HERE/build/debian/root
SUITE=${DEBIAN_SUITE:-forky}
PACKAGES=(python3.14 python3.14-dev python3.14-venv libpython3.14-testsuite gcc libc6-dev make)
WHERE_THERE=(python3.15 python3.15-dev python3.15-venv libpython3.15-testsuite)
TARGET=${1:-test}

say() { printf 'test-debian: %s\n' "$*"; }
refuse() {
    say "not run: $*" >&2
    exit 1
}

# The mirror of this machine's own apt: what its lists were read from, else the first Debian source in its files.
mirror() {
    if [ -n "${DEBIAN_MIRROR:-}" ]; then
        echo "$DEBIAN_MIRROR"
        return
    fi
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' 2>/dev/null | head -n 1 | grep . && return
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null |
        grep -E '^(deb |URIs:)' | grep -oE '[a-z+]+:/[^ ]*/debian/?( |$)' | head -n 1 | grep .
}

check() {
    [ "$(uname -s)" = Linux ] || refuse "it needs Linux"
    [ "$(id -u)" = 0 ] || refuse "debootstrap and chroot need root (try: sudo make test-debian)"
    if ! command -v debootstrap >/dev/null; then
        command -v apt-get >/dev/null || refuse "there is neither debootstrap nor apt-get to install it with"
        say "installing debootstrap"
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq debootstrap; } >/dev/null ||
            refuse "debootstrap could not be installed"
    fi
    unshare --mount --pid --fork --kill-child true 2>/dev/null ||
        refuse "this machine does not let root make mount and process namespaces (a container without CAP_SYS_ADMIN?)"
}

# Every file or directory that pip, apt and TLS settings of this machine name, one per line.
settings() {
    local files=(/etc/pip.conf "$HOME/.config/pip/pip.conf" "$HOME/.pip/pip.conf") file path
    for file in "${files[@]}"; do
        [ -f "$file" ] && echo "$file"
    done
    { cat "${files[@]}" 2>/dev/null || true; env | grep -E '^(PIP_|SSL_|REQUESTS_|CURL_)' || true; } |
        { grep -oE '(^|[ =]|file://)/[^][ "'\'',:;]+' || true; } | sed -E 's#^(file://|[ =])##' | sort -u |
        while read -r path; do
            # An index in a directory refers to its files as ../../files/...: its parent is needed as well.
            if [ "$(basename "$path")" = simple ]; then path=$(dirname "$path"); fi
            if [ -e "$path" ]; then echo "$path"; fi
        done
    if [ -e /etc/ssl/certs ]; then echo /etc/ssl/certs; fi
}

# The settings that are environment variables, as NAME=VALUE.
environment() {
    env | grep -iE '^(PIP_[A-Z_]+|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|[a-z]+_proxy|CI|ARGS|WEFT_[A-Z_]+)=' || true
}

inside() {
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" \
        DEBIAN_FRONTEND=noninteractive "${SETTINGS[@]}" chroot "$ROOT" "$@"
}

install_packages() {
    local extra=()
    # How this machine fetches packages (proxies, certificates, dates): all but which indexes it wants.
    apt-config dump 2>/dev/null | grep -E '^Acquire::' | grep -v '^Acquire::IndexTargets' >"$ROOT/etc/apt/apt.conf.d/90machine" || true
    if [ -e /etc/ssl/certs/ca-certificates.crt ]; then
        cp -L /etc/ssl/certs/ca-certificates.crt "$ROOT/etc/machine-ca.crt"
        echo 'Acquire::https::CAInfo "/etc/machine-ca.crt";' >"$ROOT/etc/apt/apt.conf.d/80machine"
    fi
    inside apt-get update -qq
    if inside apt-cache show "${WHERE_THERE[0]}" >/dev/null 2>&1; then
        extra=("${WHERE_THERE[@]}")
    else
        say "not run: ${WHERE_THERE[0]}: Debian $SUITE has no such package"
    fi
    inside apt-get install -y -qq --no-install-recommends "${PACKAGES[@]}" "${extra[@]}" >"$HERE/build/debian/apt.log" 2>&1 || {
        tail -n 20 "$HERE/build/debian/apt.log" >&2
        refuse "apt-get failed inside the root; the whole log is in build/debian/apt.log"
    }
    inside apt-get clean
}

bootstrap() {
    local source script=/usr/share/debootstrap/scripts/$SUITE
    source=$(mirror) || refuse "apt on this machine names no Debian mirror (set DEBIAN_MIRROR=...)"
    # Every suite since sid is made by the same script: an older debootstrap only lacks the name.
    [ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
    say "making a root of Debian $SUITE in build/debian (a minute or two, 700 MB)"
    rm -rf --one-file-system "$ROOT"
    mkdir -p "$ROOT"
    debootstrap --variant=minbase "$SUITE" "$ROOT" "$source" "$script" >"$HERE/build/debian/debootstrap.log" 2>&1 || {
        tail -n 20 "$HERE/build/debian/debootstrap.log" >&2
        refuse "debootstrap failed; the whole log is in build/debian/debootstrap.log"
    }
    touch "$ROOT/.weft-bootstrapped"
}

# Show a file or directory of this machine inside the root, read-only, at the same path.
bind() {
    if [ -d "$1" ]; then
        mkdir -p "$ROOT$1"
    else
        mkdir -p "$ROOT$(dirname "$1")"
        # The root may hold a link there (resolv.conf): a mount would follow it out of the root.
        if [ -L "$ROOT$1" ]; then rm "$ROOT$1"; fi
        touch "$ROOT$1"
    fi
    mount --bind "$1" "$ROOT$1"
    mount -o remount,bind,ro "$ROOT$1"
}

mount_system() {
    local path
    mount -t proc proc "$ROOT/proc"
    mount --rbind /sys "$ROOT/sys"
    mount --rbind /dev "$ROOT/dev"
    mount -t tmpfs tmpfs "$ROOT/tmp"
    for path in /etc/hosts /etc/resolv.conf; do bind "$path"; done
}

# After the packages are in: one of them (ca-certificates) writes where this mounts.
mount_settings() {
    local path within=
    settings | LC_ALL=C sort -u | while read -r path; do
        # Sorted, so a directory comes before what is in it and has brought that along.
        if [ -n "$within" ] && [[ $path == "$within"/* ]]; then continue; fi
        if [ -d "$path" ]; then within=$path; fi
        bind "$path"
    done
}

# The tree as it is now, committed or not, without what git ignores. What was compiled there before is kept.
copy_source() {
    local to=$ROOT/src/weft
    mkdir -p "$to/build"
    find "$to" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
    if git -c safe.directory='*' -C "$HERE" rev-parse --git-dir >/dev/null 2>&1; then
        (cd "$HERE" && git -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
            while IFS= read -r -d '' file; do if [ -e "$file" ]; then printf '%s\0' "$file"; fi; done |
            tar --null --no-recursion --files-from=- -cf -) | tar -xf - -C "$to"
    else
        (cd "$HERE" && tar --exclude=./build --exclude='./.venv*' --exclude='*.so' -cf - .) | tar -xf - -C "$to"
    fi
}

# Second half: process 1 of the new namespaces.
run_inside() {
    local ready=$ROOT/.weft-ready wanted="$SUITE ${PACKAGES[*]}"
    mapfile -t SETTINGS < <(environment)
    if [ ! -e "$ROOT/.weft-bootstrapped" ]; then bootstrap; fi
    mount_system
    if [ "$(cat "$ready" 2>/dev/null)" != "$wanted" ]; then
        install_packages
        echo "$wanted" >"$ready"
    fi
    mount_settings
    copy_source
    say "make $TARGET in a root of Debian $SUITE"
    inside python3.14 /src/weft/tools/every_python.py --make-target "$TARGET" --venvs /var/lib/weft --expect 3.14 3.15
}

if [ "${1:-}" = --inside ]; then
    TARGET=$2
    run_inside
    exit
fi

check
mkdir -p "$HERE/build/debian"
exec 9>"$HERE/build/debian/lock"
flock -n 9 || refuse "another run is using build/debian"
# In the background so that a signal is answered at once; killing unshare kills process 1 and all that it started.
unshare --mount --pid --fork --kill-child --propagation private "$HERE/tools/debian.sh" --inside "$TARGET" </dev/null &
child=$!
trap 'kill -KILL $child 2>/dev/null; say "interrupted; nothing is left mounted" >&2; exit 130' INT TERM HUP
wait $child
