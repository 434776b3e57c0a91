# shellcheck shell=sh
# Makes the random numbers of a guest new whose memory other guests have as well. `fresh`: random bytes in base64. Put in front of
# other scripts.

: "${fresh?}"

seed() { printf %s "$fresh" | base64 -d; }

# RNDADDENTROPY puts the bytes into the kernel's pool, RNDRESEEDCRNG makes /dev/urandom begin anew with it. Without a program that
# can call them, the pool takes the bytes at its next reseed, within minutes.
reseed() {
  if seed | perl -e 'local $/; my $b = <STDIN>; open(my $r, "+<", "/dev/urandom") or exit 1;
    ioctl($r, 0x40085203, pack("iia*", 8 * length $b, length $b, $b)) or exit 1; ioctl($r, 0x5207, 0) or exit 1' 2>/dev/null ||
    seed | python3 -c 'import fcntl, os, struct, sys
b = sys.stdin.buffer.read()
r = os.open("/dev/urandom", os.O_RDWR)
fcntl.ioctl(r, 0x40085203, struct.pack("ii", 8 * len(b), len(b)) + b)
fcntl.ioctl(r, 0x5207)' 2>/dev/null; then
    echo 'random reseeded'
  elif seed 2>/dev/null >/dev/urandom; then
    echo 'random mixed'
  else
    echo 'random failed'
  fi
}
