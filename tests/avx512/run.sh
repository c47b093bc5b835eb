#!/usr/bin/env bash
# Runs a static x86-64 Linux program on an emulated CPU with AVX-512 (bochs, Skylake-X), for machines without one.
#
#   tests/avx512/run.sh PROGRAM [ARGUMENTS]
#
# Boots Debian's kernel with the program as its only one. Prints what the program prints (both streams) and the line
# `exit N`; exits with N. There are no files but /program, /proc and /dev. Two threads share one emulated core.
# Roughly 50 million instructions a second: tests/avx512/probe.c measures.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${AVX512_CACHE:-$here/../../build/avx512}
seconds=${AVX512_SECONDS:-1800}
megabytes=${AVX512_MEGABYTES:-512}

fail() { echo "tests/avx512/run.sh: $*" >&2; exit 2; }

[ $# -ge 1 ] || fail "give a static program: run.sh PROGRAM [ARGUMENTS]"
[ -x "$1" ] || fail "$1 is not an executable file"
[ "$(uname -m)" = x86_64 ] || fail "needs an x86-64 machine to build and boot on"
missing=()
need() { [ -e "$1" ] || missing+=("$2"); }
need /usr/bin/bochs bochs
need /usr/share/bochs/BIOS-bochs-latest bochsbios
need /usr/share/bochs/VGABIOS-lgpl-latest vgabios
need /usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_term_gui.so bochs-term
need /usr/lib/ISOLINUX/isolinux.bin isolinux
need /usr/lib/syslinux/modules/bios/ldlinux.c32 syslinux-common
need /usr/bin/xorriso xorriso
need /usr/bin/cpio cpio
need /usr/bin/gcc gcc
need /usr/bin/dpkg-deb dpkg
[ ${#missing[@]} = 0 ] || fail "missing: apt-get install --no-install-recommends ${missing[*]}"

# Once: the kernel, unpacked and not installed, and /init. The marker is written last.
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
if [ ! -e "$cache/ready" ] || [ "$here/init.c" -nt "$cache/ready" ]; then
    package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/ {print $2; exit}')
    [ -n "$package" ] || fail "apt knows no linux-image-cloud-amd64: apt-get update"
    rm -rf "$cache/package" && mkdir "$cache/package"
    (cd "$cache/package" && apt-get -qq -o APT::Sandbox::User=root download "$package") ||
        fail "could not download $package"
    dpkg-deb -x "$cache"/package/*.deb "$cache/package"
    cp "$cache"/package/boot/vmlinuz-* "$cache/linux"
    rm -rf "$cache/package"
    gcc -O2 -Wall -static -o "$cache/init" "$here/init.c"
    touch "$cache/ready"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/root" "$work/root/proc" "$work/root/dev" "$work/disc"
cp "$cache/init" "$work/root/init"
cp "$1" "$work/root/program"
chmod 755 "$work/root/program"
printf '%s\0' "$@" > "$work/root/words"
(cd "$work/root" && find . | cpio --quiet -o -H newc) > "$work/disc/initrd"
cp "$cache/linux" /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$work/disc"

# What the kernel is told, mostly so that it boots in seconds:
# - clearcpuid: bochs and Linux disagree about the size of the compacted XSAVE area; without it, plain XSAVE is used.
#   With the disagreement the kernel turns AVX off altogether.
# - tsc_early_khz: the emulated clock's true rate (ips below); the CPU model claims 3.5 GHz, and waits would take ages.
# - panic, reboot: a panic ends in a triple fault, and that ends bochs.
# - the rest: no self-tests, tables of tracepoints, certificates or devices that nobody here uses.
words="console=ttyS0 quiet panic=-1 reboot=t,force clearcpuid=xsavec,xsaves,aperfmperf tsc_early_khz=20000 nokaslr"
words="$words mitigations=off nolapic acpi=off pci=off cryptomgr.notests"
words="$words initcall_blacklist=load_system_certificate_list,trace_eval_init,init_kprobe_trace,cubictcp_register"
printf 'DEFAULT run\nPROMPT 0\nLABEL run\nKERNEL linux\nINITRD initrd\nAPPEND %s\n' "$words" > "$work/disc/isolinux.cfg"
xorriso -as mkisofs -quiet -o "$work/disc.iso" -b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 \
    -boot-info-table "$work/disc" 2> "$work/xorriso.log" || fail "xorriso: $(cat "$work/xorriso.log")"

cat > "$work/bochsrc" <<END
cpu: model=corei7_skylake_x, count=1, ips=20000000, reset_on_triple_fault=0
megs: $megabytes
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path=$work/disc.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$work/kernel
com2: enabled=1, mode=file, dev=$work/output
log: $work/log
panic: action=fatal
clock: sync=none
display_library: term
plugin_ctrl: speaker=0, parallel=0, gameport=0
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
END
# Debian's bochs starts in its debugger, which must be told to continue; its text screen wants a terminal, which
# script pretends. bochs ends with code 1 after a shutdown: only the program's last line counts.
echo c > "$work/go"
TERM=vt100 script -qec "timeout --foreground -k 1 $seconds bochs -q -f $work/bochsrc -rc $work/go" /dev/null \
    < /dev/null > "$work/screen" 2>&1 || true

touch "$work/output"
tr -d '\r' < "$work/output"
code=$(tr '\r\n' ' ;' < "$work/output" | sed -nE 's/^(.*;)?exit ([0-9]+) *;$/\2/p')
[ -n "$code" ] && exit "$code"
tail -n 20 "$work/kernel" >&2 || true
tail -n 5 "$work/log" >&2 || true
fail "the emulated machine stopped (or $seconds s were over: AVX512_SECONDS) before the program ended"
