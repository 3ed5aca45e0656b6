import { createNativeBackend } from '@filigree/backend-native';
import { generate, loadModel, type GenerateOptions, type GenerateStats, type Model } from '@filigree/transformer';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { realText } from '../llama/real-text.js';
import type { Speeds, SpeedWork } from '../llama/peers.js';

export interface ModelWork {
  readonly path: string;
  readonly threads: number;
  /** Tokens of real text in the prompt. */
  readonly prompt: number;
}

type Attention = NonNullable<GenerateOptions['attention']>['prefill'];

/** So many tokens of real text. */
export function promptOf(model: Model, length: number): number[] {
  const tokens = model.tokenize(realText().slice(0, 12 * length));
  if (tokens.length < length) throw new Error(`the text has ${tokens.length} tokens, ${length} are needed`);
  return tokens.slice(0, length);
}

/** Generates exactly `maxTokens` tokens and returns the statistics. */
async function run(model: Model, prompt: readonly number[], maxTokens: number, attention?: Attention): Promise<GenerateStats> {
  const options = { maxTokens, ignoreEos: true, ...(attention && { attention: { prefill: attention } }) };
  const generation = generate(model, prompt, options);
  await generation.text();
  return generation.stats;
}

/** Token ids of the prompt, for peers that shall read the same. */
export async function tokenizePrompt({ path, threads, prompt }: ModelWork): Promise<number[]> {
  const model = await loadModel(path, { threads });
  const tokens = promptOf(model, prompt);
  model.dispose();
  return tokens;
}

/** Prompt and decoding speed, the latter from a context of one token as llama-bench does it; after a warm-up of both. */
export async function measureSpeed({ path, threads, prompt, generate: count }: SpeedWork): Promise<Speeds> {
  const model = await loadModel(path, { threads });
  await run(model, prompt.slice(0, 64), 4);
  const { prefillMs, promptTokens } = await run(model, prompt, 1);
  const { decodeMs, decodeTokens } = await run(model, prompt.slice(0, 1), count + 1);
  model.dispose();
  return { prefill: (1000 * promptTokens) / prefillMs, decode: (1000 * decodeTokens) / decodeMs };
}

/** Tokens per second of a long prompt, dense or with sinks and a window. */
export async function measureLongPrompt({ sparse, ...work }: ModelWork & { sparse: boolean }): Promise<number> {
  const model = await loadModel(work.path, { threads: work.threads });
  const prompt = promptOf(model, work.prompt);
  await run(model, prompt.slice(0, 64), 1);
  const { prefillMs, promptTokens } = await run(model, prompt, 1, sparse ? { method: 'streaming-llm' } : undefined);
  model.dispose();
  return (1000 * promptTokens) / prefillMs;
}

/** 99th percentile of the event loop's delay in milliseconds while a prompt is read and tokens are generated. */
export async function measureLatency({ path, threads, prompt }: ModelWork): Promise<number> {
  const model = await loadModel(path, { threads });
  const tokens = promptOf(model, prompt);
  await run(model, tokens.slice(0, 64), 4);
  const resolution = 1;
  const delay = monitorEventLoopDelay({ resolution });
  delay.enable();
  await run(model, tokens, 128);
  delay.disable();
  model.dispose();
  // The histogram holds the time between two looks, of which the resolution is meant to be there.
  return Math.max(0, delay.percentile(99) / 1e6 - resolution);
}

/** Peak memory of a process with a full context of `prompt` tokens, and what the backend still holds after `dispose`. */
export async function measureMemory({ path, threads, prompt }: ModelWork): Promise<{ peakBytes: number; leftBytes: number }> {
  const backend = createNativeBackend({ threads });
  const before = backend.memory();
  const model = await loadModel(path, { backend, context: prompt });
  const generated = 128;
  await run(model, promptOf(model, prompt - generated), generated);
  // Unlike `process.memoryUsage`, this is the peak of the process, in KiB.
  const peakBytes = process.resourceUsage().maxRSS * 1024;
  model.dispose();
  await backend.sync();
  const after = backend.memory();
  backend.dispose();
  return { peakBytes, leftBytes: after.liveBytes - before.liveBytes };
}
