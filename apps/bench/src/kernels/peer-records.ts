import { inChild } from '../children.js';
import type { KernelType } from '../children/kernel-work.js';
import { cpuName } from '../measure/cpu.js';
import { interleaved } from '../measure/interleaved.js';
import { measureRoofline, medianRoofline, type Roofline } from '../measure/roofline.js';
import { benchRecord, type BenchRecord } from '../record.js';
import type { SuiteOptions } from '../suite.js';
import { kernelDemands, kernelWorkName, kernelWorks, layerCount, type KernelWork } from './kernel-work.js';
import { onnxruntime } from './onnxruntime.js';

const passes = 7;
/** Bytes per weight or per element of a cache, of ours; ONNX's blocks have f32 scales. */
const elementBytes: Readonly<Record<KernelType, number>> = { Q4_0: 18 / 32, F32: 4, F16: 2 };
const onnxBytes = { matmul: 20 / 32, attention: 4 } as const;

/** Milliseconds that memory and arithmetic leave for a layer. */
export function kernelBound(work: KernelWork, type: KernelType, { readGBps, int8GOPs, f32GFLOPs }: Roofline): number {
  const { bytes, operations } = kernelDemands(work, elementBytes[type]);
  return 1e-6 * Math.max(bytes / readGBps, operations / (type === 'Q4_0' ? int8GOPs : f32GFLOPs));
}

/** The works of which that type and that context are asked for. */
export function chosenWorks({ types, contexts }: Pick<SuiteOptions, 'types' | 'contexts'>): KernelWork[] {
  return kernelWorks.filter((work) => {
    const context = work.kind === 'matmul' || contexts.length === 0 || contexts.includes(work.keys);
    return context && (types.length === 0 || types.includes(ownType(work)));
  });
}

/** How ours runs it where nothing else is asked for. */
function ownType({ kind }: KernelWork): KernelType {
  return kind === 'matmul' ? 'Q4_0' : 'F16';
}

/** Quantised matmul and attention beside onnxruntime-node and beside our own f32 path, in milliseconds of a layer. */
export async function peerRecords(options: SuiteOptions): Promise<BenchRecord[]> {
  const { threads, rounds, progress } = options;
  const theirs = await onnxruntime();
  const records: BenchRecord[] = [];
  for (const work of chosenWorks(options)) {
    const name = kernelWorkName(work);
    const type = ownType(work);
    const ours = (of: KernelType) => () =>
      inChild('kernel-work', { threads, passes, type: of, layers: layerCount(work, elementBytes[of]), work });
    const onnx = () => theirs({ threads, passes, layers: layerCount(work, onnxBytes[work.kind]), work });
    const { values, medians, ceilings } = await interleaved([ours(type), ours('F32'), onnx], {
      rounds,
      probe: () => measureRoofline(threads),
      onRound: (round) => progress(`${name}, round ${round} of ${rounds}`),
    });
    const record = (of: KernelType, own: number, peer: number, peerName: string): BenchRecord =>
      benchRecord({
        suite: 'kernels',
        group: `${work.kind} beside peers`,
        work: `${name}, ${of}`,
        ours: medians[own],
        unit: 'ms',
        peer: { name: peerName, value: medians[peer] },
        rounds: { ours: values[own], peer: values[peer] },
        bound: kernelBound(work, of, medianRoofline(ceilings)),
        ceilings,
        cpu: cpuName(threads),
      });
    const peerName = work.kind === 'matmul' ? 'onnxruntime MatMulNBits' : 'onnxruntime GroupQueryAttention, F32';
    records.push(record(type, 0, 2, peerName), record(type, 0, 1, 'ours, F32'));
    if (work.kind === 'attention') records.push(record('F32', 1, 2, peerName));
  }
  return records;
}
