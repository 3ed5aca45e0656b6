import { fromArray, gatherRows, reshape, scope, throwIfAborted, type Tensor } from '@filigree/core-tensor';
import { KvCache, type LayerScores, type RepeatPass } from '@filigree/kv-cache';
import { compressedPrefill, entriesKept, newest, type CompressedPrefill } from './compressed-prefill.js';
import { RepeatScores } from './repeat-scores.js';
import { DenseKv } from './sequence-kv.js';

export interface RepeatedPrefill extends CompressedPrefill {
  readonly repeat: RepeatPass;
  readonly tokenize: (text: string) => readonly number[];
}

/** Tokens from `start` to `end` of the prompt, and how the model is asked for them. */
interface RepeatedPart {
  readonly start: number;
  readonly end: number;
  readonly tokens: readonly number[];
}

/**
 * Reads a prompt as a whole, has the model repeat it, and keeps what that looked at most. All entries of the prompt are there until then. Resolves with the
 * logits of the last token, [1, vocabulary], which the caller disposes.
 */
export async function repeatedPrefill(parts: RepeatedPrefill): Promise<Tensor> {
  const { decoder, cache, compressor, repeat, tokens, onChunk } = parts;
  const { kvHeads, headDim, windows } = decoder.config;
  const open = [...windows.keys()].filter(
    (layer) => windows[layer] === 0 && entriesKept(decoder.config, compressor, tokens.length, layer) < tokens.length,
  );
  if (open.length === 0) return compressedPrefill(parts);
  const repeated = repeatedParts(parts);
  const longest = Math.max(...repeated.map((part) => part.tokens.length));
  const dense = new KvCache(decoder.backend, {
    layers: windows.map(() => ({ kHeads: kvHeads, vHeads: kvHeads, kDim: headDim, vDim: headDim })),
    capacity: tokens.length + longest,
    pageSize: cache.pool.pageSize,
    dtype: cache.pool.dtype,
  });
  let logits: Tensor | undefined;
  try {
    logits = await read(parts, dense, tokens, { logits: 'last', onChunk });
    const scores = await repeatAll(parts, dense, repeated, open);
    const chosen = repeat.choose(scores, tokens.length);
    const lists = windows.map((_, layer) => {
      const at = open.indexOf(layer);
      const count = entriesKept(decoder.config, compressor, tokens.length, layer);
      return at < 0 ? newest(kvHeads, tokens.length, count) : chosen[at];
    });
    const whole = entryRows(dense, kvHeads, tokens.length);
    for (const [layer, kept] of lists.entries()) {
      scope(() => {
        const ids = fromArray(decoder.backend, whole, [whole.length], 'i32');
        const taken = (pages: Tensor): Tensor =>
          reshape(gatherRows(reshape(pages, [-1, headDim]), ids), [kvHeads, tokens.length, headDim]);
        cache.fill(layer, { k: taken(dense.pool.keys[layer]), v: taken(dense.pool.values[layer]) }, kept);
      });
      await decoder.backend.ready();
    }
    if (logits) return logits;
    throw new RangeError('repeatedPrefill: a step of the last token returns logits');
  } catch (error) {
    logits?.dispose();
    throw error;
  } finally {
    dense.dispose();
  }
}

function repeatedParts({ repeat, tokens, tokenize }: RepeatedPrefill): RepeatedPart[] {
  const { chunk, overlap, instructions } = repeat;
  return Array.from({ length: Math.ceil(tokens.length / chunk) }, (_, index) => {
    const start = index * chunk;
    const end = Math.min(tokens.length, start + chunk);
    const asked = tokenize(start === 0 ? instructions.first : instructions.later);
    return { start, end, tokens: [...asked, ...tokens.slice(start === 0 ? 0 : Math.max(0, start - overlap), end)] };
  });
}

/** What entries of layers are attended to at most while the prompt is repeated. Leaves the cache as it was. */
async function repeatAll(
  parts: RepeatedPrefill,
  dense: KvCache,
  repeated: readonly RepeatedPart[],
  layers: readonly number[],
): Promise<LayerScores[]> {
  const { decoder, repeat, tokens } = parts;
  const { kvHeads } = decoder.config;
  const scores = layers.map((layer) => ({
    layer,
    rows: Array.from({ length: kvHeads }, () => new Float32Array(tokens.length)),
  }));
  for (const { start, end, tokens: ids } of repeated) {
    const outputWeight = repeat.weighted === true ? (layer: number): Tensor => decoder.outputWeight(layer) : undefined;
    const span = { start, end, sinks: repeat.sinks, length: tokens.length, layers, outputWeight };
    const found = new RepeatScores(decoder.config, dense, span);
    try {
      await read(parts, dense, ids, { logits: 'none', found });
      for (const { layer, rows } of scores)
        for (const [head, row] of (await found.rows(layer)).entries()) rows[head].set(row, start);
    } finally {
      found.dispose();
      dense.truncate(tokens.length);
    }
  }
  return scores;
}

interface ReadOptions {
  readonly logits: 'last' | 'none';
  readonly found?: RepeatScores;
  readonly onChunk?: CompressedPrefill['onChunk'];
}

async function read(
  { decoder, chunk, signal }: RepeatedPrefill,
  dense: KvCache,
  tokens: readonly number[],
  { logits, found, onChunk }: ReadOptions,
): Promise<Tensor | undefined> {
  const kv = new DenseKv(dense);
  for (let start = 0; ; start += chunk) {
    const part = tokens.slice(start, start + chunk);
    const last = start + chunk >= tokens.length;
    const result = scope(() => {
      const step = kv.step(kv.reserve(part.length));
      const onQueries = found?.step(part.length);
      const ids = fromArray(decoder.backend, part, [part.length], 'i32');
      return decoder.step(ids, { kv: step, logits: last ? logits : 'none', onQueries });
    });
    if (last) return result;
    await decoder.backend.ready();
    onChunk?.(Math.floor((start + part.length) / 2));
    throwIfAborted(signal);
  }
}

/** Rows of a layer's pages, each head's entries in order: [Hk · count]. */
function entryRows(dense: KvCache, kvHeads: number, count: number): Int32Array {
  const { pageSize } = dense.pool;
  return Int32Array.from({ length: kvHeads * count }, (_, index) => {
    const [head, entry] = [Math.floor(index / count), index % count];
    return (dense.pages[Math.floor(entry / pageSize)] * kvHeads + head) * pageSize + (entry % pageSize);
  });
}
