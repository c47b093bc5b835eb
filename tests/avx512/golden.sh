#!/usr/bin/env bash
# Every operation's golden digest with AVX-512, on an emulated CPU that has it.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)
mkdir -p "$project/build/avx512"
program=$project/build/avx512/golden
sources=$project/pellucid/kernels/src
# shellcheck disable=SC2046
gcc $(sed -n '/^FLAGS/,/^]/s/^ *"\(.*\)",/\1/p' "$project/setup.py") -static -pthread -I"$sources" \
    -o "$program" "$sources"/*.c "$project/tests/kernels/golden.c"
"$here/run.sh" "$program" quick avx512 1
"$here/run.sh" "$program" avx512 2
