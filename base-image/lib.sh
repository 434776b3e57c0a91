#!/bin/sh
# What the steps of a base image share. Sourced, or put in front of them by scripts.ts; does nothing by itself.
# Messages go to standard error; standard output has only the lines that a program reads.

# A folder for downloads, which main makes and removes.
DOWNLOADS=''
apt_is_updated=no
current_step=''
checksums=''
made_policy=no
names=''

# Each step's file registers itself: step NAME PROFILES SUMMARY
step() {
  names="$names $1"
  eval "profiles_$1=\$2 summary_$1=\$3"
}
# is_in WORD LIST
is_in() { case " $2 " in *" $1 "*) ;; *) return 1 ;; esac; }
profiles_of() { eval "echo \"\$profiles_$1\""; }
summary_of() { eval "echo \"\$summary_$1\""; }

say() { echo "setup-base.sh: $*" >&2; }

# die WHAT WAY_ON
die() {
  say "${current_step:+step $current_step: }$1"
  [ -z "${2:-}" ] || echo "  $2" >&2
  exit 1
}

missing() { for program in "$@"; do command -v "$program" >/dev/null 2>&1 || echo "$program"; done; }
one_line() { tr -s '[:space:][:cntrl:]' ' ' | sed 's/^ //; s/ $//' | cut -c1-300; }

# Whether systemd runs here. A chroot has none.
is_booted() { [ -d /run/systemd/system ]; }

# debian or ubuntu, 12, bookworm
# shellcheck source=/dev/null
os_id() { (. /etc/os-release && echo "$ID"); }
# shellcheck source=/dev/null
os_version() { (. /etc/os-release && echo "${VERSION_ID:-}"); }
# shellcheck source=/dev/null
os_codename() { (. /etc/os-release && echo "${VERSION_CODENAME:-}"); }

# amd64 or arm64
architecture() { dpkg --print-architecture; }

# ── Packages ──

# The source of the distribution's packages, for messages.
apt_source() { echo "${SWARM_APT_MIRROR:-the package mirror of this system (/etc/apt)}"; }

# run_apt WHAT WAY_ON ARGUMENTS...: its output goes to standard error, and at a failure its errors are repeated at the end.
run_apt() {
  what=$1 way_on=$2
  shift 2
  log=$DOWNLOADS/apt.log
  code=0
  # A system that has just booted may be installing its own updates.
  apt-get -q -y -o Acquire::Retries=2 -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1 || code=$?
  cat "$log" >&2
  [ "$code" = 0 ] || die "$what: $(grep -E '^(E|Err|W):' "$log" | tail -n 3 | one_line)" "$way_on"
}

# apt_update [FILE SOURCE VARIABLE]: the lists of all sources, or those of one file of sources.
apt_update() {
  if [ $# = 0 ]; then
    run_apt "$(apt_source) cannot be reached" \
      "Give a mirror that this machine reaches (SWARM_APT_MIRROR), or leave the step out: --skip $current_step" \
      -o APT::Update::Error-Mode=any update
    apt_is_updated=yes
  else
    run_apt "$2 cannot be used" "Another address of it: $3. Without the step: --skip $current_step" \
      -o APT::Update::Error-Mode=any -o "Dir::Etc::sourcelist=$1" -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0 update
  fi
}

# --no-remove: rustup and rustc, for example, would remove each other without a word.
apt_install() {
  [ "$apt_is_updated" = yes ] || apt_update
  run_apt "installing $* from $(apt_source)" \
    "Look at the lines of apt-get above. Another mirror: SWARM_APT_MIRROR. Without the step: --skip $current_step" \
    install --no-install-recommends --no-remove "$@"
}

# need PROGRAM... : installs the packages of the same names when programs are missing.
need() {
  lacking=$(missing "$@")
  # shellcheck disable=SC2086  # One word a program.
  [ -z "$lacking" ] || apt_install ca-certificates $lacking
}

# is_package NAME
is_package() {
  [ "$apt_is_updated" = yes ] || apt_update
  apt-cache show --no-all-versions "$1" >/dev/null 2>&1
}

# primary_keys OPTION...: fingerprints of keys that gpg lists with these options, without those of their subkeys. Anybody can make a
# key of their own that has the vendor's as its subkey.
primary_keys() {
  gpg --batch --no-autostart --homedir "$keys" --with-colons "$@" |
    awk -F: '/^pub/ { wanted = 1 } /^fpr/ && wanted { printf "%s ", $10; wanted = 0 }'
}

# add_repository NAME URL VARIABLE KEY_URL FINGERPRINTS SUITE: of the keys in the file, only those whose own fingerprint is listed are
# trusted, with their subkeys, and only for this repository.
add_repository() {
  list=/etc/apt/sources.list.d/agent-swarm-$1.list
  keyring=/etc/apt/keyrings/agent-swarm-$1.gpg
  need curl gpg
  fetch "$4" "$DOWNLOADS/$1.key" "$3"
  keys=$DOWNLOADS/$1.gnupg
  rm -rf "$keys"
  mkdir -m 700 "$keys"
  gpg --batch --quiet --no-autostart --homedir "$keys" --import "$DOWNLOADS/$1.key" >&2 ||
    die "$4 holds no key" "Give the address of the repository's key, or leave the step out: --skip $current_step"
  found=" $(primary_keys --list-keys)" trusted=''
  for fingerprint in $5; do
    case $found in *" $fingerprint "*) trusted="$trusted $fingerprint" ;; esac
  done
  [ -n "$trusted" ] || die "the key of $2 is not the expected one. Expected: $5. Found: $(echo "$found" | one_line)" \
    "Nothing was installed from it. Find out which key the vendor publishes now. Without the step: --skip $current_step"
  # shellcheck disable=SC2086  # One word a fingerprint.
  gpg --batch --no-autostart --homedir "$keys" --export $trusted >"$DOWNLOADS/$1.gpg"
  # gpg also exports each key that has a trusted one as its subkey.
  exported=$(primary_keys --show-keys "$DOWNLOADS/$1.gpg")
  for fingerprint in ${exported:-none}; do
    case "$trusted " in *" $fingerprint "*) continue ;; esac
    die "the file of keys of $2 has the key $fingerprint, which names an expected one as a part of itself" \
      "Nothing was installed from it. Somebody may have changed the file. Without the step: --skip $current_step"
  done
  mkdir -p /etc/apt/keyrings
  cp "$DOWNLOADS/$1.gpg" "$keyring"
  chmod 644 "$keyring"
  echo "deb [signed-by=$keyring] $2 $6 main" >"$list"
  apt_update "$list" "$2" "$3"
}

# ── Files ──

# fetch URL FILE VARIABLE
fetch() {
  code=0
  curl --fail --silent --show-error --location --retry 2 --connect-timeout 20 --max-time 1800 --output "$2" "$1" \
    2>"$DOWNLOADS/curl.log" || code=$?
  [ "$code" = 0 ] || die "$1 cannot be reached: $(one_line <"$DOWNLOADS/curl.log")" \
    "Give a mirror that this machine reaches ($3), or leave the step out: --skip $current_step"
}

# has_checksum FILE ALGORITHM HEX
has_checksum() { [ "$("${2}sum" "$1" | cut -d ' ' -f 1)" = "$3" ]; }

# check FILE NAME ALGORITHM HEX WHERE: HEX may be empty; then the operator must give it. --sha256 wins over what is pinned here.
check() {
  algorithm=$3 expected=$4
  given=$(given_checksum "$2")
  [ -z "$given" ] || { algorithm=sha256 expected=$given; }
  [ -n "$expected" ] || die "no checksum of the file of $2 is pinned here" "Give it: --sha256 $2=…. $5"
  has_checksum "$1" "$algorithm" "$expected" ||
    die "the file of $2 has another $algorithm checksum: expected $expected, got $("${algorithm}sum" "$1" | cut -d ' ' -f 1)" \
      "It was not installed. $5"
}

given_checksum() {
  for pair in $checksums; do
    case $pair in "$1="*) echo "${pair#*=}" ;; esac
  done
}

# npm publishes checksums as sha512-BASE64.
integrity_to_hex() { echo "${1#sha512-}" | base64 -d | od -An -v -tx1 | tr -d ' \n'; }

# ── Services ──

# attempt COMMAND...: runs it in a process of its own that ends at the first failure, and sets `code`. Not for conditions: there,
# the shell ignores failures inside.
attempt() {
  set +e
  (set -e; "$@")
  code=$?
  set -e
}

# In a chroot, nothing starts while packages are installed: the scripts of Debian's packages ask this file.
forbid_services() {
  is_booted || [ -e /usr/sbin/policy-rc.d ] || {
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    made_policy=yes
  }
}

# is_on UNIT: whether it starts at boot. turn_on leaves a unit alone that is on already: systemctl reads all units again after a
# change, which takes 20 seconds in a guest under emulation. turn_off is about the next boot alone.
is_on() { [ "$(systemctl is-enabled "$1" 2>/dev/null || true)" = enabled ]; }
turn_on() { is_on "$1" || systemctl enable "$1" >/dev/null 2>&1; }
turn_off() { ! is_on "$1" || systemctl --no-reload disable "$1" >/dev/null 2>&1; }

# until_answers SECONDS COMMAND...
until_answers() {
  tries=$(($1 * 2))
  shift
  while ! "$@" >/dev/null 2>&1; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || return 1
    sleep 0.5
  done
}
