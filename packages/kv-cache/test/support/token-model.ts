import { fromArray, Random, type Backend, type HookedRunOptions, type Tensor } from '@filigree/core-tensor';
import type { CalibratedKvModel } from '@filigree/kv-cache';
import { normals } from './compress-context.js';

/** What a key-value head and its query heads look at: what followed the same token before, the token itself, or the token before. */
export type HeadKind = 'induction' | 'echo' | 'previous';

const dim = 64;
const strength = 12;

/** A model whose queries and keys follow from its tokens alone: layers of key-value heads, each of some kind; `loud` says how much its query heads mean it. */
export class TokenModel implements CalibratedKvModel {
  readonly config: CalibratedKvModel['config'];
  runs = 0;
  readonly #words = new Map<string, number>();

  constructor(
    readonly backend: Backend,
    private readonly layers: readonly (readonly HeadKind[])[],
    private readonly loud: readonly number[] = [1],
    windows: readonly number[] = layers.map(() => 0),
  ) {
    const kvHeads = layers[0].length;
    const heads = kvHeads * loud.length;
    this.config = {
      ...{ layers: layers.length, heads, kvHeads, headDim: dim, windows, vocabularySize: 1000 },
      ...{ attentionScale: 1, attentionSoftcap: 0 },
    };
  }

  /** A token a word. */
  tokenize(text: string): number[] {
    return text
      .split(/\s+/)
      .filter((word) => word !== '')
      .map((word) => {
        const known = this.#words.get(word) ?? 500 + this.#words.size;
        this.#words.set(word, known);
        return known;
      });
  }

  hooks(): string[] {
    return [];
  }

  /** Calls the readers once per chunk of 100 tokens, as models do with theirs. */
  async run(tokens: ArrayLike<number>, { read = {} }: HookedRunOptions = {}): Promise<Tensor> {
    this.runs++;
    for (const [layer, kinds] of this.layers.entries())
      for (let start = 0; start < tokens.length; start += 100) {
        const rows = Array.from({ length: Math.min(100, tokens.length - start) }, (_, index) => start + index);
        const queryKinds = kinds.flatMap((kind) => this.loud.map((loud) => ({ kind, loud })));
        const shown: Record<string, Float32Array[]> = {
          query: rows.flatMap((row) => queryKinds.map(({ kind, loud }) => query(kind, tokens, row, loud))),
          key: rows.flatMap((row) => kinds.map((kind) => key(kind, tokens, row))),
          value: rows.flatMap((row) => kinds.map((_, head) => normals(new Random(head, row), dim))),
        };
        for (const [part, vectors] of Object.entries(shown)) {
          const name = `layers.${layer}.attention.${part}`;
          if (!(name in read)) continue;
          const flat = Float32Array.from(vectors.flatMap((vector) => Array.from(vector)));
          const tensor = fromArray(this.backend, flat, [rows.length, vectors.length / rows.length, dim]);
          read[name](tensor);
          tensor.dispose();
        }
      }
    await this.backend.ready();
    return fromArray(this.backend, [0], [1, 1]);
  }
}

/** A unit vector of its own for every number. */
function direction(id: number): Float32Array {
  const vector = normals(new Random(99, id + 1), dim);
  const norm = Math.hypot(...vector);
  return vector.map((channel) => channel / norm);
}

function query(kind: HeadKind, tokens: ArrayLike<number>, row: number, loud: number): Float32Array {
  const at = kind === 'previous' ? direction(5000 + row - 1) : direction(tokens[row]);
  return at.map((channel) => loud * strength * channel);
}

function key(kind: HeadKind, tokens: ArrayLike<number>, row: number): Float32Array {
  if (kind === 'previous') return direction(5000 + row);
  if (kind === 'echo') return direction(tokens[row]);
  return row === 0 ? direction(4999) : direction(tokens[row - 1]);
}
