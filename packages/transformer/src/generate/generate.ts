import { AbortError, OptionError, throwIfAborted, type Tensor } from '@filigree/core-tensor';
import { peakRssBytes } from '#peak-memory';
import {
  phaseAttention,
  type AttentionOptions,
  type AttentionPhase,
  type PhaseAttention,
} from '../attention/attention-choice.js';
import { StatsReader, type AttentionMeasure, type AttentionStats } from '../attention/attention-stats.js';
import type { ChatMessage } from '../chat/chat-template.js';
import { ChatTemplateError } from '../chat/errors.js';
import { ContextLengthError } from '../errors.js';
import { newestQueries } from '../kv/compress-cache.js';
import { kvCompression, kvCompressor, type KvChoice } from '../kv/kv-choice.js';
import { LayerQueries } from '../kv/newest-queries.js';
import type { Model } from '../model/model.js';
import { Prefix, type PrefillProgress } from '../model/prefix.js';
import { nextLogits, type Session } from '../model/session.js';
import { NextToken } from './next-token.js';
import type { KnownPrompt, PromptCache } from './prompt-cache.js';
import { Sampler, type SamplingOptions } from './sampler.js';
import { defaultDraft, draftLength, Speculative, type SpeculationOptions, type SpeculationStats } from './speculative.js';
import { StopStrings } from './stop-strings.js';
import { StepByStep, type TokenSource } from './token-source.js';

export interface GenerateOptions {
  /** Most tokens to generate; default 256. */
  readonly maxTokens?: number | undefined;
  readonly sampling?: SamplingOptions | undefined;
  /** Strings that end the text; they are not part of it. */
  readonly stop?: readonly string[] | undefined;
  /** Go on after an end-of-generation token. */
  readonly ignoreEos?: boolean | undefined;
  /** Stops within a step; the iteration then rejects with AbortError. */
  readonly signal?: AbortSignal | undefined;
  /** Sparse attention per phase. Layers with a window of their own keep it. */
  readonly attention?: AttentionOptions | undefined;
  /** Keeps less of the prompt, which is read as a whole first; see {@link PrefillOptions.kv}. Not after a prefix, and not together with `attention`. */
  readonly kv?: KvChoice | undefined;
  /** Drafts tokens over a part of the cache and verifies them densely: the same text in fewer steps over all of it. Not with `attention.decode` or `kv`. */
  readonly speculate?: SpeculationOptions | undefined;
  /** Reads no more of the prompt than others did not read before; keeps it, and the answer, for those that follow. Not with `attention.prefill`, `kv` or a prefix. */
  readonly promptCache?: PromptCache | undefined;
  /** What to find out about attention beside the density; all of it takes time. */
  readonly measure?: AttentionMeasure | undefined;
  /** Tokens of the prompt that one step takes; default 512, with a selector 2,048. */
  readonly prefillChunk?: number | undefined;
  /** Called while a long prompt is read, after every part of it that was handed to the backend. */
  readonly onPrefill?: ((progress: PrefillProgress) => void) | undefined;
}

/** Why a generation ended: an end-of-generation token, a stop string, `maxTokens` or a full context, its signal. */
export type FinishReason = 'eos' | 'stop' | 'length' | 'aborted';

export interface GenerateStats extends AttentionStats {
  /** Tokens that were read: those of a prefix, or that a prompt cache knew, were read before. */
  readonly promptTokens: number;
  /** Tokens of the prompt that a prompt cache knew. */
  readonly cachedTokens: number;
  /** From the first queued step to the first token. */
  readonly prefillMs: number;
  /** Tokens made by decode steps: all but the first, which the prompt's step makes. */
  readonly decodeTokens: number;
  readonly decodeMs: number;
  /** What became of drafts, where there are some. */
  readonly speculation?: SpeculationStats | undefined;
  /** Bytes of cached keys and values, in whole pages. */
  readonly kvBytes: number;
  /** Peak resident bytes of the process; 0 in browsers. */
  readonly peakRssBytes: number;
}

export interface GeneratedPart {
  readonly token: number;
  /** Whole characters that are certain; often empty, as a token need not end a character. */
  readonly text: string;
}

/** A generation that starts when it is iterated, and can be iterated once. */
export interface Generation extends AsyncIterable<GeneratedPart> {
  /** Up to date after every part; what selectors saw counts at the end. */
  readonly stats: GenerateStats;
  /** Undefined until it has ended. */
  readonly reason: FinishReason | undefined;
  /** Runs to the end and returns all text. */
  text(): Promise<string>;
}

const defaultMaxTokens = 256;

/**
 * Continues a prompt: text, token ids, or chat messages, which go through the model's chat template. User text never becomes special
 * tokens. Several generations may run on one model at once.
 *
 * After a {@link Prefix} in place of the model, the prompt goes on from there: text or token ids, without a token that begins a text.
 *
 * @throws OptionError, ContextLengthError, ChatTemplateError at once; AbortError, NonFiniteLogitsError, KvCapacityError when a prefix has no more
 * room, and failures of the backend while iterating.
 */
export function generate(
  model: Model,
  prompt: string | readonly number[] | readonly ChatMessage[],
  options?: GenerateOptions,
): Generation;
export function generate(prefix: Prefix, prompt: string | readonly number[], options?: GenerateOptions): Generation;
export function generate(
  source: Model | Prefix,
  prompt: string | readonly number[] | readonly ChatMessage[],
  options: GenerateOptions = {},
): Generation {
  const { kv, promptCache } = options;
  if (source instanceof Prefix) {
    if (promptCache) throw new OptionError('generate: a prefix brings its own entries; leave out promptCache');
    if (kv) throw new OptionError('generate: kv goes into Model.prefill, which reads the prefix');
    const tokens = typeof prompt === 'string' ? source.model.tokenize(prompt, { addBos: false }) : prompt;
    if (!isTokens(tokens)) throw new OptionError('generate: after a prefix the prompt is text or token ids, not messages');
    const { model, length } = source;
    const start = (signal: AbortSignal | undefined): KnownPrompt => ({ session: source.fork(signal), known: 0 });
    return new Run(model, model.checkTokens(tokens, 'generate'), options, { length, start });
  }
  const tokens = promptTokens(source, prompt);
  if (promptCache) {
    if (promptCache.model !== source) throw new OptionError('generate: promptCache belongs to another model');
    if (kv) throw new OptionError('generate: promptCache keeps all entries of a prompt; leave out kv');
    return new Run(source, tokens, options, { length: 0, start: (signal) => promptCache.begin(tokens, signal) });
  }
  const compression = kv && kvCompression(kv, 'generate');
  const start = (signal: AbortSignal | undefined, capacity: number): KnownPrompt => ({
    session: compression
      ? source.compressedSession(tokens.length, capacity, compression, signal)
      : source.session(capacity, signal),
    known: 0,
  });
  return new Run(source, tokens, options, { length: 0, start });
}

/** What a generation goes on from: so many tokens, and a session that has read them and the first ones of the prompt. */
interface Beginning {
  readonly length: number;
  start(signal: AbortSignal | undefined, capacity: number): KnownPrompt | Promise<KnownPrompt>;
}

function promptTokens(model: Model, prompt: string | readonly number[] | readonly ChatMessage[]): number[] {
  if (typeof prompt === 'string') return model.checkTokens(model.tokenize(prompt), 'generate: the prompt');
  if (isTokens(prompt)) return model.checkTokens(prompt, 'generate');
  if (!model.chatTemplate)
    throw new ChatTemplateError('generate: the model has no chat template; give the prompt as text instead of messages');
  return model.checkTokens(model.chatTemplate.encode(prompt, { addGenerationPrompt: true }), 'generate');
}

function isTokens(prompt: readonly number[] | readonly ChatMessage[]): prompt is readonly number[] {
  return prompt.length === 0 || typeof prompt[0] === 'number';
}

class Run implements Generation {
  readonly #model: Model;
  readonly #beginning: Beginning;
  readonly #prompt: readonly number[];
  readonly #options: GenerateOptions;
  readonly #maxTokens: number;
  readonly #sampler: Sampler;
  readonly #stops: StopStrings;
  readonly #layers: Readonly<Record<AttentionPhase, PhaseAttention | undefined>>;
  #running: { readonly session: Session; readonly attention: StatsReader } | undefined;
  #started = false;
  #reason: FinishReason | undefined;
  #stats: GenerateStats;

  constructor(model: Model, prompt: readonly number[], options: GenerateOptions, beginning: Beginning) {
    const { maxTokens = defaultMaxTokens, attention } = options;
    const length = beginning.length + prompt.length;
    if (!Number.isInteger(maxTokens) || maxTokens < 1)
      throw new OptionError(`generate: maxTokens is ${maxTokens}, it must be a positive integer`);
    if (length >= model.context)
      throw new ContextLengthError(
        `generate: the prompt has ${length} tokens and leaves no room in the context of ${model.context}; shorten it, or load the model with a larger context`,
      );
    this.#model = model;
    this.#beginning = beginning;
    this.#prompt = prompt;
    this.#options = options;
    this.#maxTokens = Math.min(maxTokens, model.context - length);
    this.#sampler = new Sampler(options.sampling);
    this.#stops = new StopStrings(options.stop);
    this.#layers = {
      prefill: phaseAttention(attention, 'prefill', model.config, 'generate'),
      decode: phaseAttention(attention, 'decode', model.config, 'generate'),
    };
    if (options.speculate) {
      draftLength(options.speculate);
      if (options.kv) throw new OptionError('generate: speculate keeps all entries for verifying; leave out kv');
      if (this.#layers.decode) throw new OptionError('generate: speculate verifies densely; leave out attention.decode');
    }
    if (options.promptCache && this.#layers.prefill)
      throw new OptionError('generate: promptCache keeps what dense attention reads; leave out attention.prefill');
    this.#stats = {
      promptTokens: prompt.length,
      cachedTokens: 0,
      prefillMs: 0,
      decodeTokens: 0,
      decodeMs: 0,
      density: 1,
      attention: { layers: [] },
      kvBytes: 0,
      peakRssBytes: 0,
    };
  }

  get stats(): GenerateStats {
    return this.#stats;
  }

  get reason(): FinishReason | undefined {
    return this.#reason;
  }

  async text(): Promise<string> {
    let text = '';
    for await (const part of this) text += part.text;
    return text;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<GeneratedPart, void, undefined> {
    if (this.#started) throw new OptionError('generate: a generation can be iterated once; call generate again');
    this.#started = true;
    const { signal } = this.#options;
    throwIfAborted(signal);
    // The last token is not run, so that its keys need no room.
    const { session, known } = await this.#beginning.start(signal, this.#prompt.length + this.#maxTokens);
    this.#stats = { ...this.#stats, promptTokens: this.#prompt.length - known, cachedTokens: known };
    const attention = new StatsReader(session, this.#options.measure);
    this.#running = { session, attention };
    attention.start();
    let failed = false;
    try {
      yield* this.#tokens(session);
    } catch (error) {
      failed = true;
      if (error instanceof AbortError) this.#reason = 'aborted';
      throw error;
    } finally {
      try {
        await attention.stop();
        // What a failed step counted on the device is lost with it.
        if (!failed) await session.meter.read();
        this.#measure({});
      } finally {
        this.#running = undefined;
        session.dispose();
      }
    }
  }

  async *#tokens(session: Session): AsyncGenerator<GeneratedPart, void, undefined> {
    const { endOfGeneration } = this.#model.tokenizer;
    const stream = this.#model.tokenizer.stream();
    const started = performance.now();
    const tokens = [...this.#prompt];
    const source = await this.#source(session);
    let firstAt = 0;
    try {
      for (let count = 1; ; count++) {
        const more = this.#maxTokens - count;
        const token = await source.next(more);
        const now = performance.now();
        if (count === 1) {
          firstAt = now;
          this.#options.promptCache?.keep(session, tokens);
        }
        tokens.push(token);
        const speculation = source instanceof Speculative ? source.stats : undefined;
        this.#measure({ prefillMs: firstAt - started, decodeTokens: count - 1, decodeMs: now - firstAt, speculation });
        const ended = endOfGeneration.has(token) && this.#options.ignoreEos !== true;
        const text = ended ? '' : this.#stops.push(stream.push(token));
        if (ended || this.#stops.found || more === 0) {
          const rest = this.#stops.found ? '' : this.#stops.push(stream.end()) + this.#stops.end();
          this.#reason = ended ? 'eos' : this.#stops.found ? 'stop' : 'length';
          // What sparse decoding wrote is not what reading the answer would write.
          if (!this.#layers.decode) this.#options.promptCache?.keep(session, tokens);
          yield { token, text: text + rest };
          return;
        }
        yield { token, text };
        // Where the backend computes on this thread, a turn of the event loop: without one no signal would ever fire.
        await session.backend.ready();
        throwIfAborted(this.#options.signal);
      }
    } finally {
      source.dispose();
    }
  }

  /** Reads the prompt. */
  async #source(session: Session): Promise<TokenSource> {
    const { speculate } = this.#options;
    const { decode } = this.#layers;
    if (!speculate) return new StepByStep(session, this.#sampler, decode, await this.#prefill(session));
    const compressor = kvCompressor(speculate.kv ?? defaultDraft, 'generate: speculate');
    const queries = new LayerQueries(this.#model, newestQueries(compressor, 'generate: speculate'));
    try {
      const first = await this.#prefill(session, queries.collect);
      try {
        const length = this.#beginning.length + this.#prompt.length;
        const into = this.#model.streamCache(length, length + this.#maxTokens, compressor);
        const draft = await session.compress(into, compressor, queries, this.#options.signal);
        return new Speculative(session, draft, this.#sampler, draftLength(speculate), first);
      } catch (error) {
        first.dispose();
        throw error;
      }
    } finally {
      queries.dispose();
    }
  }

  async #prefill(session: Session, onQueries?: (layer: number, q: Tensor) => void): Promise<NextToken> {
    const { onPrefill, prefillChunk, measure } = this.#options;
    const prompt = this.#prompt.slice(this.#stats.cachedTokens);
    const totalTokens = prompt.length;
    const logits = await session.prefill(prompt, {
      logits: 'last',
      attention: this.#layers.prefill,
      recall: measure?.recall,
      chunk: prefillChunk,
      onChunk: onPrefill && ((doneTokens) => onPrefill({ doneTokens, totalTokens })),
      onQueries,
    });
    return new NextToken(nextLogits(logits), this.#sampler, { check: true });
  }

  #measure(change: Partial<GenerateStats>): void {
    this.#stats = {
      ...this.#stats,
      ...change,
      ...this.#running?.attention.now(),
      kvBytes: this.#running?.session.cache.bytes().total ?? this.#stats.kvBytes,
      peakRssBytes: peakRssBytes(),
    };
  }
}
