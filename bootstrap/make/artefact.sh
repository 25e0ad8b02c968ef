# shellcheck shell=bash
# An artefact: a folder that is built once, named after the hash of everything it is made from, and never changed.
#
# A script that builds one says, in this order:
#
#   artefact_begin kernel "$0" pin fragments/*.config     its kind, and all files that it is made from
#   artefact_is_cached && artefact_print && exit          nothing to do
#   artefact_lock                                         others that want the same wait here, then find it cached
#   ... build under $work_dir, put the results into $out_dir ...
#   artefact_publish                                      moves $out_dir into place and prints it
#
# Progress goes to stderr, the artefact's folder to stdout. $log_path has the whole story.

readonly cache_dir="${ENCLAVE_WIREGUARD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/enclave-wireguard}"

# phase TEXT: one line of progress, with the seconds since the start.
phase() {
  printf '[%4ds] %s\n' "$SECONDS" "$*" >&2
}

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# run_logged COMMAND ARGUMENTS: output goes to the log; on failure its path and last lines are shown.
run_logged() {
  printf '\n+ %s\n' "$*" >>"$log_path"
  if "$@" >>"$log_path" 2>&1 </dev/null; then
    return
  fi
  printf 'error: this command went wrong: %s\n--- the last lines of %s\n' "$*" "$log_path" >&2
  tail -n 30 "$log_path" >&2
  exit 1
}

# require_packages FILE SECTION: stops with the command to run when Debian packages are missing.
require_packages() {
  local file=$1 section=$2 package missing=()
  while read -r package; do
    if [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
      missing+=("$package")
    fi
  done < <(awk -v s="[$section]" '/^\[/ {on = ($1 == s); next} on && NF && !/^#/ {print $1}' "$file")
  if [ ${#missing[@]} -gt 0 ]; then
    die "Debian packages are missing; install them with
  $([ "$(id -u)" = 0 ] || printf 'sudo ')apt-get install --no-install-recommends ${missing[*]}"
  fi
}

# artefact_key FILES: prints the hash of FILES, these two scripts, the compiler and the release.
artefact_key() {
  local file
  {
    # Contents and base names, not paths: the same inputs in another folder are the same artefact.
    for file in "$@" "${BASH_SOURCE[0]}" "$(dirname "${BASH_SOURCE[0]}")/archive.sh"; do
      printf '%s ' "$(basename "$file")"
      sha256sum <"$file"
    done
    gcc --version 2>/dev/null | head -n 1
    ld --version 2>/dev/null | head -n 1
    # What is linked dynamically on one release need not run on another.
    sed -n 's/^VERSION_ID=//p' /etc/os-release
  } | sha256sum | cut -c1-16
}

# artefact_begin KIND FILES: sets $artefact_dir.
artefact_begin() {
  local kind=$1 key
  shift
  artefact_inputs=("$@")
  key=$(artefact_key "$@")
  artefact_kind=$kind
  artefact_dir=$cache_dir/$kind/$key
  log_path=$cache_dir/$kind/$key.log
  mkdir -p "$cache_dir/$kind"
}

artefact_is_cached() {
  [ -d "$artefact_dir" ]
}

artefact_print() {
  printf '%s\n' "$artefact_dir"
}

# artefact_lock: one build of a kind at a time. Leaves $work_dir (scratch) and $out_dir (the coming artefact), both
# removed when the script ends.
artefact_lock() {
  exec 9>"$cache_dir/$artefact_kind/lock"
  if ! flock --nonblock 9; then
    phase "another build of the $artefact_kind runs: waiting for it"
    flock 9
  fi
  if artefact_is_cached; then
    artefact_print
    exit 0
  fi
  work_dir=$(mktemp -d "$cache_dir/$artefact_kind/.work.XXXXXX")
  out_dir=$work_dir/out
  mkdir "$out_dir"
  trap 'rm -rf "$work_dir"' EXIT
  trap 'exit 130' INT TERM HUP
  : >"$log_path"
}

# artefact_scratch KIND: $work_dir and $log_path for work that leaves no artefact.
artefact_scratch() {
  mkdir -p "$cache_dir/$1"
  work_dir=$(mktemp -d "$cache_dir/$1/.work.XXXXXX")
  log_path=$cache_dir/$1/scratch.log
  trap 'rm -rf "$work_dir"' EXIT
  trap 'exit 130' INT TERM HUP
  : >"$log_path"
}

artefact_publish() {
  # An input that was edited while the build ran may be in the result or not.
  [ "$(artefact_key "${artefact_inputs[@]}")" = "$(basename "$artefact_dir")" ] ||
    die "an input of the $artefact_kind changed while it was built: start again"
  chmod 755 "$out_dir"
  mv -T "$out_dir" "$artefact_dir"
  phase "done: $artefact_kind $(basename "$artefact_dir")"
  artefact_print
}

# pin_of FILE NAME: prints "VERSION SHA256" of NAME.
pin_of() {
  awk -v n="$2" '$1 == n {print $2, $3; found = 1} END {exit !found}' "$1" || die "$1 has no line for $2"
}

# fetch_pinned deb|dsc PIN_FILE NAME DIR: downloads what the pin names, checks its hash, prints its path.
fetch_pinned() {
  local kind=$1 pin_file=$2 name=$3 dir=$4 version sha256 file pin
  pin=$(pin_of "$pin_file" "$name")
  read -r version sha256 <<<"$pin"
  phase "fetch $name $version"
  file=$(archive_fetch "$kind" "$name" "$version" "$dir" 2>>"$log_path") || die "the mirror no longer has $name $version.
Move the pin to the newest version with
  $(dirname "$pin_file")/build.sh --repin
(or point the machine's apt sources at a mirror that keeps old versions). The log is $log_path"
  printf '%s  %s\n' "$sha256" "$file" | sha256sum --check --quiet >&2 ||
    die "$name $version: the mirror's file is not the one that $pin_file names"
  printf '%s\n' "$file"
}

# repin PIN_FILE: moves every line of a pin file to the newest version on the mirror; comments stay.
# Lines are `NAME VERSION SHA256 [KIND]`, KIND being deb (default) or dsc.
repin() {
  local pin_file=$1 line name version sha256 kind newest file
  while IFS= read -r line; do
    read -r name version sha256 kind <<<"$line"
    if [ -z "$name" ] || [ "${name#\#}" != "$name" ]; then
      printf '%s\n' "$line"
      continue
    fi
    newest=$(archive_newest "$name" "$([ "$kind" = dsc ] && echo showsrc || echo show)")
    [ -n "$newest" ] || die "the mirror has no $name"
    file=$(archive_fetch "${kind:-deb}" "$name" "$newest" "$work_dir/$name" 2>>"$log_path") || die "$name $newest cannot be fetched"
    sha256=$(sha256sum <"$file" | cut -d' ' -f1)
    if [ "$newest" = "$version" ]; then phase "$name stays at $version"; else phase "$name: $version -> $newest"; fi
    printf '%s\n' "$name $newest $sha256${kind:+ $kind}"
  done <"$pin_file" >"$work_dir/pin"
  cat "$work_dir/pin" >"$pin_file"
}
