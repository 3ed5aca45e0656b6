import { createNativeBackend } from '@filigree/backend-native';
import { generate, loadModel, type GenerateOptions, type GenerateStats, type Model } from '@filigree/transformer';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { realText } from '../llama/real-text.js';
import { textTokens, type SpeedWork } from '../llama/speed-test.js';

export interface ModelWork {
  readonly path: string;
  readonly threads: number;
  /** Tokens of real text in the prompt. */
  readonly prompt: number;
}

/** A method of sparse attention and its options. */
export interface Attention {
  readonly method: string;
  readonly options?: Readonly<Record<string, number>>;
}

/** So many tokens of real text. */
export function promptOf(model: Model, length: number): number[] {
  const tokens = model.tokenize(realText().slice(0, 12 * length));
  if (tokens.length < length) throw new Error(`the text has ${tokens.length} tokens, ${length} are needed`);
  return tokens.slice(0, length);
}

/** Generates exactly `maxTokens` tokens and returns the statistics. */
async function run(model: Model, prompt: readonly number[], maxTokens: number, attention?: Attention): Promise<GenerateStats> {
  const everywhere: GenerateOptions = attention ? { attention: { prefill: attention, decode: attention } } : {};
  const generation = generate(model, prompt, { maxTokens, ignoreEos: true, ...everywhere });
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

/** Tokens of the prompt of a warm-up. */
const warmUp = 64;

/** Tokens per second of one test, after a warm-up of both phases. */
export async function measureSpeed({
  path,
  threads,
  text,
  test,
  attention,
}: SpeedWork & { attention?: Attention | undefined }): Promise<number> {
  const { phase, tokens, context } = test;
  if (phase === 'prefill' && context > 0) throw new Error('a prompt is measured from an empty context');
  const prompt = text.slice(0, textTokens(test));
  const model = await loadModel(path, { threads, context: Math.max(warmUp + 4, context + tokens + 1) });
  await run(model, text.slice(0, warmUp), 4, attention);
  try {
    if (phase === 'prefill') return (1000 * tokens) / (await run(model, prompt, 1, attention)).prefillMs;
    // The prompt's step makes the first token; the cache then holds the context, or one token when there is none.
    const { decodeMs, decodeTokens } = await run(model, prompt.slice(0, Math.max(context, 1)), tokens + 1, attention);
    return (1000 * decodeTokens) / decodeMs;
  } finally {
    model.dispose();
  }
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
