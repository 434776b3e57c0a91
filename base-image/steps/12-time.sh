#!/bin/sh
step time 'minimal full' 'A time client: a clock that went wrong, for example while the host slept, comes right by itself'

# The unit of the client that is there, systemd-timesyncd or chrony; nothing without one.
time_unit() {
  if [ -n "$(missing chronyd)" ]; then
    for folder in /usr/lib/systemd /lib/systemd; do
      if [ -x "$folder/systemd-timesyncd" ]; then echo systemd-timesyncd; return; fi
    done
    return
  fi
  # Debian's unit is named after the package, that of Fedora after the program.
  if command -v apt-get >/dev/null; then echo chrony; else echo chronyd; fi
}

set_up_time() {
  if [ -z "$(time_unit)" ]; then
    if command -v apt-get >/dev/null; then apt_install systemd-timesyncd
    elif command -v dnf >/dev/null; then dnf install -y chrony >&2
    else die 'no time client, and neither apt-get nor dnf can install one' 'Install chrony or systemd-timesyncd in the image first, or leave the step out: --skip time'
    fi
  fi
  unit=$(time_unit)
  [ -n "$unit" ] || die 'still no time client'
  systemctl enable "$unit" >/dev/null 2>&1
}

prove_time() {
  unit=$(time_unit)
  [ -n "$unit" ] || { echo 'no time client' >&2; return 1; }
  if is_booted; then
    [ "$(systemctl is-active "$unit" 2>/dev/null || true)" = active ] || { echo "$unit does not run" >&2; return 1; }
    echo "$unit runs"
  else
    echo "$unit is there, and starts at boot"
  fi
}
