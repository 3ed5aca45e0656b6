#!/usr/bin/env bash
# Installs the npm package node-llama-cpp with its prebuilt CPU addon, as a peer of suite `llama`: into DIR, by default
# .cache/peers/node-llama-cpp of the clone. Does nothing if it is there. Runs no install scripts.
set -euo pipefail

version=3.22.1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=${1:-$here/../../../.cache/peers/node-llama-cpp}
installed="$dir/node_modules/node-llama-cpp/package.json"
if ! [ -f "$installed" ] || ! grep -q "\"version\": \"$version\"" "$installed"; then
  platform=$(node -p '`${process.platform === "darwin" ? "mac" : process.platform}-${process.arch}${process.platform === "darwin" && process.arch === "arm64" ? "-metal" : ""}`')
  mkdir -p "$dir"
  echo '{ "private": true, "type": "module" }' >"$dir/package.json"
  npm --prefix "$dir" install --ignore-scripts --omit=optional --no-audit --no-fund --loglevel=error \
    "node-llama-cpp@$version" "@node-llama-cpp/$platform@$version" >&2
fi
cd "$dir" && pwd
