import { add, keep, type Tensor } from '@filigree/core-tensor';

/** What is known of the attention of one layer. */
export interface LayerAttention {
  /** Key-query pairs computed over those of dense causal attention. */
  readonly density: number;
  /** Mean share of the dense softmax mass that lies on the keys that were seen; where it was asked for. */
  readonly recall?: number | undefined;
  /** Milliseconds of estimating and of attending; where they were asked for. */
  readonly selectMs?: number | undefined;
  readonly executeMs?: number | undefined;
}

/** Numbers f32 [n] on the device: `length` of them for each entry, of which the sum times `weight` counts. */
export interface DeviceCounts {
  readonly values: Tensor;
  readonly entries: readonly CountEntry[];
}

export interface CountEntry {
  readonly kind: 'cells' | 'recall';
  readonly layer: number;
  readonly length: number;
  readonly weight: number;
}

/** Visible and causal cells of attention per layer, one head's worth. Counts that selectors leave on the device come in with `read`. */
export class AttentionMeter {
  readonly #visible: number[];
  readonly #causal: number[];
  readonly #recall: number[];
  readonly #queries: number[];
  /** Causal cells whose visible ones are still on the device. */
  readonly #open: number[];
  readonly #pending = new Map<readonly CountEntry[], Tensor>();

  constructor(private readonly layers: number) {
    const zeros = (): number[] => new Array<number>(layers).fill(0);
    this.#visible = zeros();
    this.#causal = zeros();
    this.#recall = zeros();
    this.#queries = zeros();
    this.#open = zeros();
  }

  /**
   * Counts a layer's queries at `start … start + count`: all keys in the window (0: none) for a share `dense` of the heads, `visible` cells for the
   * others together, in heads' worths; what a share `open` sees is on the device.
   */
  add(
    layer: number,
    {
      start,
      count,
      window = 0,
      dense = 1,
      visible = 0,
      open = 0,
    }: {
      readonly start: number;
      readonly count: number;
      readonly window?: number;
      readonly dense?: number;
      readonly visible?: number;
      readonly open?: number;
    },
  ): void {
    const causal = triangle(start + count) - triangle(start);
    this.#causal[layer] += causal;
    this.#open[layer] += open * causal;
    this.#visible[layer] += visible + dense * (window > 0 ? windowed(start + count, window) - windowed(start, window) : causal);
  }

  /** Takes over counts of a step; those of a step that is run again and again are summed where they are. */
  addOnDevice({ values, entries }: DeviceCounts): void {
    const before = this.#pending.get(entries);
    this.#pending.set(entries, before ? keep(add(before, values)) : keep(values));
    if (!before) return;
    before.dispose();
    values.dispose();
  }

  /** Queries for whose heads the recall is measured. */
  addQueries(layer: number, count: number): void {
    this.#queries[layer] += count;
  }

  /** Brings in what is on the device. */
  async read(): Promise<void> {
    const pending = [...this.#pending];
    this.#pending.clear();
    try {
      for (const [entries, values] of pending) {
        const numbers = await values.readNumbers();
        let at = 0;
        for (const { kind, layer, length, weight } of entries) {
          const sums = kind === 'cells' ? this.#visible : this.#recall;
          for (const end = at + length; at < end; at++) sums[layer] += weight * numbers[at];
        }
      }
      this.#open.fill(0);
    } finally {
      for (const [, values] of pending) values.dispose();
    }
  }

  /** Of all layers; 1 before anything was counted. What is on the device does not count before it was read. */
  get density(): number {
    const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
    const known = sum(this.#causal) - sum(this.#open);
    return known === 0 ? 1 : sum(this.#visible) / known;
  }

  /** Per layer. */
  layerStats(): LayerAttention[] {
    return Array.from({ length: this.layers }, (_, layer) => {
      const known = this.#causal[layer] - this.#open[layer];
      return {
        density: known === 0 ? 1 : this.#visible[layer] / known,
        ...(this.#queries[layer] === 0 ? {} : { recall: this.#recall[layer] / this.#queries[layer] }),
      };
    });
  }

  dispose(): void {
    for (const values of this.#pending.values()) values.dispose();
    this.#pending.clear();
  }
}

/** Cells of n causal queries. */
function triangle(n: number): number {
  return (n * (n + 1)) / 2;
}

/** Cells of the first n causal queries under a window. */
function windowed(n: number, window: number): number {
  return n <= window ? triangle(n) : triangle(window) + (n - window) * window;
}
