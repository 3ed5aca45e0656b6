import { createNativeBackend, type NativeBackend } from '@filigree/backend-native';
import { generate, loadModel, type Model } from '@filigree/transformer';
import { promptOf, type ModelWork } from './model.js';

/** Where the time of one phase went. */
export interface Profile {
  readonly phase: 'prefill' | 'decode';
  /** Wall time of the phase per unit of work (the prompt, or one token). */
  readonly milliseconds: number;
  /** Time inside of each op's kernel per unit of work, the longest first. */
  readonly ops: readonly { readonly op: string; readonly calls: number; readonly milliseconds: number }[];
}

async function profiled(backend: NativeBackend, units: number, work: () => Promise<number>): Promise<Omit<Profile, 'phase'>> {
  const profile = backend.profile();
  const milliseconds = (await work()) / units;
  const totals = new Map<string, { calls: number; milliseconds: number }>();
  for (const entry of await profile.stop()) {
    const total = totals.get(entry.op) ?? { calls: 0, milliseconds: 0 };
    totals.set(entry.op, { calls: total.calls + 1, milliseconds: total.milliseconds + entry.milliseconds });
  }
  const ops = [...totals].map(([op, total]) => ({
    op,
    calls: total.calls / units,
    milliseconds: total.milliseconds / units,
  }));
  return { milliseconds, ops: ops.sort((a, b) => b.milliseconds - a.milliseconds) };
}

/** Milliseconds of the wanted phase of one generation. */
async function phaseTime(model: Model, prompt: readonly number[], maxTokens: number, phase: Profile['phase']): Promise<number> {
  const generation = generate(model, prompt, { maxTokens, ignoreEos: true });
  await generation.text();
  return phase === 'prefill' ? generation.stats.prefillMs : generation.stats.decodeMs;
}

/** Profiles a prompt, then decoding after a short one. */
export async function measureProfile({ path, threads, prompt }: ModelWork): Promise<Profile[]> {
  const backend = createNativeBackend({ threads });
  const model = await loadModel(path, { backend });
  const tokens = promptOf(model, prompt);
  await phaseTime(model, tokens.slice(0, 64), 4, 'prefill');
  const decoded = 64;
  const prefill = await profiled(backend, 1, () => phaseTime(model, tokens, 1, 'prefill'));
  const decode = await profiled(backend, decoded, () => phaseTime(model, tokens.slice(0, 1), decoded + 1, 'decode'));
  model.dispose();
  backend.dispose();
  return [
    { phase: 'prefill', ...prefill },
    { phase: 'decode', ...decode },
  ];
}
