# shellcheck shell=bash
# A private view of the Debian archive: any release of it, through the machine's own mirrors, with lists, state and
# cache in a folder of ours. Nothing of the system is read but its mirror addresses, proxies and the archive's keyring;
# nothing of the system is written.
#
# Needs phase() and die() (artefact.sh).

# archive_mirrors main|security: prints the addresses of the machine's mirrors, the likeliest first.
#
# apt parses its own two formats of sources; what it would fetch first is `ADDRESS/dists/SUITE/InRelease`.
archive_mirrors() {
  local which=$1 codename
  codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
  apt-get update --print-uris -o Debug::NoLocking=true -o Dir::State::lists=/nonexistent 2>/dev/null |
    sed -nE "s#^'([^']+)/dists/([^']+)/InRelease' .*#\1 \2#p" |
    case $which in
    security) awk '$2 ~ /(-security|\/updates)$/ && !seen[$1]++ {print $1}' ;;
    # Other archives have suites named after Debian's releases too, but no "-updates": those that have it go first.
    main) awk -v c="$codename" '
      $2 == c "-updates" || $2 == "stable-updates" || $2 == "testing-updates" {first[$1] = 1}
      $2 == c || $2 == "stable" || $2 == "testing" || $2 == "sid" {if (!seen[$1]++) order[++n] = $1}
      END {
        for (i = 1; i <= n; i++) if (order[i] in first) print order[i]
        for (i = 1; i <= n; i++) if (!(order[i] in first)) print order[i]
      }' ;;
    esac
}

archive_keyring() {
  local file
  for file in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do
    if [ -r "$file" ]; then
      printf '%s' "$file"
      return
    fi
  done
  die "no keyring of the Debian archive; apt-get install debian-archive-keyring"
}

# archive_sources RELEASE MAIN SECURITY: prints the sources.list of RELEASE, binary and source packages.
archive_sources() {
  local release=$1 main=$2 security=$3 keyring type
  keyring=$(archive_keyring)
  for type in deb deb-src; do
    printf '%s [signed-by=%s] %s %s main\n' "$type" "$keyring" "$main" "$release"
    printf '%s [signed-by=%s] %s %s-updates main\n' "$type" "$keyring" "$main" "$release"
    if [ -n "$security" ]; then
      printf '%s [signed-by=%s] %s %s-security main\n' "$type" "$keyring" "$security" "$release"
    fi
  done
}

# archive_open DIR RELEASE: makes DIR a private apt folder for RELEASE and brings its lists up to date.
# Afterwards archive_apt runs any apt program on it.
archive_open() {
  local dir=$1 release=$2 main security
  ARCHIVE_DIR=$dir
  mkdir -p "$dir"/{lists/partial,state,cache/archives/partial,parts}
  cat >"$dir/apt.conf" <<CONF
Dir::State "$dir/state";
Dir::State::lists "$dir/lists";
Dir::State::status "$dir/status";
Dir::State::extended_states "$dir/state/extended_states";
Dir::Cache "$dir/cache";
Dir::Etc::sourcelist "$dir/sources.list";
Dir::Etc::sourceparts "$dir/parts";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "$dir/parts";
APT::Architecture "amd64";
APT::Architectures "amd64";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Default-Release;
CONF
  : >"$dir/status"
  security=$(archive_mirrors security | head -n 1)
  [ -n "$security" ] || phase "no *-security entry in the machine's apt sources: using its main mirror alone"
  for main in $(archive_mirrors main); do
    archive_sources "$release" "$main" "$security" >"$dir/sources.list"
    phase "read the package lists of Debian $release from $main"
    if archive_apt apt-get update -qq -o APT::Update::Error-Mode=any >"$dir/update.log" 2>&1; then
      return
    fi
  done
  tail -n 30 "$dir/update.log" >&2 || true
  die "no mirror in the machine's apt sources has Debian $release"
}

# archive_apt PROGRAM ARGUMENTS: a private apt. Its file is given by -c, not by APT_CONFIG, because only what comes
# after the system's own files can take back the hooks in them.
archive_apt() {
  local program=$1
  shift
  "$program" -c "$ARCHIVE_DIR/apt.conf" "$@"
}

# archive_newest PACKAGE [showsrc]: prints the newest version of a binary (or source) package.
archive_newest() {
  local package=$1 kind=${2:-show}
  case $kind in
  show) archive_apt apt-cache show --no-all-versions "$package" | sed -n 's/^Version: //p' | head -n 1 ;;
  showsrc)
    archive_apt apt-cache showsrc --only-source "$package" | sed -n 's/^Version: //p' |
      {
        newest=
        while read -r version; do
          if [ -z "$newest" ] || dpkg --compare-versions "$version" gt "$newest"; then newest=$version; fi
        done
        printf '%s\n' "$newest"
      }
    ;;
  esac
}

# archive_fetch deb|dsc PACKAGE VERSION DIR: downloads a package into DIR (a source package with all its files) and
# prints the path of the .deb or .dsc. Fails if the mirror no longer has this version.
archive_fetch() {
  local kind=$1 package=$2 version=$3 dir=$4 file
  mkdir -p "$dir"
  case $kind in
  deb) (cd "$dir" && archive_apt apt-get download -qq "$package=$version" >&2) || return 1 ;;
  dsc) (cd "$dir" && archive_apt apt-get source -qq --download-only --only-source "$package=$version" >&2) || return 1 ;;
  esac
  for file in "$dir/$package"_*."$kind"; do
    if [ -f "$file" ]; then
      printf '%s\n' "$file"
      return
    fi
  done
  return 1
}
