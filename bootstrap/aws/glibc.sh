#!/usr/bin/env bash
# Checks that programs run on Amazon Linux 2023, whose C library may be older than the build host's.
#
#   glibc.sh PROGRAM...
#
# Amazon Linux 2023, and Lambda's provided.al2023, have glibc 2.34; TARGET_GLIBC overrides it.
set -euo pipefail
export LC_ALL=C

readonly newest=${TARGET_GLIBC:-2.34}
# Libraries that both have.
readonly libraries=' libc.so.6 libm.so.6 libgcc_s.so.1 ld-linux-x86-64.so.2 '

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

check() {
    local program=$1 library version symbols
    [ -f "$program" ] || die "$program: no such file"
    readelf --file-header "$program" 2>/dev/null | grep -q 'Machine: *Advanced Micro Devices X86-64' ||
        die "$program: not a program for x86_64 Linux"
    while read -r library; do
        [[ $libraries == *" $library "* ]] || die "$program: needs $library, which Amazon Linux 2023 may not have"
    done < <(readelf --dynamic --wide "$program" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
    while read -r version; do
        [ "$(printf '%s\n' "$version" "$newest" | sort -V | tail -n 1)" != "$newest" ] || continue
        symbols=$(readelf --dyn-syms --wide "$program" | awk -v v="@GLIBC_$version" '
            {at = index($8, v)} at && substr($8, at + length(v)) == "" {printf "%s%s", sep, substr($8, 1, at - 1); sep = " "}')
        die "$program: needs glibc $version (${symbols:-no symbol of its own}), Amazon Linux 2023 has $newest: build it on an older release"
    done < <(readelf --version-info --wide "$program" | sed -nE 's/.*Name: GLIBC_([0-9.]+) .*/\1/p' | sort -Vu)
}

[ $# -gt 0 ] || die "usage: glibc.sh PROGRAM..."
command -v readelf >/dev/null || die "readelf is missing; apt-get install binutils"
for program in "$@"; do
    check "$program"
done
