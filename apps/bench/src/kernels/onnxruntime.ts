import { join } from 'node:path';
import { appRoot } from '../measure/paths.js';
import { runProgram } from '../measure/run-program.js';
import type { KernelWork } from './kernel-work.js';

export interface KernelTask {
  readonly threads: number;
  /** Passes through all layers, of which the median is taken. */
  readonly passes: number;
  readonly layers: number;
  readonly work: KernelWork;
}

/** MatMulNBits and GroupQueryAttention of onnxruntime-node, which is installed into .cache/peers when absent; milliseconds of a layer. */
export async function onnxruntime(): Promise<(task: KernelTask) => Promise<number>> {
  const folder = (await runProgram(join(appRoot, 'peers/onnxruntime.sh'), [])).trim();
  return async (task) => {
    const output = await runProgram(process.execPath, [join(appRoot, 'peers/onnxruntime.mjs'), folder, JSON.stringify(task)]);
    return (JSON.parse(output.trim().split('\n').at(-1) ?? '') as { milliseconds: number }).milliseconds;
  };
}
