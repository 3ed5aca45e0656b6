import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { appRoot, cacheFolder } from './paths.js';
import { runProgram } from './run-program.js';

/** What this machine does at most with so many threads: see probe/probe.rs for how each is measured. */
export interface Roofline {
  readonly readGBps: number;
  readonly f32GFLOPs: number;
  readonly int8GOPs: number;
}

/** Builds the probe if its source is newer, and runs it. Needs rustc, as the native backend does. */
async function probe(args: readonly string[]): Promise<unknown> {
  const source = join(appRoot, 'probe/probe.rs');
  const program = join(cacheFolder('bench'), 'probe');
  if (!existsSync(program) || statSync(program).mtimeMs < statSync(source).mtimeMs) {
    await runProgram('rustc', ['-C', 'opt-level=3', '-C', 'target-cpu=native', '-o', program, source]);
  }
  return JSON.parse(await runProgram(program, args)) as unknown;
}

/** All ceilings; some three seconds. */
export async function measureRoofline(threads: number): Promise<Roofline> {
  return (await probe([String(threads)])) as Roofline;
}

/** The read bandwidth alone in GB/s, to be measured beside every figure that it bounds: it may change from minute to minute. */
export async function measureReadBandwidth(threads: number): Promise<number> {
  return ((await probe([String(threads), 'read'])) as Pick<Roofline, 'readGBps'>).readGBps;
}
