#!/usr/bin/env bash
# Builds the enclave's kernel from Debian's linux-source package, the fragments in fragments/ and the patches in patches/.
#
#   build.sh                         builds (or finds) it; the last line of stdout is the folder with
#                                      bzImage            what enclaves boot
#                                      bzImage-unpatched  the same without our patches: only for the lab's test of the
#                                                         vsock deadlock, never for an enclave
#                                      config, System.map, SHA256SUMS
#   build.sh --verify-reproducible   builds twice in two folders of different names and compares (no cache)
#   build.sh --check-config          says which options of the fragments Kconfig refused (no compilation)
#   build.sh --repin                 moves pin to the newest version on the mirror
set -euo pipefail
export LC_ALL=C TZ=UTC

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
make_dir=$here/../bootstrap/make
packages=$make_dir/packages.txt
# shellcheck source-path=SCRIPTDIR source=../bootstrap/make/artefact.sh
. "$make_dir/artefact.sh"
# shellcheck source-path=SCRIPTDIR source=../bootstrap/make/archive.sh
. "$make_dir/archive.sh"

release=trixie # where linux-source-6.12 lives
pin=$here/pin
inputs=("$here/build.sh" "$pin" "$here"/fragments/*.config "$here"/patches/*.patch)

main() {
  case ${1:-} in
  '') build ;;
  --verify-reproducible) verify_reproducible ;;
  --check-config)
    require_packages "$packages" kernel
    artefact_scratch kernel
    unpack "$work_dir/linux"
    configure "$work_dir/linux"
    phase "every option of the fragments is as asked for"
    ;;
  --repin)
    require_packages "$packages" kernel
    artefact_scratch kernel
    archive_open "$work_dir/apt" "$release"
    repin "$pin"
    ;;
  *) die "usage: build.sh [--verify-reproducible | --check-config | --repin]" ;;
  esac
}

build() {
  artefact_begin kernel "${inputs[@]}"
  if artefact_is_cached; then
    artefact_print
    return
  fi
  require_packages "$packages" kernel
  artefact_lock

  unpack "$work_dir/linux"
  apply_patches "$work_dir/linux"
  configure "$work_dir/linux"
  phase "compile (4 to 8 minutes on two cores); the log is $log_path"
  compile "$work_dir/linux" 1
  install -m 644 "$work_dir/linux/arch/x86/boot/bzImage" "$out_dir/bzImage"
  install -m 644 "$work_dir/linux/System.map" "$out_dir/System.map"
  install -m 644 "$work_dir/linux/.config" "$out_dir/config"

  phase "compile again without our patches (for the lab's deadlock test)"
  apply_patches "$work_dir/linux" --reverse
  compile "$work_dir/linux" 1-unpatched
  install -m 644 "$work_dir/linux/arch/x86/boot/bzImage" "$out_dir/bzImage-unpatched"

  (cd "$out_dir" && sha256sum bzImage bzImage-unpatched config System.map >SHA256SUMS)
  artefact_publish
}

verify_reproducible() {
  local dir hashes=()
  require_packages "$packages" kernel
  artefact_scratch kernel
  for dir in "$work_dir/a/linux" "$work_dir/another-folder/with/a/longer/name"; do
    unpack "$dir"
    apply_patches "$dir"
    configure "$dir"
    phase "compile in $dir"
    compile "$dir" 1
    hashes+=("$(sha256sum <"$dir/arch/x86/boot/bzImage" | cut -d' ' -f1)")
    phase "bzImage ${hashes[-1]}"
    rm -rf "$dir"
  done
  [ "${hashes[0]}" = "${hashes[1]}" ] || die "two builds of the same inputs differ: ${hashes[*]}"
  phase "both builds gave the same bzImage"
  printf '%s\n' "${hashes[0]}"
}

# unpack DIR: puts Debian's kernel tree there.
unpack() {
  local dir=$1 deb
  if [ ! -d "$work_dir/package" ]; then
    archive_open "$work_dir/apt" "$release"
    deb=$(fetch_pinned deb "$pin" linux-source-6.12 "$work_dir/download")
    run_logged dpkg-deb -x "$deb" "$work_dir/package"
    rm -rf "$work_dir/download"
  fi
  phase "unpack the sources"
  mkdir -p "$dir"
  run_logged tar -x --strip-components=1 -C "$dir" -f "$work_dir/package/usr/src/linux-source-6.12.tar.xz"
}

# apply_patches DIR [--reverse]
apply_patches() {
  local dir=$1 patches=("$here"/patches/*.patch) direction=${2:-} i
  if [ "$direction" = --reverse ]; then
    for ((i = ${#patches[@]} - 1; i >= 0; i--)); do
      run_logged patch -d "$dir" -p1 --no-backup-if-mismatch --fuzz=0 --reverse -i "${patches[i]}"
    done
  else
    for i in "${!patches[@]}"; do
      run_logged patch -d "$dir" -p1 --no-backup-if-mismatch --fuzz=0 -i "${patches[i]}"
    done
  fi
}

# configure DIR: everything off that can be off (as tinyconfig), then what the fragments say, then whatever that implies.
# Stops unless the result has every line of the fragments.
configure() {
  local dir=$1
  phase "configure"
  cat "$here"/fragments/*.config >"$dir/fragments.config"
  check_reasons
  run_logged kernel_make "$dir" KCONFIG_ALLCONFIG=fragments.config allnoconfig
  # allnoconfig may leave a choice that olddefconfig would revise; what is compiled is what survives it.
  run_logged kernel_make "$dir" olddefconfig
  check_config "$dir/fragments.config" "$dir/.config"
}

# check_config FRAGMENTS CONFIG: `CONFIG_X=v` must be there literally; `# CONFIG_X is not set` must not be set.
check_config() {
  awk '
    /^CONFIG_[A-Z0-9_]+=/ || /^# CONFIG_[A-Z0-9_]+ is not set$/ {
      name = $1 == "#" ? $2 : substr($0, 1, index($0, "=") - 1)
      line = $1 == "#" ? "" : $0
      if (NR == FNR) {
        if (name in want && want[name] != line) { print "  " name " is asked for twice, differently"; bad = 1 }
        want[name] = line
      } else {
        have[name] = line
      }
    }
    END {
      for (name in want) if (want[name] != have[name]) {
        print "  asked for: " (want[name] == "" ? name " off" : want[name]) \
              "; got: " (have[name] == "" ? name " off" : have[name])
        bad = 1
      }
      exit bad
    }' "$1" "$2" | sort >&2 || die "Kconfig did not take these options of fragments/*.config (a missing dependency, or a name that this version lacks)"
}

# check_reasons: each option of the fragments has a reason in the line above it.
check_reasons() {
  awk '
    /^CONFIG_/ || /^# CONFIG_[A-Z0-9_]+ is not set$/ {
      if (!reason) { print "  " FILENAME ":" FNR ": " $0; bad = 1 }
      reason = 0
      next
    }
    {reason = /^# ./}
    END {exit bad}' "$here"/fragments/*.config >&2 || die "these options have no reason in the line above"
}

# compile DIR VERSION: VERSION is what `uname -v` starts with.
compile() {
  # Debian's own date of the sources, so that a moved pin shows in `uname -v`, and nothing else does.
  local date
  date=$(date -u -R -r "$work_dir/package/usr/src/linux-source-6.12.tar.xz")
  run_logged kernel_make "$1" -j"$(nproc)" KBUILD_BUILD_VERSION="$2" KBUILD_BUILD_TIMESTAMP="$date" bzImage
}

# kernel_make DIR ARGUMENTS: make with nothing of this machine in the environment that gets into the image. Kconfig writes the
# versions of a Rust compiler and of pahole into the configuration where it finds them; nothing here uses either.
kernel_make() {
  local dir=$1
  shift
  env -u KCFLAGS -u KAFLAGS -u KCPPFLAGS -u MAKEFLAGS -u LOCALVERSION -u CROSS_COMPILE -u ARCH \
    make -C "$dir" --no-print-directory \
    KBUILD_BUILD_USER=enclave KBUILD_BUILD_HOST=enclave \
    RUSTC=no-rustc PAHOLE=no-pahole \
    KCFLAGS="-ffile-prefix-map=$dir=." KAFLAGS="-ffile-prefix-map=$dir=." \
    "$@"
}

main "$@"
