import { inChild } from '../children.js';
import type { KernelTime } from '../children/kernel-time.js';
import { cpuName } from '../measure/cpu.js';
import { measureRoofline, medianRoofline, type Roofline } from '../measure/roofline.js';
import { benchRecord, type BenchRecord } from '../record.js';
import { peerRecords } from '../kernels/peer-records.js';
import type { Suite } from '../suite.js';

function toRecord(time: KernelTime, ceilings: readonly Roofline[], cpu: string): BenchRecord {
  const { group, work, milliseconds, bytes, operations, bound } = time;
  const roofline = medianRoofline(ceilings);
  if (bound === 'read') {
    const ours = bytes / milliseconds / 1e6;
    return benchRecord({ suite: 'kernels', group, work, ours, unit: 'GB/s', bound: roofline.readGBps, ceilings, cpu });
  }
  const ours = operations / milliseconds / 1e6;
  const peak = bound === 'int8' ? roofline.int8GOPs : roofline.f32GFLOPs;
  return benchRecord({ suite: 'kernels', group, work, ours, unit: 'GOP/s', bound: peak, ceilings, cpu });
}

/** The kernels that a decoder spends its time in, against what memory and the arithmetic units allow. */
export const kernels: Suite = {
  id: 'kernels',
  title: 'matmul of every weight type and attention, against the roofline and onnxruntime-node',
  async run(options) {
    const { threads, rounds, types, progress } = options;
    progress('timing kernels');
    const before = await measureRoofline(threads);
    const times = await inChild('kernels', { threads, rounds, types });
    const ceilings = [before, await measureRoofline(threads)];
    const alone = times.map((time) => toRecord(time, ceilings, cpuName(threads)));
    return [...alone, ...(await peerRecords(options))];
  },
};
