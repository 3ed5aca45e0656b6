import { spawn } from 'node:child_process';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { AbortError, throwIfAborted } from '@filigree/core-tensor';
import { PipError } from '../errors.js';

/** One call of pip. */
export interface PipDownload {
  readonly packages: readonly string[];
  /** Where the wheels go. */
  readonly folder: string;
  /** Where pip keeps what is on its way. */
  readonly temporary: string;
  readonly python: string | undefined;
  readonly signal: AbortSignal | undefined;
  /** Bytes that have come. */
  readonly onBytes: (done: number) => void;
}

const pollMs = 250;
/** Of what pip prints, enough for its reasons. */
const maxOutput = 16_384;

/** Downloads the wheels of packages, without what they depend on, and resolves to their paths in the order of `packages`. */
export async function pipDownload(options: PipDownload): Promise<string[]> {
  const wheels: string[] = [];
  for (const [index, name] of options.packages.entries()) {
    // A folder of its own for each: the names of wheels do not sort as the packages were given.
    const folder = join(options.folder, String(index));
    await runPip(options, name, folder);
    const found = (await readdir(folder)).filter((file) => file.endsWith('.whl'));
    if (found.length !== 1) throw new PipError('failed', `${name}: pip left ${found.length} wheels where one was expected`);
    wheels.push(join(folder, found[0]));
  }
  return wheels;
}

async function runPip(options: PipDownload, name: string, folder: string): Promise<void> {
  const candidates = options.python === undefined ? ['python3', 'python'] : [options.python];
  const reasons: string[] = [];
  for (const python of candidates) {
    const outcome = await run(python, options, name, folder);
    if (outcome.code === 0) return;
    if (outcome.missing === undefined && !/No module named pip/.test(outcome.output)) throw failure(name, outcome);
    reasons.push(`${python}: ${outcome.missing ?? 'it has no pip'}`);
  }
  throw new PipError(
    'unavailable',
    `${name}: there is no Python with pip here (${reasons.join('; ')}); install python3 and pip`,
  );
}

interface Outcome {
  readonly code: number | null;
  /** The end of what was printed. */
  readonly output: string;
  /** Why the interpreter could not be started. */
  readonly missing?: string;
}

function run(python: string, options: PipDownload, name: string, folder: string): Promise<Outcome> {
  const { signal, temporary } = options;
  throwIfAborted(signal);
  const flags = ['--no-deps', '--only-binary=:all:', '--no-cache-dir', '--disable-pip-version-check', '--progress-bar=off'];
  const patience = ['--no-input', '--retries=2', '--timeout=20'];
  return new Promise((resolve, reject) => {
    const child = spawn(python, ['-m', 'pip', 'download', ...flags, ...patience, `--dest=${folder}`, name], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, TMPDIR: temporary, TEMP: temporary, TMP: temporary },
    });
    let output = '';
    const collect = (text: unknown) => {
      output = (output + String(text)).slice(-maxOutput);
    };
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    const poll = setInterval(() => void bytesIn([options.folder, temporary]).then(options.onBytes), pollMs);
    const stop = () => child.kill();
    signal?.addEventListener('abort', stop, { once: true });
    const finish = (outcome: Outcome) => {
      clearInterval(poll);
      signal?.removeEventListener('abort', stop);
      if (signal?.aborted) reject(new AbortError(undefined, { cause: signal.reason }));
      else resolve(outcome);
    };
    child.on('error', (error) => {
      finish({ code: null, output, missing: 'code' in error ? String(error.code) : error.message });
    });
    child.on('close', (code) => {
      finish({ code, output });
    });
  });
}

function failure(name: string, { code, output }: Outcome): PipError {
  const lines = output.split('\n').filter((line) => line.trim() !== '');
  const said = lines.findLast((line) => line.startsWith('ERROR')) ?? lines.at(-1) ?? `exit code ${code}`;
  if (/No space left on device|Errno 28/.test(output)) return new PipError('disk-full', `${name}: the disk is full (${said})`);
  // With a dead connection pip ends with "no matching distribution" as well.
  if (/Retrying \(|NewConnectionError|ConnectTimeout|ReadTimeout|NameResolution|Max retries exceeded/.test(output))
    return new PipError('unreachable', `${name}: pip cannot reach its package index (${said})`);
  if (/No matching distribution/.test(output)) return new PipError('not-found', `${name}: no such package (${said})`);
  return new PipError('failed', `${name}: pip failed (${said})`);
}

/** Bytes of all files below some folders, some of which may be on the move. */
async function bytesIn(folders: readonly string[]): Promise<number> {
  let total = 0;
  for (const folder of folders) {
    const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      if (!entry.isFile()) continue;
      total += await stat(join(entry.parentPath, entry.name)).then(
        ({ size }) => size,
        () => 0,
      );
    }
  }
  return total;
}
