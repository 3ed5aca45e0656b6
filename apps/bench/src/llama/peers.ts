import { join } from 'node:path';
import { cpuPath } from '../measure/cpu.js';
import { appRoot } from '../measure/paths.js';
import { runProgram } from '../measure/run-program.js';
import type { SpeedWork } from './speed-test.js';

/** A program that does the same work on the same file; resolves with tokens per second. */
export interface Peer {
  readonly name: string;
  measure(work: SpeedWork): Promise<number>;
}

/**
 * Folder of llama.cpp's programs. Without a given one they are built when they are not there: for this CPU into .cache/peers/llama, and
 * without AVX-512 into .cache/peers/llama-avx2 when ours is held to AVX2.
 */
export async function llamaFolder(given: string | undefined): Promise<string> {
  if (given !== undefined) return given;
  const env = { CPU: cpuPath() === 'avx2' ? 'avx2' : 'native' };
  return (await runProgram(join(appRoot, 'peers/llama.sh'), [], { env })).trim();
}

interface LlamaBenchRun {
  readonly avg_ts: number;
}

/** llama.cpp's own benchmark, from that folder. */
export function llamaBench(bin: string): Peer {
  return {
    name: 'llama-bench',
    async measure({ path, threads, test: { phase, tokens, context } }) {
      const sizes = [
        '-p',
        phase === 'prefill' ? tokens : 0,
        '-n',
        phase === 'decode' ? tokens : 0,
        '-d',
        context,
        '-t',
        threads,
      ];
      const args = ['-m', path, ...sizes.map(String), '-fa', '1', '-r', '1', '-o', 'json'];
      const runs = JSON.parse(await runProgram(join(bin, 'llama-bench'), args, { quiet: true })) as LlamaBenchRun[];
      return runs.at(0)?.avg_ts ?? NaN;
    },
  };
}

/** The npm package that a JavaScript user would pick today; installed into .cache/peers when absent. */
export async function nodeLlamaCpp(): Promise<Peer> {
  const folder = (await runProgram(join(appRoot, 'peers/node-llama-cpp.sh'), [])).trim();
  return {
    name: 'node-llama-cpp',
    async measure({ path, threads, text, test }) {
      const options = JSON.stringify({ model: path, threads, text, test });
      const output = await runProgram(process.execPath, [join(appRoot, 'peers/node-llama-cpp.mjs'), folder, options], {
        quiet: true,
      });
      const { milliseconds } = JSON.parse(output.trim().split('\n').at(-1) ?? '') as { milliseconds: number };
      return (1000 * test.tokens) / milliseconds;
    },
  };
}
