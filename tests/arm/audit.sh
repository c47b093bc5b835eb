#!/usr/bin/env bash
# A run trained on this x86-64 machine is audited by ARM code: Debian's arm64 Python and PyTorch, and our kernels
# cross-compiled with NEON, under qemu. Exit 0 only if every audited step is bit-equal.
#
#   tests/arm/audit.sh [FOLDER]        FOLDER holds the arm64 userland, about 850 MB (default: build/arm64)
#
# The userland is fetched once, with apt and pip; the host's packages and architectures stay as they are.
set -euo pipefail

project=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "${1:-$project/build/arm64}"
root=$(cd "${1:-$project/build/arm64}" && pwd)
debian=$root/debian
host=$project/.venv/bin
torch=2.9.1 # Not the host's release: portable bits do not depend on it. The index's arm64 build is for CPUs alone.

fail() { echo "tests/arm/audit.sh: $*" >&2; exit 2; }

say() { printf '%4d s  %s\n' "$SECONDS" "$*"; }

check_tools() {
    local missing=()
    command -v qemu-aarch64-static > /dev/null || missing+=(qemu-user-static)
    command -v aarch64-linux-gnu-gcc > /dev/null || missing+=(gcc-aarch64-linux-gnu)
    [ -e /usr/aarch64-linux-gnu/include/stdio.h ] || missing+=(libc6-dev-arm64-cross)
    [ ${#missing[@]} = 0 ] || fail "missing: apt-get install ${missing[*]}"
    { command -v apt-get && command -v dpkg-deb; } > /dev/null ||
        fail "needs Debian's apt-get and dpkg-deb, to fetch an arm64 userland"
    [ -x "$host/pellucid" ] || fail "there is no .venv: make .venv/ready"
}

# Debian's arm64 Python with all it depends on, as apt resolves it for a machine on which nothing is installed.
fetch_debian() {
    local state=$debian/apt
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    touch "$state/status"
    local options=(-qq -o "Dir::State=$state" -o "Dir::State::status=$state/status" -o "Dir::Cache=$state/cache"
        -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root)
    apt-get "${options[@]}" update || fail "apt-get update for arm64 failed: see above"
    apt-get "${options[@]}" -y --no-install-recommends --download-only install \
        python3 libstdc++6 libgomp1 > /dev/null ||
        fail "apt could not fetch arm64's python3: see above"
    for package in "$state"/cache/archives/*.deb; do dpkg-deb -x "$package" "$debian"; done
    rm -rf "$state"
}

# The packages that requirements/ pins, as arm64 wheels. Without torch's own list, which a plain installation follows:
# on other platforms it names gigabytes of CUDA.
fetch_wheels() {
    local version=${python##*python} pinned
    pinned=$(grep -iE '^(sympy|mpmath|networkx|jinja2|markupsafe)==' "$project/requirements/lock.txt")
    # shellcheck disable=SC2086
    "$host/pip" install --quiet --disable-pip-version-check --no-deps --no-compile --only-binary=:all: \
        --implementation cp --python-version "$version" --platform manylinux_2_28_aarch64 \
        --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 --target "$root/site" \
        -r "$project/requirements/verify.txt" "torch==$torch" $pinned || fail "pip could not fetch the arm64 wheels"
}

# This folder's package with its kernels for ARM. The flags are setup.py's.
build_package() {
    rm -rf "$root/pellucid-src"
    mkdir "$root/pellucid-src"
    cp -r "$project/pellucid" "$root/pellucid-src"
    find "$root/pellucid-src" \( -name '_kernels*.so' -o -name '__pycache__' \) -prune -exec rm -rf {} +
    local folder=$root/pellucid-src/pellucid/kernels
    # shellcheck disable=SC2046
    aarch64-linux-gnu-gcc $(sed -n '/^FLAGS/,/^]/s/^ *"\(.*\)",/\1/p' "$project/setup.py") -fPIC -shared -pthread \
        -I"$folder/src" -o "$folder/_kernels.so" "$folder"/src/*.c
}

# Python for ARM. neoverse-n1: a real CPU without SVE, which qemu is slowest at.
arm() {
    env PYTHONHOME="$debian/usr" PYTHONPATH="$root/pellucid-src:$root/site" PYTHONNOUSERSITE=1 PYTHONSAFEPATH=1 \
        qemu-aarch64-static -cpu neoverse-n1 -L "$debian" "$python" "$@"
}

# Twelve steps of a model of a size that qemu can compute again in seconds.
make_release() {
    "$host/python" - "$root/corpus" <<'END'
import pathlib, random, sys
draw = random.Random(7)
words = "light through clear water shows every stone on the bed of the river where it bends naïve 東京".split()
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
for number in range(40):
    text = " ".join(draw.choice(words) + "." * (draw.random() < 0.1) for _ in range(300))
    (folder / f"{number:02}.txt").write_text(text + "\n", encoding="utf-8")
END
    "$host/pellucid" new "$root/release" --data "$root/corpus" --preset 1M --set model.layers=2 --set model.width=64 \
        --set model.heads=4 --set model.kv_heads=2 --set model.mlp_width=128 --set model.context=128 \
        --set tokenizer.vocabulary=512 --set data.validation_per_10000=1500 --set train.steps=12 --set train.batch=4 \
        --set train.microbatch=2 --set train.warmup=2 --set train.arithmetic=portable --set validation.every=12 \
        --set validation.tokens=500 --set checkpoints.every=6 \
        --set "placement.anchors={every = 5, powers_of_two = false}"
    "$host/pellucid" run "$root/release"
    "$host/pellucid" publish "$root/release"
}

check_tools
if [ ! "$root/ready" -nt "$project/requirements/verify.txt" ]; then
    say "fetching the arm64 userland into $root"
    rm -rf "$debian" "$root/site"
    mkdir "$debian"
    fetch_debian
    python=$(ls "$debian"/usr/bin/python3.[0-9]*)
    fetch_wheels
    touch "$root/ready" # Last: an interrupted fetch starts over.
fi
python=$(ls "$debian"/usr/bin/python3.[0-9]*)

say "compiling the kernels for ARM"
build_package
arm -c 'import platform, torch; print(platform.machine(), "torch", torch.__version__, (torch.ones(2) + 1).tolist())'
say "the kernels' own test on ARM"
for isa in neon scalar software; do
    arm - $isa <<'END'
import sys
from pellucid.kernels import library
kernels = library.load()
library.start(kernels, sys.argv[1], 2)
wrong = kernels.pellucid_self_test(1)
print(f"{sys.argv[1]}: " + (f"{wrong.decode()} has other bits" if wrong else "every operation has the golden bits"))
sys.exit(wrong is not None)
END
done

say "training on $(uname -m)"
rm -rf "$root/release" "$root/corpus"
make_release

say "verifying on ARM"
arm -m pellucid verify "$root/release"
say "auditing on ARM"
arm -m pellucid audit "$root/release" --step 3 --step 12 | tee "$root/audit.txt"
[ "$(grep -c '^audit: step [0-9]* bit-equal' "$root/audit.txt")" = 2 ] || fail "not every audited step is bit-equal"
say "steps 3 and 12, trained on $(uname -m), are bit-equal on ARM"
