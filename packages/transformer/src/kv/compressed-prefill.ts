import {
  empty,
  fromArray,
  narrow,
  reshape,
  scope,
  throwIfAborted,
  unscoped,
  writeSlice,
  type Tensor,
} from '@filigree/core-tensor';
import { appendOp, type Compressor, type StreamCache } from '@filigree/kv-cache';
import { attention } from '@filigree/sparse-attention';
import type { ModelConfig } from '../config/model-config.js';
import type { Decoder } from '../model/decoder.js';
import { NewestQueries } from './newest-queries.js';
import type { StepKv } from './sequence-kv.js';

export interface CompressedPrefill {
  readonly decoder: Decoder;
  /** Empty; gets what is kept. */
  readonly cache: StreamCache;
  readonly compressor: Compressor;
  readonly tokens: readonly number[];
  readonly chunk: number;
  readonly signal: AbortSignal | undefined;
  /** Called after every layer but the last, with the tokens that its share of the work stands for. */
  readonly onChunk?: ((doneTokens: number) => void) | undefined;
}

/**
 * Reads a prompt layer by layer: a layer sees all of the prompt, its entries are cut down, and the next layer uses the same memory. At most one layer
 * is there as a whole, beside the hidden states [T, hidden]. Resolves with the logits of the last token, [1, vocabulary], which the caller disposes.
 */
export async function compressedPrefill(parts: CompressedPrefill): Promise<Tensor> {
  const { decoder, tokens, signal, onChunk } = parts;
  const { backend, config } = decoder;
  const { layers, kvHeads, headDim, hiddenSize } = config;
  const { dtype } = parts.cache.pool;
  const pages = (): Tensor => unscoped(() => empty(backend, [1, kvHeads, tokens.length, headDim], dtype));
  const whole = { k: pages(), v: pages() };
  const hidden = unscoped(() => empty(backend, [tokens.length, hiddenSize], 'f32'));
  try {
    embed(parts, hidden);
    for (let layer = 0; layer < layers; layer++) {
      throwIfAborted(signal);
      await compressLayer(parts, { layer, whole, hidden });
      if (layer < layers - 1) onChunk?.(Math.floor(((layer + 1) / layers) * tokens.length));
    }
    return scope(() => decoder.logits(narrow(hidden, tokens.length - 1, 1)));
  } finally {
    for (const tensor of [whole.k, whole.v, hidden]) tensor.dispose();
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

interface WholeLayer {
  readonly layer: number;
  /** [1, Hk, T, D]. */
  readonly whole: { readonly k: Tensor; readonly v: Tensor };
  /** [T, hidden]: what the layer reads, and what it leaves. */
  readonly hidden: Tensor;
}

async function compressLayer(parts: CompressedPrefill, { layer, whole, hidden }: WholeLayer): Promise<void> {
  const { decoder, tokens, cache, compressor, chunk, signal } = parts;
  const { config, backend } = decoder;
  const length = tokens.length;
  const kept = entriesKept(config, compressor, length, layer);
  const dense = config.windows[layer] > 0 || kept >= length;
  const queries = new NewestQueries(dense ? 0 : compressor.queries === 'all' ? length : compressor.queries);
  const entries = { k: withoutBatch(whole.k), v: withoutBatch(whole.v) };
  let q: Tensor | undefined;
  try {
    for (let start = 0; start < length; start += chunk) {
      const count = Math.min(chunk, length - start);
      scope(() => {
        const positions = fromArray(
          backend,
          Int32Array.from({ length: count }, (_, index) => start + index),
          [count],
          'i32',
        );
        const onQueries = (_: number, q: Tensor): void => {
          queries.add(q);
        };
        const kv = wholeStep(whole, positions, start + count);
        writeSlice(hidden, decoder.layer(layer, narrow(hidden, start, count), { kv, onQueries }), { axis: 0, start });
      });
      await backend.ready();
      throwIfAborted(signal);
    }
    q = queries.joined(backend, config.heads, config.headDim);
    const lists = dense
      ? newest(config.kvHeads, length, kept)
      : await compressEntries(decoder, compressor, { layer, q, ...entries });
    cache.fill(layer, entries, lists);
  } finally {
    queries.dispose();
    for (const tensor of [q, entries.k, entries.v]) tensor?.dispose();
  }
}

/** One layer as contiguous entries. */
function wholeStep({ k, v }: WholeLayer['whole'], positions: Tensor, lengthK: number): StepKv {
  return {
    positions,
    layer: () => ({
      append: (newK, newV) => {
        appendOp({ keyPages: k, valuePages: v, k: newK, v: newV, slots: positions }, {});
      },
      attend: (q, options) => attention(q, k, v, { ...options, lengthK, queryLayout: 'blhd' }).o,
    }),
  };
}

/** Asks the compressor about the entries of a layer: k [Hk, S, D], v [Hk, S, Dv], q [1, n, Hq, D]. */
export function compressEntries(
  decoder: Decoder,
  compressor: Compressor,
  { layer, ...tensors }: { readonly layer: number; readonly k: Tensor; readonly v: Tensor; readonly q: Tensor },
): Promise<readonly Uint32Array[]> {
  const { config, backend } = decoder;
  const { layers, heads, kvHeads, attentionScale: scale, attentionSoftcap: softcap } = config;
  const rotate = (x: Tensor, by: Tensor): Tensor => decoder.rotate(layer, x, by);
  const outputWeight = (): Tensor => decoder.outputWeight(layer);
  const shape = { layer, layers, heads, kvHeads, length: tensors.k.shape[1] };
  return compressor.compress({ backend, ...shape, ...tensors, scale, softcap, rotate, outputWeight });
}

/** The last `count` of `length` entries, for every head. */
export function newest(kvHeads: number, length: number, count: number): Uint32Array[] {
  return Array.from({ length: kvHeads }, () => Uint32Array.from({ length: count }, (_, index) => length - count + index));
}

/** [1, H, T, D] → [H, T, D]; the caller disposes it. */
function withoutBatch(x: Tensor): Tensor {
  return unscoped(() => reshape(x, x.shape.slice(1)));
}
