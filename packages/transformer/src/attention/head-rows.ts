import { concat, fromArray, gatherRows, keep, reshape, type Backend, type Tensor } from '@filigree/core-tensor';

/** Takes heads out of queries and puts their outputs back in order. Its index tensors are made once, before a step is recorded. */
export class HeadRows {
  readonly #rows = new Map<string, Tensor>();
  readonly #maps = new Map<string, Tensor>();

  constructor(
    private readonly backend: Backend,
    private readonly heads: number,
    private readonly kvHeads: number,
  ) {}

  /** q [1, T, Hq, D] → [1, T, heads, D]. */
  take(q: Tensor, heads: readonly number[]): Tensor {
    const [, count, all, dim] = q.shape;
    const rows = gatherRows(reshape(q, [count * all, dim]), this.rows(heads, count));
    return reshape(rows, [1, count, heads.length, dim]);
  }

  /** Outputs [1, T, heads, D] of groups that together have every head → [1, T, Hq, D]. */
  join(parts: readonly { readonly o: Tensor; readonly heads: readonly number[] }[]): Tensor {
    const [, count, , dim] = parts[0].o.shape;
    const rows = concat(
      parts.map(({ o, heads }) => reshape(o, [count * heads.length, dim])),
      0,
    );
    const places = this.places(
      parts.map(({ heads }) => heads),
      count,
    );
    return reshape(gatherRows(rows, places), [1, count, this.heads, dim]);
  }

  /** i32 [heads]: query head of the group → key-value head. */
  kvMap(heads: readonly number[]): Tensor {
    return this.#made(this.#maps, heads.join(), () => heads.map((head) => Math.floor((head * this.kvHeads) / this.heads)));
  }

  /** i32 [T · heads]: rows of q [T · Hq, D] that belong to the heads. */
  rows(heads: readonly number[], count: number): Tensor {
    return this.#made(this.#rows, `${count}:${heads.join()}`, () =>
      Array.from({ length: count }, (_, token) => heads.map((head) => token * this.heads + head)).flat(),
    );
  }

  /** i32 [T · Hq]: rows of the groups' outputs behind each other, in the order of tokens and heads. */
  places(groups: readonly (readonly number[])[], count: number): Tensor {
    return this.#made(this.#rows, `${count}:${groups.map((heads) => heads.join()).join(';')};`, () => {
      const places = new Array<number>(count * this.heads);
      let before = 0;
      for (const heads of groups) {
        for (let token = 0; token < count; token++) {
          for (const [index, head] of heads.entries())
            places[token * this.heads + head] = before + token * heads.length + index;
        }
        before += count * heads.length;
      }
      return places;
    });
  }

  dispose(): void {
    for (const tensor of [...this.#rows.values(), ...this.#maps.values()]) tensor.dispose();
    this.#rows.clear();
    this.#maps.clear();
  }

  #made(known: Map<string, Tensor>, key: string, make: () => number[]): Tensor {
    const before = known.get(key);
    if (before) return before;
    const values = make();
    const tensor = keep(fromArray(this.backend, values, [values.length], 'i32'));
    known.set(key, tensor);
    return tensor;
  }
}
