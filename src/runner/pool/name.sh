# shellcheck shell=sh
# Gives the machine its name, as root. Set beforehand: name.

: "${name:?}"
printf '%s\n' "$name" >/etc/hostname
hostname "$name"
# Without this line sudo waits for a resolver.
if grep -q '^127\.0\.1\.1[[:space:]]' /etc/hosts; then
  sed -i "s/^127\.0\.1\.1[[:space:]].*/127.0.1.1 $name/" /etc/hosts
else
  printf '127.0.1.1 %s\n' "$name" >>/etc/hosts
fi
