#!/usr/bin/env bash
# Builds the root file system of the lab's parent VM: Debian with systemd, started by lab-init. Needs no root.
#
#   build.sh             builds (or finds) it; the last line of stdout is the folder with
#                          vmlinuz, initrd.img   Debian's cloud kernel; boot them with `console=ttyS0`
#                          rootfs.img            the first virtio disk; a squashfs, so it never changes
#                          packages.manifest     what is installed, with versions
#   build.sh --refresh   forgets what was built, and so takes the versions that the mirror has now
#
# The second virtio disk is the payload, see lab-init. Versions are not pinned: this is the part of the lab that stands for
# somebody else's machine. What was used is in packages.manifest. What is of Python is pinned, by hash.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lab=$(dirname "$here")
sh=$lab/../../enclave-kernel/sh
# shellcheck source-path=SCRIPTDIR source=../../../enclave-kernel/sh/artefact.sh
. "$sh/artefact.sh"
# shellcheck source-path=SCRIPTDIR source=../../../enclave-kernel/sh/archive.sh
. "$sh/archive.sh"

release=trixie # its C library is the newest of the releases that wg-server is built on, so what they build runs in it

main() {
  artefact_begin parent "$here/build.sh" "$here/packages" "$here/lab-init" "$here/initrd-init" "$here/make-initrd" \
    "$here/prepare-systemd"     "$here/sshd_config.lab" "$here/moto-requirements.txt" "$here/moto-server" \
    "$here/eth-account-requirements.txt"
  case ${1:-} in
  '') ;;
  --refresh) rm -rf "$artefact_dir" ;;
  *) die "usage: build.sh [--refresh]" ;;
  esac
  if artefact_is_cached; then
    artefact_print
    return
  fi
  require_packages "$lab/packages.txt" parent
  artefact_lock

  fetch_python
  archive_open "$work_dir/apt" "$release"
  install_packages
  phase "pack the root file system"
  # lz4: what is read at boot unpacks fast even where the CPU is emulated.
  # shellcheck disable=SC2016 # the arguments of the inner shell
  run_logged sh -c 'mksquashfs - "$2" -tar -comp lz4 -no-progress -quiet <"$1"' - "$work_dir/rootfs.tar" "$out_dir/rootfs.img"
  chmod 644 "$out_dir"/*
  artefact_publish
}

# This machine's Python may be another than the new system's: wheels for that one, compiled there.
fetch_python() {
  local platform name options=()
  for platform in manylinux_2_34 manylinux_2_28 manylinux_2_17 manylinux2014; do
    options+=(--platform "${platform}_x86_64")
  done
  phase "fetch moto and eth-account"
  run_logged python3 -m venv "$work_dir/venv"
  for name in moto eth-account; do
    run_logged "$work_dir/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes \
      --only-binary :all: --implementation cp --python-version 3.13 --abi cp313 --abi abi3 --abi none "${options[@]}" \
      --no-compile --target "$work_dir/python/$name" -r "$here/$name-requirements.txt"
    # Programs that would look for this machine's Python.
    rm -rf "$work_dir/python/$name/bin"
  done
}

install_packages() {
  local packages option options=()
  packages=$(awk '!/^#/ && NF {printf "%s%s", sep, $1; sep = ","}' "$here/packages")
  # The machine's proxies, if it has any; the rest of its apt configuration is none of our business.
  while read -r option; do
    options+=(--aptopt="$option")
  done < <(apt-config dump | grep -iE '^Acquire::(https?::)?proxy[^ ]* "[^"]+";$' || true)

  phase "install packages (about a minute); the log is $log_path"
  # Hooks run as the root of the new system, which need not be root here; only upload and download act as who we are.
  # INITRD=No: the kernel package would have one made that we do not use.
  # shellcheck disable=SC2016 # $1 is the hook's
  INITRD=No run_logged mmdebstrap --variant=essential --format=tar --include="$packages" \
    "${options[@]}" \
    --aptopt='APT::Sandbox::User "root"' \
    --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/i18n/*' \
    --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --customize-hook="upload '$here/lab-init' /sbin/lab-init" \
    --customize-hook="upload '$here/sshd_config.lab' /etc/ssh/sshd_config.lab" \
    --customize-hook="upload '$here/moto-server' /usr/bin/moto-server" \
    --customize-hook="copy-in '$work_dir/python' /opt" \
    --customize-hook="upload '$here/initrd-init' /initrd-init" \
    --customize-hook="upload '$here/make-initrd' /make-initrd" \
    --customize-hook="upload '$here/prepare-systemd' /prepare-systemd" \
    --customize-hook='cd "$1" && chmod 755 sbin/lab-init usr/bin/moto-server initrd-init make-initrd prepare-systemd' \
    --customize-hook='chroot "$1" /prepare-systemd >&2' \
    --customize-hook='chroot "$1" python3 -m compileall -q /opt/python && chroot "$1" moto-server --help >&2' \
    --customize-hook='chroot "$1" /make-initrd' \
    --customize-hook="download /initrd.img '$out_dir/initrd.img'" \
    --customize-hook="download /vmlinuz '$out_dir/vmlinuz'" \
    --customize-hook='chroot "$1" dpkg-query -W >"$1/packages.manifest"' \
    --customize-hook="download /packages.manifest '$out_dir/packages.manifest'" \
    --customize-hook='cd "$1" && rm -rf initrd-init make-initrd prepare-systemd initrd.img vmlinuz packages.manifest boot/* \
      etc/ssh/ssh_host_* etc/apt/sources.list etc/resolv.conf' \
    "$release" "$work_dir/rootfs.tar" "$ARCHIVE_DIR/sources.list"
}

main "$@"
