import { concat, fromArray, permute, reshape, throwIfAborted, type Backend, type Tensor } from '@filigree/core-tensor';
import type { SelectContext } from '../selector.js';
import type { CalibratedModel } from './calibrated-model.js';

/** Queries, keys and values of one layer over one text, and what goes with them. Disposed by whoever made it. */
export interface LayerSample {
  readonly backend: Backend;
  readonly layer: number;
  readonly length: number;
  readonly heads: number;
  readonly kvHeads: number;
  /** The whole text as one step: q [1, L, Hq, D], k and v [1, Hk, L, D]. */
  readonly context: SelectContext;
}

const parts = ['query', 'key', 'value'] as const;

/**
 * Runs the model over the tokens and calls `visit` with each of the layers in turn. As many layers as fit into `memoryBytes` are kept from one
 * run; the rest takes further runs.
 */
export async function visitLayers(
  model: CalibratedModel,
  tokens: readonly number[],
  layers: readonly number[],
  options: { readonly memoryBytes: number; readonly signal?: AbortSignal | undefined },
  visit: (sample: LayerSample) => Promise<void>,
): Promise<void> {
  const { heads, kvHeads, headDim } = model.config;
  const layerBytes = 4 * tokens.length * headDim * (heads + 2 * kvHeads);
  const atOnce = Math.max(1, Math.floor(options.memoryBytes / layerBytes));
  for (let start = 0; start < layers.length; start += atOnce) {
    const group = layers.slice(start, start + atOnce);
    const captured = new Map<string, Tensor[]>();
    try {
      const read = Object.fromEntries(
        group.flatMap((layer) =>
          parts.map((part) => {
            const chunks: Tensor[] = [];
            captured.set(`${layer}.${part}`, chunks);
            return [`layers.${layer}.attention.${part}`, (rows: Tensor) => void chunks.push(rows.view(rows.shape))];
          }),
        ),
      );
      const logits = await model.run(tokens, { read, signal: options.signal, logits: 'last' });
      logits.dispose();
      for (const layer of group) {
        throwIfAborted(options.signal);
        const sample = sampleOf(model, layer, tokens.length, (part) => captured.get(`${layer}.${part}`) ?? []);
        try {
          await visit(sample);
        } finally {
          disposeSample(sample);
        }
      }
    } finally {
      for (const tensor of [...captured.values()].flat()) tensor.dispose();
    }
  }
}

/** Joins a layer's chunks, which are disposed. */
function sampleOf(
  model: CalibratedModel,
  layer: number,
  length: number,
  chunksOf: (part: (typeof parts)[number]) => Tensor[],
): LayerSample {
  const { backend, config } = model;
  const rows = (part: (typeof parts)[number]): Tensor => {
    const chunks = chunksOf(part);
    const whole = chunks.length === 1 ? chunks[0].view(chunks[0].shape) : concat(chunks, 0);
    for (const chunk of chunks.splice(0)) chunk.dispose();
    return whole;
  };
  /** [L, Hk, D] → [1, Hk, L, D]. */
  const page = (part: 'key' | 'value'): Tensor => {
    const whole = rows(part);
    const byHead = permute(whole, [1, 0, 2]);
    const paged = reshape(byHead, [1, ...byHead.shape]);
    for (const tensor of [whole, byHead]) tensor.dispose();
    return paged;
  };
  const queries = rows('query');
  const q = reshape(queries, [1, ...queries.shape]);
  queries.dispose();
  return {
    backend,
    layer,
    length,
    heads: config.heads,
    kvHeads: config.kvHeads,
    context: {
      layer,
      layers: config.layers,
      q,
      queryLayout: 'blhd',
      k: page('key'),
      v: page('value'),
      table: undefined,
      lengths: fromArray(backend, [length, length], [1, 2], 'i32'),
      lengthsK: fromArray(backend, [length], [1], 'i32'),
      lenQ: [length],
      lenK: [length],
      promptEnd: [length],
      kvMap: undefined,
      scale: config.attentionScale,
      softcap: config.attentionSoftcap,
      rotate: undefined,
    },
  };
}

function disposeSample({ context }: LayerSample): void {
  for (const tensor of [context.q, context.k, context.v, context.lengths, context.lengthsK]) tensor.dispose();
}
