import type { Backend, ProfileEntry } from '@filigree/core-tensor';

/** Milliseconds of a layer's attention. */
export interface LayerTimes {
  /** Of finding out which keys to see. */
  readonly selectMs: number;
  /** Of seeing them. */
  readonly executeMs: number;
}

const appended = 'kv-cache/append';
const executors = /* @__PURE__ */ new Set(
  ['attention', 'planned-attention', 'gather-attention', 'merge'].map((name) => `sparse-attention/${name}`),
);

/** Times the attention of everything that a backend runs until it is stopped. */
export class AttentionTimes {
  readonly #profile: ReturnType<Backend['profile']>;

  constructor(
    backend: Backend,
    private readonly layers: number,
  ) {
    this.#profile = backend.profile();
  }

  async stop(): Promise<LayerTimes[]> {
    return layerTimes(await this.#profile.stop(), this.layers);
  }
}

/**
 * Sums the ops of attention per layer. They stand between the op that appends a layer's keys and the layer's output matrix: executors see keys, all
 * others select them. What a selector executes in order to estimate counts as executing.
 */
export function layerTimes(entries: readonly Pick<ProfileEntry, 'op' | 'milliseconds'>[], layers: number): LayerTimes[] {
  const times = Array.from({ length: layers }, () => ({ selectMs: 0, executeMs: 0 }));
  let layer = -1;
  let inside = false;
  for (const { op, milliseconds } of entries) {
    if (op === appended) {
      layer = (layer + 1) % layers;
      inside = true;
    } else if (op.startsWith('quantization/')) inside = false;
    else if (inside) times[layer][executors.has(op) ? 'executeMs' : 'selectMs'] += milliseconds;
  }
  return times;
}
