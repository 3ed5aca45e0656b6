import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { median } from './median.js';
import { appRoot, cacheFolder } from './paths.js';
import { runProgram } from './run-program.js';

/** What this machine does at most with so many threads: see probe/probe.rs for how each is measured. */
export interface Roofline {
  readonly readGBps: number;
  readonly f32GFLOPs: number;
  readonly int8GOPs: number;
}

/**
 * Builds the probe if its source is newer, and runs it; less than a second. To be measured beside every figure that it bounds: memory and
 * clock of a shared machine change from minute to minute. Needs rustc, as the native backend does.
 */
export async function measureRoofline(threads: number): Promise<Roofline> {
  const source = join(appRoot, 'probe/probe.rs');
  const program = join(cacheFolder('bench'), 'probe');
  if (!existsSync(program) || statSync(program).mtimeMs < statSync(source).mtimeMs) {
    await runProgram('rustc', ['-C', 'opt-level=3', '-C', 'target-cpu=native', '-o', program, source]);
  }
  return JSON.parse(await runProgram(program, [String(threads)])) as Roofline;
}

/** The median of each ceiling. */
export function medianRoofline(measured: readonly Roofline[]): Roofline {
  return {
    readGBps: median(measured.map(({ readGBps }) => readGBps)),
    f32GFLOPs: median(measured.map(({ f32GFLOPs }) => f32GFLOPs)),
    int8GOPs: median(measured.map(({ int8GOPs }) => int8GOPs)),
  };
}
