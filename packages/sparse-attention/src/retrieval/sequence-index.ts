import type { KeyIndex } from './key-index.js';

export interface IndexMakers {
  /** What is searched at first. */
  readonly exact: (keys: Float32Array) => KeyIndex;
  /** What takes its place once queries of so many steps are known. */
  readonly trained: (keys: Float32Array, queries: Float32Array) => KeyIndex;
  readonly trainSteps: number;
}

/** The indexes of a sequence, one for each key-value head, and the queries that a trained one is made from. */
export class SequenceIndex {
  readonly #heads: { index: KeyIndex | undefined; keys: Float32Array[]; queries: Float32Array[] }[];
  #steps = 0;

  constructor(
    kvHeads: number,
    private readonly dim: number,
    private readonly makers: IndexMakers,
  ) {
    this.#heads = Array.from({ length: kvHeads }, () => ({ index: undefined, keys: [], queries: [] }));
  }

  /** Keys in the index of each head. */
  get size(): number {
    return this.#heads[0]?.index?.size ?? 0;
  }

  /** Adds keys, [Hk] of [n, dim]. */
  add(keys: readonly Float32Array[]): void {
    for (const [head, own] of this.#heads.entries()) {
      if (own.index) own.index.add(keys[head]);
      else own.index = this.makers.exact(keys[head].slice());
      if (this.#trains) own.keys.push(keys[head]);
    }
  }

  search(kvHead: number, query: Float32Array, count: number): Int32Array {
    const own = this.#heads[kvHead];
    if (this.#trains) own.queries.push(query.slice());
    return own.index?.search(query, count).ids ?? new Int32Array();
  }

  /** Builds trained indexes once enough steps were searched. */
  stepDone(): void {
    if (!this.#trains || ++this.#steps < this.makers.trainSteps) return;
    for (const own of this.#heads) {
      own.index = this.makers.trained(joined(own.keys, this.dim), joined(own.queries, this.dim));
      own.keys = [];
      own.queries = [];
    }
  }

  get #trains(): boolean {
    return this.#steps < this.makers.trainSteps && Number.isFinite(this.makers.trainSteps);
  }
}

function joined(parts: readonly Float32Array[], dim: number): Float32Array {
  const rows = parts.reduce((sum, part) => sum + part.length / dim, 0);
  const all = new Float32Array(rows * dim);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
