#!/usr/bin/env bash
# Installs the npm package onnxruntime-node, which carries its CPU libraries, as a peer of suite `kernels`, and protobufjs, which writes the
# models it runs: into DIR, by default .cache/peers/onnxruntime of the clone. Does nothing if they are there. Runs no install scripts: the
# one of onnxruntime-node would fetch libraries for GPUs.
set -euo pipefail

onnxruntime=1.30.0
protobufjs=8.8.1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=${1:-$here/../../../.cache/peers/onnxruntime}
installed() { [ -f "$dir/node_modules/$1/package.json" ] && grep -q "\"version\": \"$2\"" "$dir/node_modules/$1/package.json"; }
if ! installed onnxruntime-node "$onnxruntime" || ! installed protobufjs "$protobufjs"; then
  mkdir -p "$dir"
  echo '{ "private": true, "type": "module" }' >"$dir/package.json"
  npm --prefix "$dir" install --ignore-scripts --no-audit --no-fund --loglevel=error \
    "onnxruntime-node@$onnxruntime" "protobufjs@$protobufjs" >&2
fi
cd "$dir" && pwd
