import { join } from 'node:path';
import { appRoot } from './measure/paths.js';
import { runProgram } from './measure/run-program.js';
import { measureMethods } from './children/attention-methods.js';
import { measureAttention } from './children/sparse-attention.js';
import { measureKvCodecs } from './children/kv-codecs.js';
import { measureKernels } from './children/kernels.js';
import { measureKernelWork } from './children/kernel-work.js';
import { measureLatency, measureMemory, measureSpeed, tokenizePrompt } from './children/model.js';
import { measureProfile } from './children/profile.js';

/** What can be measured in a process of its own; each takes and returns what JSON can carry. */
const children = {
  kernels: measureKernels,
  attention: measureAttention,
  methods: measureMethods,
  'kv-codecs': measureKvCodecs,
  'kernel-work': measureKernelWork,
  tokens: tokenizePrompt,
  speed: measureSpeed,
  latency: measureLatency,
  memory: measureMemory,
  profile: measureProfile,
} as const;

type Children = typeof children;
export type ChildName = keyof Children;

/** Runs one measurement in a fresh process, so that neither memory nor warm caches of another leak into it. */
export async function inChild<N extends ChildName>(
  name: N,
  input: Parameters<Children[N]>[0],
): Promise<Awaited<ReturnType<Children[N]>>> {
  const output = await runProgram(process.execPath, [join(appRoot, 'bin/child.js'), name, JSON.stringify(input)]);
  const line = output.trim().split('\n').at(-1) ?? '';
  return JSON.parse(line) as Awaited<ReturnType<Children[N]>>;
}

/** The other end of {@link inChild}. */
export async function runChild(name: string | undefined, input: string | undefined): Promise<void> {
  if (name === undefined || !(name in children)) throw new Error(`there is no measurement "${name ?? ''}"`);
  const measure = children[name as ChildName] as (input: unknown) => Promise<unknown>;
  console.log(JSON.stringify(await measure(JSON.parse(input ?? '{}'))));
}
