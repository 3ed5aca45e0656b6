import { join } from 'node:path';
import { appRoot } from '../measure/paths.js';
import { runProgram } from '../measure/run-program.js';

/** Tokens per second of a prompt and of decoding from an empty context. */
export interface Speeds {
  readonly prefill: number;
  readonly decode: number;
}

export interface SpeedWork {
  readonly path: string;
  readonly threads: number;
  /** Tokens of the prompt. */
  readonly prompt: readonly number[];
  /** Tokens decoded. */
  readonly generate: number;
}

/** A program that does the same work on the same file. */
export interface Peer {
  readonly name: string;
  measure(work: SpeedWork): Promise<Speeds>;
}

/** Folder of llama.cpp's programs; builds them into .cache/peers/llama when none is given and they are not there. */
export async function llamaFolder(given: string | undefined): Promise<string> {
  return given ?? (await runProgram(join(appRoot, 'peers/llama.sh'), [])).trim();
}

/** llama.cpp's own benchmark, from that folder. */
export function llamaBench(bin: string): Peer {
  return {
    name: 'llama-bench',
    async measure({ path, threads, prompt, generate }) {
      const sizes = ['-p', String(prompt.length), '-n', String(generate), '-t', String(threads)];
      const args = ['-m', path, ...sizes, '-fa', '1', '-r', '1', '-o', 'json'];
      const runs = JSON.parse(await runProgram(join(bin, 'llama-bench'), args, { quiet: true })) as LlamaBenchRun[];
      const speed = (wanted: (run: LlamaBenchRun) => boolean): number => runs.find(wanted)?.avg_ts ?? NaN;
      return { prefill: speed(({ n_gen }) => n_gen === 0), decode: speed(({ n_gen }) => n_gen > 0) };
    },
  };
}

interface LlamaBenchRun {
  readonly n_gen: number;
  readonly avg_ts: number;
}

/** The npm package that a JavaScript user would pick today; installed into .cache/peers when absent. */
export async function nodeLlamaCpp(): Promise<Peer> {
  const folder = (await runProgram(join(appRoot, 'peers/node-llama-cpp.sh'), [])).trim();
  return {
    name: 'node-llama-cpp',
    async measure({ path, threads, prompt, generate }) {
      const options = JSON.stringify({ model: path, threads, prompt, generate });
      const output = await runProgram(process.execPath, [join(appRoot, 'peers/node-llama-cpp.mjs'), folder, options], {
        quiet: true,
      });
      const { prefillMs, decodeMs } = JSON.parse(output.trim().split('\n').at(-1) ?? '') as Record<string, number>;
      return { prefill: (1000 * prompt.length) / prefillMs, decode: (1000 * generate) / decodeMs };
    },
  };
}
