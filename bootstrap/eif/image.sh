#!/usr/bin/env bash
# Builds an enclave image: kernel (cached), orchestrator (static), measured configuration.
#
#   image.sh CONFIG_DIR OUT_DIR                    writes OUT_DIR/enclave.eif and OUT_DIR/measurements.json
#   image.sh --unpatched-kernel CONFIG_DIR OUT_DIR the same, with the kernel unpatched: for the lab's deadlock test only
#   image.sh --impostor CONFIG_DIR OUT_DIR         the same, with the lab's impostor as /init: for its tests only
#   image.sh --program NAME                        builds a static program of this workspace like /init, prints its path
#   image.sh --verify-reproducible [CONFIG_DIR]    builds in two folders with different names and compares the images;
#                                                  CONFIG_DIR defaults to config/enclave
#
# The image depends on the sources, Cargo.lock, the Rust and C toolchains and CONFIG_DIR, not on folders or dates.
set -euo pipefail
shopt -s inherit_errexit # a failed build inside $(...) must not leave an earlier result in use
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source-path=SCRIPTDIR source=../../bootstrap/make/artefact.sh
. "$root/bootstrap/make/artefact.sh"

readonly target=x86_64-unknown-linux-gnu
kernel=bzImage
program=orchestrator
# The hypervisor loads the image at each start of an enclave. Programs of services do not count.
readonly max_bytes=$((13 << 20))

main() {
    case ${1:-} in
    --verify-reproducible)
        [ $# -le 2 ] || usage
        verify_reproducible "${2:-$root/config/enclave}"
        ;;
    --unpatched-kernel)
        [ $# -eq 3 ] || usage
        kernel=bzImage-unpatched
        build_all "$2" "$3"
        ;;
    --impostor)
        [ $# -eq 3 ] || usage
        program=impostor
        build_all "$2" "$3"
        ;;
    --program)
        [ $# -eq 2 ] || usage
        program=$2
        build_program "$root" "$root/target"
        ;;
    -*) usage ;;
    *)
        [ $# -eq 2 ] || usage
        build_all "$1" "$2"
        ;;
    esac
}

usage() {
    die "usage: image.sh [--unpatched-kernel | --impostor] CONFIG_DIR OUT_DIR | image.sh --program NAME | image.sh --verify-reproducible [CONFIG_DIR]"
}

build_all() {
    local config_dir=$1 out_dir=$2 init bytes most
    prepare "$config_dir"
    init=$(build_program "$root" "$root/target")
    [ "$program" = impostor ] || check_config "$init" "$config_dir"
    phase "image"
    build_image "$init" "$config_dir" "$out_dir"
    bytes=$(stat --format=%s "$out_dir/enclave.eif")
    most=$((max_bytes + $(programs_bytes "$config_dir")))
    [ "$bytes" -le "$most" ] || die "$out_dir/enclave.eif: $bytes bytes, expected at most $most"
    phase "done: $bytes bytes of at most $most"
}

verify_reproducible() {
    local config_dir=$1 dir init image images=()
    prepare "$config_dir"
    artefact_scratch image
    for dir in "$work_dir/a" "$work_dir/another-folder/with/a/longer/name"; do
        copy_sources "$dir"
        phase "build in $dir"
        init=$(build_program "$dir" "$dir/target")
        build_image "$init" "$config_dir" "$dir/out" >&2
        images+=("$dir/out/enclave.eif")
    done
    if ! cmp "${images[@]}"; then
        for image in "${images[@]}"; do
            "$eif" describe "$image" >&2
        done
        die "two builds of the same sources in different folders differ"
    fi
    phase "both builds gave the same image"
    sha256sum <"${images[0]}" | cut -d' ' -f1
}

# prepare CONFIG_DIR: sets $kernel_dir and $eif.
prepare() {
    [ -d "$1" ] || die "$1: no such folder, expected the one with enclave.toml"
    require_packages "$root/bootstrap/make/packages.txt" eif
    command -v cargo >/dev/null || die "cargo is missing; install Rust with rustup"
    phase "kernel"
    kernel_dir=$("$root/enclave-kernel/build.sh" | tail -n 1)
    phase "the eif tool"
    (cd "$root" && cargo build --locked --release --workspace --bin eif --target-dir "$root/target" >&2)
    eif=$root/target/release/eif
}

# build_program SOURCES TARGET_DIR: builds $program, prints its path. With --target, the flags do not apply to build
# scripts and macros, which all programs share; the rest is built in a separate folder. /init is built alone: its
# dependencies' features must not depend on what else is built. Other programs have the same features, so that they
# share what is compiled for /init.
build_program() {
    local sources=$1 target_dir=$2 flags cargo_home
    # On top of Cargo.toml's [profile.release].
    local profile=(
        --config 'profile.release.panic="abort"'
        --config profile.release.opt-level=1
        --config profile.release.package.orchestrator.opt-level=3
        --config profile.release.package.ethereum.opt-level=3
        --config profile.release.package.self-test.opt-level=3
        --config profile.release.package.signer.opt-level=3
        --config profile.release.package.signer-api.opt-level=3
    )
    cargo_home=$(cd "${CARGO_HOME:-$HOME/.cargo}" && pwd)
    flags=(
        # No libc in the image.
        -C target-feature=+crt-static
        # A static program is loaded at a random address only if it is position independent.
        -C relocation-model=pie
        # Randomness comes from the system call: a process in an empty root has no /dev/urandom.
        "--cfg=getrandom_backend=\"linux_getrandom\""
        # Panic messages contain paths. The last matching option wins, so the outermost folder is first.
        "--remap-path-prefix=$cargo_home=/cargo"
        "--remap-path-prefix=$(rustc --print sysroot)=/rust"
        "--remap-path-prefix=$sources=/sources"
    )
    phase "$program"
    # Encoded, since folder names may contain spaces. The caller's own flags must not reach this build.
    (
        cd "$sources"
        env --unset=RUSTFLAGS --unset=CARGO_BUILD_RUSTFLAGS --unset=RUSTC_WRAPPER --unset=RUSTC_WORKSPACE_WRAPPER \
            CARGO_ENCODED_RUSTFLAGS="$(printf '%s\x1f' "${flags[@]}" | sed 's/\x1f$//')" \
            CFLAGS="-ffile-prefix-map=$cargo_home=/cargo -ffile-prefix-map=$sources=/sources" \
            cargo build --locked --release "${profile[@]}" --package orchestrator --package "$program" --bin "$program" \
                --target "$target" --target-dir "$target_dir" >&2
    )
    printf '%s\n' "$target_dir/$target/release/$program"
}

# programs_bytes CONFIG_DIR: the size of the services' programs.
programs_bytes() {
    find "$1" -maxdepth 1 -type f -perm /111 -printf '%s\n' | awk '{bytes += $1} END {print bytes + 0}'
}

# check_config PROGRAM CONFIG_DIR: reports a wrong configuration now, not when the enclave boots.
check_config() {
    "$1" --check "$2/enclave.toml" >&2 || die "$2/enclave.toml: the orchestrator refuses it"
}

build_image() {
    # With a signer, /init alone exceeds the limit.
    "$eif" build --compression gzip --kernel "$kernel_dir/$kernel" --kernel-config "$kernel_dir/config" --cmdline-file "$here/cmdline" \
        --init "$1" --config "$2" --out "$3"
}

# copy_sources DIR: the files that git tracks or would track.
copy_sources() {
    mkdir -p "$1"
    (cd "$root" && git ls-files --cached --others --exclude-standard --deduplicate -z | tar -c --null -T - -f -) | tar -x -C "$1"
}

main "$@"
