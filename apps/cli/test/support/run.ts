import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { bundle } from '@filigree/testing';
import { afterAll } from 'vitest';
import { main, type CliIo, type StopSignal } from '../../src/index.js';

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  /** Without lines of progress: on a busy machine anything may take longer than a second. */
  readonly stderr: string;
}

function withoutProgress(stderr: string): string {
  return stderr.replaceAll(/^[^\n]* …\n/gm, '');
}

export interface RunOptions {
  readonly input?: string | Buffer;
  readonly env?: Readonly<Record<string, string>>;
  /** Gets a function that sends a stop signal, before the command runs. */
  readonly onStart?: (stop: (signal: StopSignal) => void) => void;
}

/** Runs a command line inside of this process. */
export async function run(args: readonly string[], { input = '', env = {}, onStart }: RunOptions = {}): Promise<Ended> {
  const stdout = new Collector();
  const stderr = new Collector();
  let handler: ((signal: StopSignal) => void) | undefined;
  const io: CliIo = {
    stdin: Readable.from([typeof input === 'string' ? Buffer.from(input) : input]),
    stdout,
    stderr,
    env,
    self: [process.execPath, bundlePath],
    onStopSignal(added) {
      handler = added;
      return () => {
        handler = undefined;
      };
    },
    exit(code) {
      throw new Error(`exit(${code}) inside of the test process`);
    },
  };
  onStart?.((signal) => handler?.(signal));
  const code = await main(args, io);
  return { code, stdout: stdout.text, stderr: withoutProgress(stderr.text) };
}

class Collector extends Writable {
  text = '';

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.text += chunk.toString('utf8');
    done();
  }
}

const folder = fileURLToPath(new URL('../../.cache/', import.meta.url));
const bundlePath = `${folder}filigree-${process.pid}.mjs`;
export const nativeAddon = fileURLToPath(new URL('../../../../packages/backend-native/native/filigree.node', import.meta.url));

const started = new Set<ChildProcess>();

afterAll(() => {
  rmSync(bundlePath, { force: true });
  // Those of tests that failed half-way.
  for (const child of started) child.kill('SIGKILL');
});

/** Writes the command line as one module, from the sources, for tests of the real process. */
export async function bundleCli(): Promise<string> {
  const code = await bundle(
    `import { main } from '../../apps/cli/src/index.ts';
     process.exitCode = await main(process.argv.slice(2));`,
    { platform: 'node', external: ['webgpu', 'commander', 'cli-progress', 'cli-table3'] },
  );
  mkdirSync(folder, { recursive: true });
  writeFileSync(
    bundlePath,
    `import { createRequire as createRequireHere } from 'node:module';\nconst require = createRequireHere(import.meta.url);\n${code}`,
  );
  return bundlePath;
}

/** Starts the program as a process of its own; {@link bundleCli} goes before. */
export function start(args: readonly string[], env: Readonly<Record<string, string>> = {}): ChildProcess {
  const child = spawn(process.execPath, [bundlePath, ...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, FILIGREE_NATIVE_ADDON: nativeAddon, ...env },
  });
  started.add(child);
  child.on('close', () => started.delete(child));
  return child;
}

/** Runs the program as a process of its own to its end. */
export async function runProcess(args: readonly string[], { input = '', env = {} }: RunOptions = {}): Promise<Ended> {
  const child = start(args, env);
  child.stdin?.end(input);
  return ended(child);
}

export function ended(child: ChildProcess): Promise<Ended> {
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  return new Promise((resolve) => {
    child.on('close', (code) => {
      resolve({ code, stdout, stderr: withoutProgress(stderr) });
    });
  });
}
