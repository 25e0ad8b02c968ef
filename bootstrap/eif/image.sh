#!/usr/bin/env bash
# Builds an enclave image: kernel (cached), orchestrator (static), measured configuration.
#
#   image.sh CONFIG_DIR OUT_DIR                    writes OUT_DIR/enclave.eif and OUT_DIR/measurements.json
#   image.sh --unpatched-kernel CONFIG_DIR OUT_DIR the same with a kernel without our patches: for the lab's deadlock test only
#   image.sh --impostor CONFIG_DIR OUT_DIR         the same with the lab's impostor as /init: for the lab's attestation tests only
#   image.sh --verify-reproducible [CONFIG_DIR]    builds from two copies of the sources in folders of different names and
#                                                  compares the images; CONFIG_DIR is bootstrap/lab/config/enclave if absent
#
# The image depends on the sources, Cargo.lock, the Rust and C toolchains and CONFIG_DIR; not on folders, users or dates.
set -euo pipefail
shopt -s inherit_errexit # a build that goes wrong inside $(...) must not leave the last one to be taken
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source-path=SCRIPTDIR source=../../enclave-kernel/sh/artefact.sh
. "$root/enclave-kernel/sh/artefact.sh"

readonly target=x86_64-unknown-linux-gnu
kernel=bzImage
program=orchestrator
readonly max_bytes=$((12 << 20)) # it travels to the hypervisor at each start of an enclave

main() {
    case ${1:-} in
    --verify-reproducible)
        [ $# -le 2 ] || usage
        verify_reproducible "${2:-$root/bootstrap/lab/config/enclave}"
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
    -*) usage ;;
    *)
        [ $# -eq 2 ] || usage
        build_all "$1" "$2"
        ;;
    esac
}

usage() {
    die "usage: image.sh [--unpatched-kernel | --impostor] CONFIG_DIR OUT_DIR | image.sh --verify-reproducible [CONFIG_DIR]"
}

build_all() {
    local config_dir=$1 out_dir=$2 init bytes
    prepare "$config_dir"
    init=$(build_init "$root" "$root/target/image")
    [ "$program" = impostor ] || check_config "$init" "$config_dir"
    phase "image"
    build_image "$init" "$config_dir" "$out_dir"
    bytes=$(stat --format=%s "$out_dir/enclave.eif")
    [ "$bytes" -le "$max_bytes" ] ||
        die "$out_dir/enclave.eif: $bytes bytes, at most $max_bytes are meant to be"
    phase "done: $bytes bytes of at most $max_bytes"
}

verify_reproducible() {
    local config_dir=$1 dir init image images=()
    prepare "$config_dir"
    artefact_scratch image
    for dir in "$work_dir/a" "$work_dir/another-folder/with/a/longer/name"; do
        copy_sources "$dir"
        phase "build in $dir"
        init=$(build_init "$dir" "$dir/target/image")
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
    [ -d "$1" ] || die "$1: no such folder; the folder with enclave.toml is needed here"
    require_packages "$root/bootstrap/lab/packages.txt" eif
    command -v cargo >/dev/null || die "cargo is missing; install Rust with rustup"
    phase "kernel"
    kernel_dir=$("$root/enclave-kernel/build.sh" | tail -n 1)
    phase "the eif tool"
    (cd "$root" && cargo build --locked --release --workspace --bin eif --target-dir "$root/target" >&2)
    eif=$root/target/release/eif
}

# build_init SOURCES TARGET_DIR: builds $program, prints its path. The flags have a target folder of their own, so that
# they do not make cargo build everything else anew.
build_init() {
    local sources=$1 target_dir=$2 flags cargo_home
    cargo_home=$(cd "${CARGO_HOME:-$HOME/.cargo}" && pwd)
    flags=(
        # No libc in the image.
        -C target-feature=+crt-static
        # A static program is loaded at a random address only if it is position independent.
        -C relocation-model=pie
        # Randomness comes from the system call, not from a file that a process in an empty root does not have.
        "--cfg=getrandom_backend=\"linux_getrandom\""
        # Paths reach the program through panic messages. The last option that fits wins, so the outermost folder is first.
        "--remap-path-prefix=$cargo_home=/cargo"
        "--remap-path-prefix=$(rustc --print sysroot)=/rust"
        "--remap-path-prefix=$sources=/sources"
    )
    phase "$program"
    # Encoded, since folders may have spaces in their names. What a caller set for other programs must not get in here.
    (
        cd "$sources"
        env --unset=RUSTFLAGS --unset=CARGO_BUILD_RUSTFLAGS --unset=RUSTC_WRAPPER --unset=RUSTC_WORKSPACE_WRAPPER \
            CARGO_ENCODED_RUSTFLAGS="$(printf '%s\x1f' "${flags[@]}" | sed 's/\x1f$//')" \
            CFLAGS="-ffile-prefix-map=$cargo_home=/cargo -ffile-prefix-map=$sources=/sources" \
            cargo build --locked --profile image --package "$program" --target "$target" --target-dir "$target_dir" >&2
    )
    printf '%s\n' "$target_dir/$target/image/$program"
}

# check_config PROGRAM CONFIG_DIR: the enclave would refuse a wrong configuration at boot; say so now.
check_config() {
    "$1" --check "$2/enclave.toml" >&2 || die "$2/enclave.toml: the orchestrator refuses it"
}

build_image() {
    # With a signer in it, /init alone is larger than an image may be.
    "$eif" build --compression gzip --kernel "$kernel_dir/$kernel" --kernel-config "$kernel_dir/config" --cmdline-file "$here/cmdline" \
        --init "$1" --config "$2" --out "$3"
}

# copy_sources DIR: what git has or would have.
copy_sources() {
    mkdir -p "$1"
    (cd "$root" && git ls-files --cached --others --exclude-standard --deduplicate -z | tar -c --null -T - -f -) | tar -x -C "$1"
}

main "$@"
