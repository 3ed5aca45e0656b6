import type { CalibrationOptions, MethodOptions } from '@filigree/sparse-attention';
import { kvPlanVersion, type KvPlan } from '../compress/kv-plan.js';
import type { CalibratedKvModel } from './recall-text.js';

export interface KvCalibrationOptions extends CalibrationOptions {
  /** Name of the model, for the plan. */
  readonly name?: string | undefined;
}

/** Figures of the layers that were calibrated, in their order. */
export interface LayerFigures {
  readonly layers: readonly number[];
  readonly figures: Readonly<Record<string, readonly (readonly number[])[]>>;
}

/** A plan whose other layers have no figures. */
export function planOf(
  { config: { layers: all, heads, kvHeads } }: CalibratedKvModel,
  name: string,
  calibration: MethodOptions,
  { layers, figures }: LayerFigures,
): KvPlan {
  // Six digits are more than the figures know, and keep the file short.
  const round = (value: number): number => Number(value.toPrecision(6));
  const whole = Object.entries(figures).map(([figure, rows]) => [
    figure,
    Array.from({ length: all }, (_, layer) => {
      const at = layers.indexOf(layer);
      return at < 0 ? [] : rows[at].map(round);
    }),
  ]);
  return {
    version: kvPlanVersion,
    model: { name, layers: all, heads, kvHeads },
    calibration,
    figures: Object.fromEntries(whole) as KvPlan['figures'],
  };
}

/** Of [texts][layers][n], the means over texts. */
export function meanOverTexts(texts: readonly (readonly (readonly number[])[])[]): number[][] {
  return texts[0].map((row, layer) =>
    row.map((_, index) => texts.reduce((sum, layers) => sum + layers[layer][index], 0) / texts.length),
  );
}
