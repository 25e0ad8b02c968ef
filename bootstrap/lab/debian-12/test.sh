#!/usr/bin/env bash
# Runs the tests of the firewall's sets on Debian 12's kernel, 6.1, in QEMU. Before 6.12 the kernel ignores the timeout of an
# element that is added again, so wg-server deletes and adds it. No other machine of the lab has such a kernel.
#
#   test.sh [BINARY]    BINARY: wg-server's unit tests, by default those that cargo builds
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../../make/artefact.sh
. "$here/../../make/artefact.sh"

# Those that need neither users nor other networks, nor a fast machine.
tests=(
  firewall::tests::sets::inside_longer
  firewall::tests::lists::inside_comes_back
)
# Emulated, with two busy processors.
readonly patience=300

main() {
  local binary=${1:-} debian qemu
  cd "$here/../../.."
  debian=$("$here/build.sh")
  qemu=$("$here/../qemu/build.sh")
  [ -n "$binary" ] || binary=$(built)
  artefact_scratch debian-12
  make_root "$debian" "$binary"
  phase "boot Debian 12's kernel"
  timeout "$patience" "$qemu/bin/qemu-system-x86_64" -L "$qemu/firmware" -nodefaults -no-user-config -display none -no-reboot \
    -machine q35 -accel tcg -cpu max -m 768 -serial stdio -kernel "$debian/vmlinuz" -initrd "$work_dir/initrd" \
    -append "console=ttyS0 quiet panic=-1" </dev/null | tee "$work_dir/console"
  grep -q '^6\.1\.' "$work_dir/console" || die "the machine's kernel is another one, expected 6.1"
  for test in "${tests[@]}"; do
    grep -q "^passed $test" "$work_dir/console" || die "$test has not passed on Debian 12's kernel"
  done
}

# The path of wg-server's unit tests.
built() {
  cargo test --locked --release --workspace --bin wg-server --no-run 2>&1 |
    sed -n 's/^ *Executable unittests .*(\(.*wg_server-[0-9a-f]*\))$/\1/p'
}

# make_root DEBIAN BINARY
make_root() {
  local root=$work_dir/root library
  cp -r "$1/root" "$root"
  mkdir -p "$root"/{dev,proc,sys,tmp,run,usr/sbin}
  cp "$2" "$root/tests"
  cp /usr/sbin/nft "$root/usr/sbin/nft"
  ldd /usr/sbin/nft "$2" | grep -o '/[^ :]*\.so[^ :]*' | sort -u | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
  done
  cat >"$root/init" <<INIT
#!/bin/busybox sh
export PATH=/bin:/sbin:/usr/sbin
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
# nft reads it by this name.
ln -s /proc/self/fd/0 /dev/stdin
uname -r
for test in ${tests[*]}; do
  unshare -n /tests --exact \$test --ignored --nocapture --test-threads=1 && echo "passed \$test"
done
reboot -f
INIT
  chmod +x "$root/init"
  (cd "$root" && find . | bin/busybox cpio -o -H newc -R 0:0 | gzip -1) >"$work_dir/initrd"
}

main "$@"
