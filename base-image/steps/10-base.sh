#!/bin/sh
step base 'minimal full' 'SSH server with keys only, git, sudo, rsync, cloud-init, guest agent, tmux, locale C.UTF-8'

set_up_base() {
  [ -z "${SWARM_APT_MIRROR:-}" ] || use_mirror
  # What the image does without when nothing has to be installed: then it needs no network.
  wanted='tmux growpart resize2fs'
  lacking=$(missing sshd git cloud-init qemu-ga sudo rsync)
  # shellcheck disable=SC2086  # One word a program.
  [ "$profile" = minimal ] || lacking="$lacking$(missing $wanted)"
  if [ -n "$lacking" ]; then install_base_packages; fi
  lacking=$(missing sshd git cloud-init qemu-ga sudo rsync)
  [ -z "$lacking" ] || die "still missing: $(echo "$lacking" | one_line)"
  # The first value that sshd reads holds, so this file comes before that of cloud-init.
  mkdir -p /etc/ssh/sshd_config.d
  rm -f /etc/ssh/sshd_config.d/90-agent-swarm.conf
  cat >/etc/ssh/sshd_config.d/10-agent-swarm.conf <<'CONF'
# No DNS lookup before the answer to a login.
UseDNS no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
AuthenticationMethods publickey
CONF
  turn_on ssh || turn_on sshd
  host_keys_without_cloud_init
  # PostgreSQL, for example, makes its databases in this locale.
  [ -s /etc/default/locale ] || { mkdir -p /etc/default && echo 'LANG=C.UTF-8' >/etc/default/locale; }
}

install_base_packages() {
  if command -v apt-get >/dev/null; then
    apt_install openssh-server git cloud-init qemu-guest-agent sudo rsync tmux cloud-guest-utils e2fsprogs
  elif command -v dnf >/dev/null; then
    dnf install -y openssh-server git-core cloud-init qemu-guest-agent sudo rsync tmux >&2
  else
    die "missing, and neither apt-get nor dnf can install it: $(echo "$lacking" | one_line)"
  fi
}

# Only this mirror from now on, in the machines too.
use_mirror() {
  case $(os_id) in
    debian) components=main keyring=/usr/share/keyrings/debian-archive-keyring.gpg ;;
    ubuntu) components='main universe' keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg ;;
    *) die 'SWARM_APT_MIRROR works on Debian and Ubuntu' ;;
  esac
  codename=$(os_codename)
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list.d/ubuntu.sources; do
    if [ -e "$file" ]; then mv "$file" "$file.disabled"; fi
  done
  sources "$SWARM_APT_MIRROR" "$codename $codename-updates" >/etc/apt/sources.list.d/agent-swarm.sources
  security=${SWARM_APT_SECURITY_MIRROR:-}
  [ -n "$security" ] || case $(os_id) in ubuntu) security=$SWARM_APT_MIRROR ;; esac
  if [ -n "$security" ]; then sources "$security" "$codename-security" >>/etc/apt/sources.list.d/agent-swarm.sources; fi
  mkdir -p /etc/cloud/cloud.cfg.d
  printf 'apt: {preserve_sources_list: true}\n' >/etc/cloud/cloud.cfg.d/91-agent-swarm-mirror.cfg
}

sources() {
  printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: %s\nSigned-By: %s\n\n' "$1" "$2" "$components" "$keyring"
}

# An empty /etc/machine-id is no first boot for systemd, so its own unit for host keys does not run, and where cloud-init is off
# nothing else makes them. With cloud-init there are keys already, and this costs nothing.
host_keys_without_cloud_init() {
  cat >/etc/systemd/system/swarm-host-key.service <<'UNIT'
[Unit]
Description=Make an SSH host key where there is none
After=cloud-init.service cloud-init-network.service
Before=ssh.service sshd.service
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key

[Install]
WantedBy=multi-user.target
UNIT
  turn_on swarm-host-key.service || true
}

prove_base() {
  # An image that is sealed has no host keys, and sshd -T wants one.
  ssh-keygen -q -t ed25519 -N '' -f "$work/key"
  mkdir -p /run/sshd
  "$(command -v sshd)" -T -h "$work/key" >"$work/sshd"
  for line in 'passwordauthentication no' 'kbdinteractiveauthentication no' 'permitrootlogin no' 'authenticationmethods publickey'; do
    grep -qix "$line" "$work/sshd" || { echo "sshd -T does not say \"$line\"" >&2; return 1; }
  done
  git init -q "$work/repository"
  git -C "$work/repository" -c user.name=verify -c user.email=verify@localhost commit -q --allow-empty -m 'verify'
  rsync -a "$work/repository/" "$work/copy/"
  [ "$(git -C "$work/copy" log --format=%s)" = verify ] || { echo 'git or rsync lost a commit' >&2; return 1; }
  sudo -n true
  cloud-init --version >/dev/null 2>&1
  lacking=$(missing tmux)
  echo "sshd takes keys only; a commit was made and copied; sudo and cloud-init run${lacking:+; tmux is missing}"
}
