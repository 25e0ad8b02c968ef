#!/usr/bin/env bash
# Builds the lab's qemu-system-x86_64 from Debian's source package: one with the nitro-enclave machine, which Debian's
# own build lacks, and with the patches in patches/.
#
#   build.sh           builds (or finds) it; the last line of stdout is the folder with
#                        bin/qemu-system-x86_64
#                        firmware/                for -L: what the machines nitro-enclave, microvm and q35 boot with
#   build.sh --repin   moves pin to the newest versions on the mirror
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lab=$(dirname "$here")
make_dir=$lab/../make
# shellcheck source-path=SCRIPTDIR source=../../make/artefact.sh
. "$make_dir/artefact.sh"
# shellcheck source-path=SCRIPTDIR source=../../make/archive.sh
. "$make_dir/archive.sh"

release=trixie # its QEMU is 10.0, the first Debian release with one that has the nitro-enclave machine
pin=$here/pin

readonly configure_options=(
  --target-list=x86_64-softmmu
  --without-default-features
  --enable-tcg           # runs anywhere
  --enable-kvm           # runs fast where it can
  --enable-fdt=system    # microvm describes itself in a device tree
  --enable-pixman        # q35's display code is always compiled
  --enable-gnutls        # SHA-384 for the PCRs
  --enable-libcbor       # the NSM, and so the nitro-enclave machine
  --enable-slirp         # user-mode network: ssh to the parent without root
  --enable-vhost-user    # the vsock switch
  --enable-vhost-net     # without it there is no vhost-user
  --enable-attr
  --disable-install-blobs # firmware comes from Debian's packages
  --disable-docs
  --disable-debug-info        # the program is stripped
  --enable-trace-backends=nop # nobody reads the traces
  --disable-download
  --disable-werror
)

main() {
  case ${1:-} in
  '') build ;;
  --repin)
    require_packages "$make_dir/packages.txt" qemu
    artefact_scratch qemu
    archive_open "$work_dir/apt" "$release"
    repin "$pin"
    ;;
  *) die "usage: build.sh [--repin]" ;;
  esac
}

build() {
  artefact_begin qemu "$here/build.sh" "$pin" "$here/requirements.txt" "$here"/patches/*.patch
  if artefact_is_cached; then
    artefact_print
    return
  fi
  require_packages "$make_dir/packages.txt" qemu
  artefact_lock

  archive_open "$work_dir/apt" "$release"
  local dsc data seabios
  dsc=$(fetch_pinned dsc "$pin" qemu "$work_dir/source")
  data=$(fetch_pinned deb "$pin" qemu-system-data "$work_dir/firmware")
  seabios=$(fetch_pinned deb "$pin" seabios "$work_dir/firmware")

  phase "unpack and patch"
  run_logged dpkg-source --no-check -x "$dsc" "$work_dir/qemu"
  cd "$work_dir/qemu"
  local patch
  for patch in "$here"/patches/*.patch; do
    run_logged patch -p1 --no-backup-if-mismatch --fuzz=0 -i "$patch"
  done

  phase "install meson"
  run_logged python3 -m venv "$work_dir/venv"
  run_logged "$work_dir/venv/bin/pip" install --quiet --no-deps --require-hashes -r "$here/requirements.txt"

  phase "configure"
  mkdir build
  cd build
  run_logged ../configure --python="$work_dir/venv/bin/python" "${configure_options[@]}"

  phase "compile (3 to 8 minutes on two cores); the log is $log_path"
  run_logged ninja qemu-system-x86_64
  install -D --strip qemu-system-x86_64 "$out_dir/bin/qemu-system-x86_64"

  collect_firmware "$data" "$seabios"
  check
  artefact_publish
}

# collect_firmware QEMU_SYSTEM_DATA_DEB SEABIOS_DEB: one folder for -L. Names as QEMU looks them up.
collect_firmware() {
  local deb name
  for deb in "$@"; do
    run_logged dpkg-deb -x "$deb" "$work_dir/firmware/root"
  done
  mkdir "$out_dir/firmware"
  for name in \
    seabios/bios-256k.bin seabios/bios-microvm.bin seabios/bios.bin \
    qemu/qboot.rom qemu/kvmvapic.bin qemu/pvh.bin \
    qemu/linuxboot.bin qemu/linuxboot_dma.bin qemu/multiboot.bin qemu/multiboot_dma.bin; do
    install -m 644 "$work_dir/firmware/root/usr/share/$name" "$out_dir/firmware/"
  done
}

# check: the machine that all this is for is there, and each machine finds its firmware.
check() {
  local qemu=$out_dir/bin/qemu-system-x86_64 machine
  phase "check that the machines start"
  run_logged grep -q '^nitro-enclave ' <("$qemu" -M help)
  for machine in q35 microvm; do
    # -S: the machine is made, firmware is loaded, nothing runs.
    run_logged timeout 20 bash -c "echo quit | '$qemu' -L '$out_dir/firmware' -M $machine,accel=tcg -S \
      -nodefaults -display none -monitor stdio"
  done
}

main "$@"
