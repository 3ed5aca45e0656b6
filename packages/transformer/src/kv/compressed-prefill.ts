import {
  fromArray,
  narrow,
  OptionError,
  reshape,
  scope,
  throwIfAborted,
  unscoped,
  writeSlice,
  type Tensor,
} from '@filigree/core-tensor';
import type { CompressContext, Compressor, Kept, StreamCache } from '@filigree/kv-cache';
import type { ModelConfig } from '../config/model-config.js';
import type { Decoder } from '../model/decoder.js';
import { NewestQueries } from './newest-queries.js';
import { PromptRows } from './prompt-rows.js';

export interface CompressedPrefill {
  readonly decoder: Decoder;
  /** Empty; gets what is kept. */
  readonly cache: StreamCache;
  readonly compressor: Compressor;
  readonly tokens: readonly number[];
  readonly chunk: number;
  readonly signal: AbortSignal | undefined;
  /** Whether the cache is cut again while decoding, by what entries received until then. */
  readonly accumulate?: boolean | undefined;
  /** Called after every layer but the last, with the tokens that its share of the work stands for. */
  readonly onChunk?: ((doneTokens: number) => void) | undefined;
}

/**
 * Reads a prompt layer by layer: a layer sees all of the prompt, its entries are cut down, and the next layer uses the same memory. At most one layer
 * is there as a whole, beside the hidden states [T, hidden]. Resolves with the logits of the last token, [1, vocabulary], which the caller disposes.
 */
export async function compressedPrefill(parts: CompressedPrefill): Promise<Tensor> {
  const { decoder, tokens, compressor, signal, onChunk } = parts;
  const { config } = decoder;
  if (compressor.cascade && config.windows.some((window) => window > 0))
    throw new OptionError(
      `kv: ${compressor.id} leaves out tokens, which layers with a window of their own would not notice; take another method`,
    );
  const rows = new PromptRows(decoder, parts.cache.pool.dtype, tokens.length);
  try {
    embed(parts, rows.hidden);
    for (let layer = 0; layer < config.layers; layer++) {
      throwIfAborted(signal);
      const kept = await compressLayer(parts, layer, rows);
      if (compressor.cascade) rows.keep(kept[0]);
      if (layer < config.layers - 1) onChunk?.(Math.floor(((layer + 1) / config.layers) * tokens.length));
    }
    return scope(() => decoder.logits(narrow(rows.hidden, rows.length - 1, 1)));
  } finally {
    rows.dispose();
  }
}

/** Entries of a layer that stay of a prompt: what its own window still sees, or what the compressor leaves. */
export function entriesKept({ windows, layers }: ModelConfig, compressor: Compressor, length: number, layer: number): number {
  const window = windows[layer];
  return Math.min(length, window > 0 ? window : compressor.budget(length, layer, layers));
}

function embed({ decoder, tokens, chunk }: CompressedPrefill, hidden: Tensor): void {
  for (let start = 0; start < tokens.length; start += chunk) {
    scope(() => {
      const part = tokens.slice(start, start + chunk);
      writeSlice(hidden, decoder.embed(fromArray(decoder.backend, part, [part.length], 'i32')), { axis: 0, start });
    });
  }
}

async function compressLayer(parts: CompressedPrefill, layer: number, rows: PromptRows): Promise<readonly Uint32Array[]> {
  const { decoder, tokens, cache, compressor, chunk, signal } = parts;
  const { config, backend } = decoder;
  const { length, hidden } = rows;
  const kept = Math.min(length, entriesKept(config, compressor, tokens.length, layer));
  // A cascade adds up what it sees as long as any layer drops something.
  const least = compressor.cascade ? entriesKept(config, compressor, tokens.length, config.layers - 1) : kept;
  const dense = config.windows[layer] > 0 || Math.min(kept, least) >= length;
  const queries = new NewestQueries(dense ? 0 : compressor.queries === 'all' ? length : compressor.queries);
  const entries = { k: withoutBatch(rows.k), v: withoutBatch(rows.v) };
  let q: Tensor | undefined;
  try {
    for (let start = 0; start < length; start += chunk) {
      const count = Math.min(chunk, length - start);
      scope(() => {
        const onQueries = (_: number, q: Tensor): void => {
          queries.add(q);
        };
        const kv = rows.step(start, count);
        writeSlice(hidden, decoder.layer(layer, narrow(hidden, start, count), { kv, onQueries }), { axis: 0, start });
      });
      await backend.ready();
      throwIfAborted(signal);
    }
    q = queries.joined(backend, config.heads, config.headDim);
    const progress = compressor.cascade ? { entries: kept, importance: rows.importance } : {};
    const chosen = dense
      ? { kept: newest(config.kvHeads, length, kept) }
      : await compressEntries(decoder, compressor, { layer, q, ...entries }, { ...progress, accumulate: parts.accumulate });
    cache.fill(layer, entries, chosen.kept, { ...chosen, places: { positions: rows.positions, end: tokens.length } });
    return chosen.kept;
  } finally {
    queries.dispose();
    for (const tensor of [q, entries.k, entries.v]) tensor?.dispose();
  }
}

/** What stays of the entries of a layer, and what is added to the scores of entries, [Hk][S]. */
export interface ChosenEntries {
  readonly kept: Kept;
  readonly bias?: readonly Float32Array[] | undefined;
  /** Attention that entries received, [Hk][S], where that is to be gone on with. */
  readonly received?: readonly Float32Array[] | undefined;
}

/** What a decision about a layer goes on with. */
interface Progress extends Pick<CompressContext, 'entries' | 'importance'> {
  /** Whether attention that entries receive is to be kept for later decisions. */
  readonly accumulate?: boolean | undefined;
}

/** Asks the compressor about the entries of a layer: k [Hk, S, D], v [Hk, S, Dv], q [1, n, Hq, D]. */
export async function compressEntries(
  decoder: Decoder,
  compressor: Compressor,
  { layer, ...tensors }: { readonly layer: number; readonly k: Tensor; readonly v: Tensor; readonly q: Tensor },
  { accumulate = false, ...progress }: Progress = {},
): Promise<ChosenEntries> {
  const { config, backend } = decoder;
  const { layers, heads, kvHeads, attentionScale: scale, attentionSoftcap: softcap } = config;
  const rotate = (x: Tensor, by: Tensor): Tensor => decoder.rotate(layer, x, by);
  const outputWeight = (): Tensor => decoder.outputWeight(layer);
  const shape = { layer, layers, heads, kvHeads, length: tensors.k.shape[1] };
  const zeros = (): Float32Array[] => Array.from({ length: kvHeads }, () => new Float32Array(shape.length));
  const numbers = { bias: zeros(), received: accumulate ? zeros() : undefined };
  const context = { backend, ...shape, ...tensors, ...progress, ...numbers, scale, softcap, rotate, outputWeight };
  return { kept: await compressor.compress(context), ...numbers };
}

/** The last `count` of `length` entries, for every head. */
export function newest(kvHeads: number, length: number, count: number): Uint32Array[] {
  return Array.from({ length: kvHeads }, () => Uint32Array.from({ length: count }, (_, index) => length - count + index));
}

/** [1, H, T, D] → [H, T, D]; the caller disposes it. */
function withoutBatch(x: Tensor): Tensor {
  return unscoped(() => reshape(x, x.shape.slice(1)));
}
