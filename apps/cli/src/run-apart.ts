import { AbortError } from '@filigree/core-tensor';
import { spawn } from 'node:child_process';
import { ChildProcessError } from './errors.js';
import type { CliIo } from './io.js';

/**
 * Runs a command of this program in a process of its own and resolves with the JSON that it prints: what it measures of memory is its own.
 */
export async function runApart(args: readonly string[], { self, env }: CliIo, signal: AbortSignal): Promise<unknown> {
  const [executable, ...first] = self;
  const child = spawn(executable, [...first, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...env } });
  const stop = (): void => {
    child.kill('SIGTERM');
  };
  signal.addEventListener('abort', stop, { once: true });
  try {
    const { code, stdout, stderr } = await outcome(child);
    if (signal.aborted) throw new AbortError();
    if (code !== 0) throw new ChildProcessError(`"${args[0]}" ended with ${code}: ${stderr.trim()}`);
    return JSON.parse(stdout) as unknown;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

function outcome(child: ReturnType<typeof spawn>): Promise<{ code: string | number; stdout: string; stderr: string }> {
  const text = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name]?.setEncoding('utf8').on('data', (chunk: string) => (text[name] += chunk));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, killed) => {
      resolve({ code: code ?? killed ?? 'no code', ...text });
    });
  });
}
