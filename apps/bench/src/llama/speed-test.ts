/** One thing to time: reading a prompt of so many tokens, or decoding so many, after `context` tokens that are in the cache already. */
export interface SpeedTest {
  readonly phase: 'prefill' | 'decode';
  readonly tokens: number;
  readonly context: number;
}

/** What the goals are stated for; decoding starts from an empty context, as llama-bench does it. */
export const decode128: SpeedTest = { phase: 'decode', tokens: 128, context: 0 };
export const prefill512: SpeedTest = { phase: 'prefill', tokens: 512, context: 0 };
export const prefill4096: SpeedTest = { phase: 'prefill', tokens: 4096, context: 0 };

/** As records name it. */
export function testName({ phase, tokens, context }: SpeedTest): string {
  return `${phase} ${tokens} tokens${context > 0 ? ` after ${context}` : ''}`;
}

/** Tokens of text that a test reads. */
export function textTokens({ phase, tokens, context }: SpeedTest): number {
  return context + (phase === 'prefill' ? tokens : 1);
}

export interface SpeedWork {
  readonly path: string;
  readonly threads: number;
  /** At least as many as {@link textTokens} says. */
  readonly text: readonly number[];
  readonly test: SpeedTest;
}
