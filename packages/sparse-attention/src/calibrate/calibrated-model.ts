import type { Backend, HookedModel } from '@filigree/core-tensor';

/** What calibration has to know of a model's attention; a `Model` of `@filigree/transformer` is one. */
export interface CalibratedModel extends HookedModel {
  readonly backend: Backend;
  readonly config: {
    readonly layers: number;
    readonly heads: number;
    readonly kvHeads: number;
    readonly headDim: number;
    /** Factor of the dots of queries and keys. */
    readonly attentionScale: number;
    /** 0: none. */
    readonly attentionSoftcap: number;
    /** Per layer; a layer with a window of its own (> 0) is not calibrated. */
    readonly windows: readonly number[];
  };
}

/** Layers that see everything, and so can be calibrated. */
export function calibratedLayers({ config }: CalibratedModel): number[] {
  return Array.from(config.windows.keys()).filter((layer) => config.windows[layer] === 0);
}
