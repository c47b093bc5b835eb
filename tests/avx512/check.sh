#!/usr/bin/env bash
# The kernels' self-test with AVX-512, on an emulated CPU: exit 0 if every operation has the golden bits.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
sources=$here/../../pellucid/kernels/src
program=$(mktemp)
trap 'rm -f "$program"' EXIT

# The flags are setup.py's.
gcc -O3 -std=gnu11 -fno-fast-math -ffp-contract=off -fno-math-errno -fno-trapping-math -static -pthread \
    -I"$sources" -o "$program" "$here/selftest.c" "$sources"/*.c -lm
"$here/run.sh" "$program" avx512 "${1:-2}"
