/** Visible and causal cells of attention, summed over layers; their ratio is the density. */
export class DensityMeter {
  #visible = 0;
  #causal = 0;

  /** Adds one layer's cells per head for queries at `start … start + count`. `visible`: of a plan; else all in the window. */
  add(start: number, count: number, { window, visible }: { window: number; visible?: number | undefined }): void {
    const causal = triangle(start + count) - triangle(start);
    this.#causal += causal;
    this.#visible += visible ?? (window > 0 ? windowed(start + count, window) - windowed(start, window) : causal);
  }

  /** 1 before anything was added. */
  get density(): number {
    return this.#causal === 0 ? 1 : this.#visible / this.#causal;
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
