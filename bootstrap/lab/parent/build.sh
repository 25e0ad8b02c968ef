#!/usr/bin/env bash
# Builds the root file system of the lab's parent VM: Debian with systemd, which lab-init starts. Runs without root.
#
#   build.sh             builds or finds it, and prints its folder in the last line of stdout:
#                          vmlinuz, initrd.img   Debian's cloud kernel; boot them with `console=ttyS0`
#                          rootfs.img            the first virtio disk, a read-only squashfs
#                          packages.manifest     the installed packages, with versions
#   build.sh --refresh   builds it again, with the mirror's present versions
#
# The second virtio disk is the payload, see lab-init. Debian's packages are not pinned, because the parent stands for
# somebody else's machine; packages.manifest lists them. Python packages are pinned by hash.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lab=$(dirname "$here")
make_dir=$lab/../make
# shellcheck source-path=SCRIPTDIR source=../../make/artefact.sh
. "$make_dir/artefact.sh"
# shellcheck source-path=SCRIPTDIR source=../../make/archive.sh
. "$make_dir/archive.sh"

release=trixie # the newest release that wg-server is built on: programs that were built on an older one run on it

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
  require_packages "$make_dir/packages.txt" parent
  artefact_lock

  fetch_python
  archive_open "$work_dir/apt" "$release"
  install_packages
  phase "pack the root file system"
  # lz4 decompresses fast, also under emulation.
  # shellcheck disable=SC2016 # the arguments of the inner shell
  run_logged sh -c 'mksquashfs - "$2" -tar -comp lz4 -no-progress -quiet <"$1"' - "$work_dir/rootfs.tar" "$out_dir/rootfs.img"
  chmod 644 "$out_dir"/*
  artefact_publish
}

# Wheels for the new system's Python, which may differ from the host's, so they are compiled there.
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
    # Programs that need the host's Python.
    rm -rf "$work_dir/python/$name/bin"
  done
}

install_packages() {
  local packages option options=()
  packages=$(awk '!/^#/ && NF {printf "%s%s", sep, $1; sep = ","}' "$here/packages")
  # The host's proxies, if there are any, but not the rest of its apt configuration.
  while read -r option; do
    options+=(--aptopt="$option")
  done < <(apt-config dump | grep -iE '^Acquire::(https?::)?proxy[^ ]* "[^"]+";$' || true)

  phase "install packages (about a minute); the log is $log_path"
  # Hooks run as root of the new system, which may be another user of the host; only upload and download run as that user.
  # INITRD=No: the kernel package would build an initrd that is not used.
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
