/** Rows [size, dim] that grow at their end. */
export class Rows {
  #data: Float32Array;
  #size = 0;

  constructor(
    readonly dim: number,
    rows: Float32Array = new Float32Array(),
  ) {
    this.#data = rows;
    this.#size = rows.length / dim;
  }

  get size(): number {
    return this.#size;
  }

  /** All rows behind each other; replaced when rows are added. */
  get data(): Float32Array {
    return this.#data;
  }

  row(index: number): Float32Array {
    return this.#data.subarray(index * this.dim, (index + 1) * this.dim);
  }

  add(rows: Float32Array): void {
    const used = this.#size * this.dim;
    if (used + rows.length > this.#data.length) {
      const grown = new Float32Array(Math.max(2 * this.#data.length, used + rows.length));
      grown.set(this.#data.subarray(0, used));
      this.#data = grown;
    }
    this.#data.set(rows, used);
    this.#size += rows.length / this.dim;
  }

  /** Product of a query and a row. */
  product(query: Float32Array, index: number): number {
    const { dim } = this;
    const data = this.#data;
    const at = index * dim;
    let sum = 0;
    for (let channel = 0; channel < dim; channel++) sum += query[channel] * data[at + channel];
    return sum;
  }

  /** Squared distance of two rows. */
  distance(one: number, other: number): number {
    const { dim } = this;
    const data = this.#data;
    let sum = 0;
    for (let channel = 0; channel < dim; channel++) {
      const difference = data[one * dim + channel] - data[other * dim + channel];
      sum += difference * difference;
    }
    return sum;
  }
}
