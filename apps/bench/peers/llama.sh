#!/usr/bin/env bash
# Builds the peer of suite `llama` and of the parity scripts: llama.cpp's own tools for this CPU, and llama-logits, a small program beside
# this file that writes the logits of given tokens. The source is the one inside the sdist of the Python package llama-cpp-python, so that
# pip is all that is needed to get it. About four minutes on two cores. Needs python3 with pip, cmake, ninja and a C++ compiler.
#
#   llama.sh [DIR]           leaves the programs in DIR/bin (default .cache/peers/llama of the clone); does nothing if they are there
#   CPU=avx2 llama.sh [DIR]  the same without AVX-512, to compare AVX2 paths with (default .cache/peers/llama-avx2)
set -euo pipefail

version=0.3.36
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cpu=${CPU:-native}
case "$cpu" in
  native) native=ON suffix= ;;
  avx2) native=OFF suffix=-avx2 ;; # ggml's own default: AVX2, FMA, F16C, BMI2
  *) echo "llama.sh: CPU is native or avx2, not $cpu" >&2; exit 1 ;;
esac
dir=${1:-$here/../../../.cache/peers/llama$suffix}
tools=(llama-bench llama-perplexity llama-quantize llama-tokenize llama-logits)

missing=0
for tool in "${tools[@]}"; do [ -x "$dir/bin/$tool" ] || missing=1; done
if [ "$missing" = 0 ]; then
  echo "$dir/bin"
  exit 0
fi
for program in python3 cmake ninja c++; do
  command -v "$program" >/dev/null || { echo "llama.sh: needs $program, which was not found" >&2; exit 1; }
done

mkdir -p "$dir/bin"
dir=$(cd "$dir" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "llama.sh: fetching llama-cpp-python $version" >&2
python3 -m venv "$work/venv"
# The build backend is there only because pip prepares metadata of a source package before it hands the package over.
"$work/venv/bin/pip" -q install scikit-build-core
"$work/venv/bin/pip" -q download --no-deps --no-build-isolation --no-binary llama-cpp-python -d "$work" "llama-cpp-python==$version"
tar -xzf "$work/llama_cpp_python-$version.tar.gz" -C "$work"

echo "llama.sh: building ${tools[*]}" >&2
log="$dir/build.log"
if ! {
  cmake -S "$here/llama" -B "$work/build" -G Ninja -DLLAMA_SOURCE="$work/llama_cpp_python-$version/vendor/llama.cpp" \
    -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=$native -DBUILD_SHARED_LIBS=OFF -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF \
    -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_TOOLS=ON -DLLAMA_BUILD_COMMON=ON &&
    ninja -C "$work/build" "${tools[@]}"
} >"$log" 2>&1; then
  tail -n 30 "$log" >&2
  echo "llama.sh: the build failed; its log is $log" >&2
  exit 1
fi
for tool in "${tools[@]}"; do
  cp "$(find "$work/build" -type f -name "$tool" -perm -u+x | head -n 1)" "$dir/bin/"
done
echo "$dir/bin"
