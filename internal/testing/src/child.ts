import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundle } from './bundle.js';

const root = fileURLToPath(new URL('../../..', import.meta.url));

export interface ChildResult {
  /** Exit code; undefined when a signal ended it. */
  readonly code: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ChildOptions {
  /** Variables beside those of this process; undefined removes one. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Arguments of node itself. */
  readonly flags?: readonly string[];
  readonly timeoutMs?: number;
}

/** Runs TypeScript in a process of its own, on the packages' sources, and waits for its end. `code` may use top-level await. */
export async function runInChild(
  code: string,
  { env = {}, flags = [], timeoutMs = 60_000 }: ChildOptions = {},
): Promise<ChildResult> {
  const folder = mkdtempSync(join(tmpdir(), 'filigree-child-'));
  try {
    const file = join(folder, 'main.mjs');
    writeFileSync(file, await bundle(code, { platform: 'node', external: ['webgpu', '@huggingface/*'] }));
    return await finish(
      file,
      { FILIGREE_NATIVE_ADDON: join(root, 'packages/backend-native/native/filigree.node'), ...env },
      flags,
      timeoutMs,
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function finish(
  file: string,
  env: Readonly<Record<string, string | undefined>>,
  flags: readonly string[],
  timeout: number,
): Promise<ChildResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...flags, file], {
      env: { ...process.env, ...env },
      timeout,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    child.on('error', reject);
    child.on('close', (status) => {
      resolve({ code: status ?? undefined, stdout, stderr });
    });
  });
}
