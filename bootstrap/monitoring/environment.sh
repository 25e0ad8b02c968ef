#!/usr/bin/env bash
# Fetches (or finds) Prometheus from this release of Debian, without installing it: the installed package starts a
# daemon. Runs without root. The last line of stdout is its folder:
#
#   bin/prometheus
#   bin/promtool
#   version         of the package prometheus
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
make_dir=$here/../make
# shellcheck source-path=SCRIPTDIR source=../make/artefact.sh
. "$make_dir/artefact.sh"
# shellcheck source-path=SCRIPTDIR source=../make/archive.sh
. "$make_dir/archive.sh"

main() {
    local release program
    release=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    [ -n "$release" ] || die "/etc/os-release has no VERSION_CODENAME; expected Debian, for example bookworm"
    artefact_begin monitoring "$here/environment.sh"
    if artefact_is_cached; then
        artefact_print
        return
    fi
    require_packages "$make_dir/packages.txt" monitoring
    artefact_lock
    # The machine's own package lists may be missing or old.
    archive_open "$work_dir/apt" "$release"
    fetch prometheus
    # From Debian 13 on, it is a package of its own.
    [ -e "$work_dir/package/usr/bin/promtool" ] || fetch promtool
    mkdir "$out_dir/bin"
    cp "$work_dir/package/usr/bin/prometheus" "$work_dir/package/usr/bin/promtool" "$out_dir/bin"
    archive_newest prometheus >"$out_dir/version"
    for program in prometheus promtool; do
        run_logged "$out_dir/bin/$program" --version
    done
    artefact_publish
}

# fetch NAME: unpacks a package.
fetch() {
    local version package
    version=$(archive_newest "$1")
    [ -n "$version" ] || die "the mirror has no package $1 for this release of Debian"
    phase "fetch $1 $version; the log is $log_path"
    package=$(archive_fetch deb "$1" "$version" "$work_dir" 2>>"$log_path") ||
        die "$1 $version cannot be fetched; the log is $log_path"
    run_logged dpkg-deb --extract "$package" "$work_dir/package"
}

main
