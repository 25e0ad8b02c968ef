#!/usr/bin/env bash
# Fetches Debian 12's cloud kernel for test.sh. Runs without root.
#
#   build.sh    builds or finds it, and prints its folder in the last line of stdout:
#                 vmlinuz      the kernel
#                 root/        busybox and the kernel's modules for nf_tables
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
make_dir=$here/../../make
# shellcheck source-path=SCRIPTDIR source=../../make/artefact.sh
. "$make_dir/artefact.sh"
# shellcheck source-path=SCRIPTDIR source=../../make/archive.sh
. "$make_dir/archive.sh"

main() {
  local image version
  artefact_begin debian-12 "$here/build.sh"
  if artefact_is_cached; then
    artefact_print
    return
  fi
  artefact_lock
  archive_open "$work_dir/apt" bookworm
  image=$(archive_apt apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p')
  for package in "$image" busybox-static; do
    version=$(archive_newest "$package")
    phase "fetch $package $version"
    dpkg-deb -x "$(archive_fetch deb "$package" "$version" "$work_dir/$package" 2>>"$log_path")" "$work_dir/system"
  done
  pack "$work_dir/system" "${image#linux-image-}"
  artefact_publish
}

# pack SYSTEM RELEASE
pack() {
  local system=$1 release=$2 folder modules=$out_dir/root/lib/modules/$2
  cp "$system/boot/vmlinuz-$release" "$out_dir/vmlinuz"
  mkdir -p "$out_dir"/root/{bin,sbin} "$modules/kernel"
  cp "$system/bin/busybox" "$out_dir/root/bin/"
  # The kernel starts it when a rule needs a module.
  ln -s ../bin/busybox "$out_dir/root/sbin/modprobe"
  for folder in net/netfilter net/ipv4/netfilter net/ipv6/netfilter lib crypto arch/x86/crypto; do
    mkdir -p "$modules/kernel/$folder"
    cp -r "$system/lib/modules/$release/kernel/$folder/." "$modules/kernel/$folder/"
  done
  run_logged "$out_dir/root/bin/busybox" depmod -b "$out_dir/root" "$release"
}

main "$@"
