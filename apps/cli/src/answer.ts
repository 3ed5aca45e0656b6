import {
  generate,
  type ChatMessage,
  type GenerateOptions,
  type Generation,
  type Model,
  type PrefillProgress,
  type PromptCache,
} from '@filigree/transformer';
import type { GenerationOptions } from './options/model-options.js';
import type { Progress } from './progress.js';

/** What was generated, complete or stopped. */
export interface Answer {
  readonly text: string;
  readonly tokens: readonly number[];
  readonly reason: Generation['reason'];
  readonly stats: Generation['stats'];
}

export interface AnswerContext {
  readonly signal: AbortSignal;
  /** Shows how much of a long prompt was read. */
  readonly progress: Progress;
  /** What was read before. */
  readonly promptCache?: PromptCache | undefined;
}

/**
 * Generates to the end, handing over pieces of text as they come. Stopped by the signal it resolves with what there is, with reason
 * `aborted`.
 */
export async function answer(
  model: Model,
  prompt: string | readonly ChatMessage[],
  options: GenerationOptions,
  { signal, progress, promptCache }: AnswerContext,
  onText: (text: string) => Promise<void> | undefined,
): Promise<Answer> {
  const onPrefill = ({ doneTokens, totalTokens }: PrefillProgress): void => {
    progress.update('read the prompt', doneTokens, totalTokens, 'tokens');
  };
  const generation = generate(model, prompt, { ...generateOptions(options, signal), onPrefill, promptCache });
  progress.update('read the prompt', 0, generation.stats.promptTokens, 'tokens');
  const tokens: number[] = [];
  let text = '';
  try {
    for await (const part of generation) {
      if (tokens.length === 0) progress.stop();
      tokens.push(part.token);
      text += part.text;
      await onText(part.text);
    }
  } catch (error) {
    if (!(signal.aborted && error instanceof Error && error.name === 'AbortError')) throw error;
  } finally {
    progress.stop();
  }
  return { text, tokens, reason: signal.aborted ? 'aborted' : generation.reason, stats: generation.stats };
}

/** The library's options for those of the command line. */
export function generateOptions(options: GenerationOptions, signal: AbortSignal): GenerateOptions {
  const { maxTokens, temperature = 0, topK, topP, minP, seed, stop, ignoreEos } = options;
  const { prefillAttention: prefill, decodeAttention: decode, headPlan: plan, kv, speculate, gamma } = options;
  return {
    maxTokens,
    signal,
    stop: [...stop],
    ignoreEos: ignoreEos === true,
    sampling: {
      temperature,
      ...(topK === undefined ? {} : { topK }),
      ...(topP === undefined ? {} : { topP }),
      ...(minP === undefined ? {} : { minP }),
      ...(seed === undefined ? {} : { seed }),
    },
    attention: { prefill, decode, plan },
    kv,
    ...(speculate === undefined ? {} : { speculate: { kv: speculate, gamma } }),
  };
}
