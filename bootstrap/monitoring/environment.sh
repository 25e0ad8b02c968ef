#!/usr/bin/env bash
# Fetches (or finds) Prometheus from Debian's package of this release, without installing it: the installed package starts a
# daemon. Runs without root. The last line of stdout is its folder:
#
#   bin/prometheus
#   bin/promtool
#   version         the package's version
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
make_dir=$here/../make
# shellcheck source-path=SCRIPTDIR source=../make/artefact.sh
. "$make_dir/artefact.sh"
# shellcheck source-path=SCRIPTDIR source=../make/archive.sh
. "$make_dir/archive.sh"

main() {
    local release version package program
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
    version=$(archive_newest prometheus)
    [ -n "$version" ] || die "the mirror has no package prometheus for Debian $release"
    phase "fetch prometheus $version; the log is $log_path"
    package=$(archive_fetch deb prometheus "$version" "$work_dir" 2>>"$log_path") ||
        die "prometheus $version cannot be fetched; the log is $log_path"
    run_logged dpkg-deb --extract "$package" "$work_dir/package"
    mkdir "$out_dir/bin"
    cp "$work_dir/package/usr/bin/prometheus" "$work_dir/package/usr/bin/promtool" "$out_dir/bin"
    printf '%s\n' "$version" >"$out_dir/version"
    for program in prometheus promtool; do
        run_logged "$out_dir/bin/$program" --version
    done
    artefact_publish
}

main
