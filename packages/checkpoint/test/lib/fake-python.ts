import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** A package index in a folder, and an interpreter whose `-m pip download` takes wheels from it. */
export interface FakePython {
  /** Path of the interpreter. */
  readonly python: string;
  readonly log: string;
  /** Adds a package; `requirement` is "name==version". */
  put(requirement: string, wheel: Uint8Array): Promise<void>;
}

/**
 * Stands in for pip where its failures are to be seen: `behaviour` is shell script that runs before the download, with the
 * requirement in $requirement and the folder for wheels in $dest.
 */
export async function fakePython(folder: string, behaviour = ''): Promise<FakePython> {
  const index = join(folder, 'index');
  const log = join(folder, 'log');
  await mkdir(index);
  const python = join(folder, 'python3');
  const script = `#!/bin/sh
for argument in "$@"; do
  case "$argument" in --dest=*) dest="\${argument#--dest=}" ;; esac
  requirement="$argument"
done
echo "$@" >> '${log}'
${behaviour}
if [ ! -f '${index}'/"$requirement" ]; then
  echo "ERROR: No matching distribution found for $requirement" >&2
  exit 1
fi
mkdir -p "$dest"
cp '${index}'/"$requirement" "$dest/package-1-py3-none-any.whl"
`;
  await writeFile(python, script);
  await chmod(python, 0o755);
  return { python, log, put: (requirement, wheel) => writeFile(join(index, requirement), wheel) };
}
