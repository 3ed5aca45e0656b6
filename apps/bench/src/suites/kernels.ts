import { inChild } from '../children.js';
import type { KernelTime } from '../children/kernel-time.js';
import { cpuName } from '../measure/cpu.js';
import { measureRoofline, type Roofline } from '../measure/roofline.js';
import { benchRecord, type BenchRecord } from '../record.js';
import type { Suite } from '../suite.js';

function toRecord(time: KernelTime, roofline: Roofline, cpu: string): BenchRecord {
  const { work, milliseconds, bytes, operations, bound } = time;
  if (bound === 'read') {
    const ours = bytes / milliseconds / 1e6;
    return benchRecord({ suite: 'kernels', work, ours, unit: 'GB/s', bound: roofline.readGBps, cpu });
  }
  const ours = operations / milliseconds / 1e6;
  const peak = bound === 'int8' ? roofline.int8GOPs : roofline.f32GFLOPs;
  return benchRecord({ suite: 'kernels', work, ours, unit: 'GOP/s', bound: peak, cpu });
}

/** The kernels that a decoder spends its time in, against what memory and the arithmetic units allow. */
export const kernels: Suite = {
  id: 'kernels',
  title: 'matmul of every weight type and attention, against the roofline',
  async run({ threads, rounds, progress }) {
    progress('measuring the roofline');
    const roofline = await measureRoofline(threads);
    progress('timing kernels');
    const times = await inChild('kernels', { threads, rounds });
    return times.map((time) => toRecord(time, roofline, cpuName(threads)));
  },
};
