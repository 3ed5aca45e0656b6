import type { ByteSink, ByteSource } from '@filigree/checkpoint';
import { fromBytes, keep, type Tensor } from '@filigree/core-tensor';
import { crc32c, KvFormatError, loadKv, saveKv, type KvCache, type LoadedKv, type StreamCache } from '@filigree/kv-cache';
import { StatsReader } from '../attention/attention-stats.js';
import { ContextLengthError } from '../errors.js';
import type { Decoder } from './decoder.js';
import type { Model } from './model.js';
import { Prefix, readPrefix } from './prefix.js';
import type { Session } from './session.js';

export interface SavePrefixOptions {
  /** Name of the model, weights and adapter included; default {@link Model.fingerprint}. Only a model of the same name loads the file. */
  readonly modelId?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface LoadPrefixOptions extends SavePrefixOptions {
  /** Positions that all continuations which are alive at a time may take together; default 1,024. */
  readonly room?: number | undefined;
  /** Of a damaged file, take the tokens before the damage (default false); the last one of them is read again. */
  readonly partial?: boolean | undefined;
}

/** Writes the keys and values of a prefix, its tokens and the logits after them. */
export async function savePrefix(
  target: string | ByteSink,
  cache: KvCache | StreamCache,
  { model, tokens, next }: Prefix,
  { modelId, signal }: SavePrefixOptions,
): Promise<void> {
  const id = modelId ?? (await model.fingerprint());
  await saveKv(target, cache, { model: id, tokens, attachment: await next.readBytes(), signal });
}

/** Reads what {@link savePrefix} wrote. */
export async function loadPrefix(
  model: Model,
  source: string | ByteSource,
  { modelId, room = 1024, partial, signal }: LoadPrefixOptions,
): Promise<Prefix> {
  const id = modelId ?? (await model.fingerprint());
  const expect = model.cacheLayout();
  const loaded = await loadKv(source, model.backend, { model: id, expect, room, partial, signal });
  const { cache, damage } = loaded;
  let session: Session | undefined;
  try {
    const tokens = checkTokens(model, loaded);
    session = model.resume(cache, signal);
    const stats = await new StatsReader(session, undefined).read();
    const next = damage ? undefined : nextLogits(model, loaded);
    if (!next) return await withoutLogits(model, session, tokens);
    return new Prefix(model, tokens, next, { prefillMs: 0, ...stats }, session);
  } catch (error) {
    // Whichever owns the cache; disposing twice is safe.
    session?.dispose();
    cache.dispose();
    throw error;
  }
}

/** Runs the last token again, for the logits after it. */
async function withoutLogits(model: Model, session: Session, tokens: readonly number[]): Promise<Prefix> {
  const last = tokens.length - 1;
  session.truncate(last);
  return readPrefix(model, session, { before: tokens.slice(0, last), ids: tokens.slice(last) }, {});
}

function nextLogits({ backend, config }: Model, { attachment }: LoadedKv): Tensor | undefined {
  if (!attachment) return undefined;
  if (attachment.length !== 4 * config.vocabularySize)
    throw new KvFormatError(
      `loadPrefix: the file has ${attachment.length} bytes of logits, ${config.vocabularySize} tokens take ${4 * config.vocabularySize}`,
    );
  return keep(fromBytes(backend, attachment, [1, config.vocabularySize], 'f32'));
}

function checkTokens(model: Model, { cache, tokens, damage }: LoadedKv): number[] {
  const end = cache.positionsEnd;
  if (end === 0 && damage) throw damage;
  if (tokens.length !== end)
    throw new KvFormatError(`loadPrefix: the file has ${tokens.length} tokens of ${end} positions; it is no prefix of a model`);
  if (end > model.context)
    throw new ContextLengthError(`loadPrefix: ${end} tokens do not fit into the context of ${model.context}`);
  return model.checkTokens(tokens, 'loadPrefix');
}

/**
 * Tells models apart as well as it can without reading all weights: by configuration, types of the weights, the norms, and the first rows of the embedding.
 * Weights that differ elsewhere only, by an adapter say, look alike.
 */
export async function modelFingerprint({ config, weights }: Decoder): Promise<string> {
  const { name, ...sizes } = config;
  const types = [...weights.linears].map(([linear, { type }]) => `${linear} ${type}`);
  let checksum = crc32c(new TextEncoder().encode(JSON.stringify([sizes, types])));
  for (const vector of weights.vectors) checksum = crc32c(await vector.readBytes(), checksum);
  const { blocks } = weights.embedding;
  const rows = Math.min(64, blocks.shape[0]);
  const first = blocks.view([rows, ...blocks.shape.slice(1)], blocks.offset);
  try {
    checksum = crc32c(await first.readBytes(), checksum);
  } finally {
    first.dispose();
  }
  return `${name ?? config.architecture} ${checksum.toString(16).padStart(8, '0')}`;
}
