import { inChild } from '../children.js';
import type { Profile } from '../children/profile.js';
import { chosenModels, modelFiles } from '../llama/models.js';
import { cpuName } from '../measure/cpu.js';
import { benchRecord, type BenchRecord } from '../record.js';
import type { Suite } from '../suite.js';

const promptTokens = 512;

/** The phase, what of it no kernel accounts for, and every op. */
function profileRecords({ phase, milliseconds, ops }: Profile, title: string, cpu: string): BenchRecord[] {
  const unit = phase === 'prefill' ? `${promptTokens} tokens` : 'a token';
  const record = (work: string, ours: number): BenchRecord =>
    benchRecord({
      suite: 'profile',
      work: `${title}: ${phase} of ${unit}, ${work}`,
      ours,
      unit: 'ms',
      peer: { name: 'the whole', value: milliseconds },
      cpu,
    });
  const inKernels = ops.reduce((sum, op) => sum + op.milliseconds, 0);
  return [
    record('whole', milliseconds),
    ...ops.map((op) => record(`${op.op} × ${Math.round(op.calls)}`, op.milliseconds)),
    record('outside of kernels', Math.max(0, milliseconds - inKernels)),
  ];
}

/** Where a decoder's time goes, op by op. */
export const profile: Suite = {
  id: 'profile',
  title: 'where the time of prefill and decode goes, op by op',
  async run({ threads, models, progress }) {
    const files = await modelFiles();
    const records: BenchRecord[] = [];
    for (const model of chosenModels(models)) {
      progress(model.title);
      const profiles = await inChild('profile', { path: files[model.variable], threads, prompt: promptTokens });
      for (const phase of profiles) records.push(...profileRecords(phase, model.title, cpuName(threads)));
    }
    return records;
  },
};
