import type { AttentionOptions, KvChoice, Tokenizer } from '@filigree/transformer';
import type { TokenIds } from './task.js';

/** What the harness asks of a model. {@link modelSubject} makes one of a loaded model. */
export interface Subject {
  readonly tokenizer: Tokenizer;
  /** Positions that one sequence may have. */
  readonly context: number;
  /** Reads a context once. `room`: positions of all continuations that are alive at a time. */
  prefill(context: TokenIds, options: SubjectOptions & { readonly room: number }): Promise<ReadContext>;
}

export interface SubjectOptions {
  readonly attention: AttentionOptions;
  /** What the cache is cut down to once the context was read, or once for every question after it. */
  readonly kv?: { readonly kv: KvChoice; readonly after: 'context' | 'question' } | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A context that was read and is asked about on forks. */
export interface ReadContext {
  readonly seconds: number;
  /** Cells computed over those of dense causal attention. */
  readonly density: number;
  /** Bytes of its keys and values, in whole pages, when no question was asked yet. */
  readonly kvBytes: number;
  /** A fork that has read more tokens; without any, the context itself. */
  ask(prompt: TokenIds, attention: AttentionOptions): Promise<Asked>;
  /** Goes on greedily after the prompt, up to `limit` tokens. */
  generate(prompt: TokenIds, options: GenerateFrom): Promise<Generated>;
  dispose(): void;
}

export interface GenerateFrom {
  readonly attention: AttentionOptions;
  readonly limit: number;
  /** Go on behind an end of the text, so that there is something to measure. */
  readonly ignoreEnd: boolean;
}

export interface Asked {
  /** Teacher-forces an answer: as part of a prompt, or token by token. */
  force(answer: TokenIds, phase: 'prefill' | 'decode'): Promise<Forced>;
  dispose(): void;
}

/** Of every token of an answer. */
export interface Forced {
  /** Natural logarithm of its probability. */
  readonly logProbs: readonly number[];
  /** Whether it is the most likely one. */
  readonly top: readonly boolean[];
}

export interface Generated {
  readonly text: string;
  /** Tokens made by decode steps, and the seconds that these took. */
  readonly decodeTokens: number;
  readonly decodeSeconds: number;
}
