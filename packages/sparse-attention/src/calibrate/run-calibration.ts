import { layoutHash, OptionError } from '@filigree/core-tensor';
import { calibratedLayers, type CalibratedModel } from './calibrated-model.js';
import { visitLayers, type LayerSample } from './capture.js';

/** What can be written as JSON. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** One way to learn from a model's attention: figures per text and layer, then a result from all of them. */
export interface Calibrator<F extends Json, R> {
  readonly id: string;
  /** All that the figures depend on, beside the model and the texts. */
  readonly settings: Json;
  /** Figures of one layer over one of the texts. */
  observe(sample: LayerSample, text: number): Promise<F>;
  /** `figures[text][index]` belongs to `layers[index]`. */
  finish(figures: readonly (readonly F[])[], layers: readonly number[]): R;
}

/** The figures so far, in plain JSON: what an interrupted calibration goes on from. */
export interface CalibrationProgress {
  readonly version: 1;
  /** What the figures belong to; progress of anything else is refused. */
  readonly key: string;
  /** By `text.layer`. */
  readonly figures: Readonly<Record<string, Json>>;
}

/** Where progress is kept, a file say. `save` must leave either the old or the new state behind, whatever happens. */
export interface CalibrationStore {
  load(): Promise<CalibrationProgress | undefined>;
  save(progress: CalibrationProgress): Promise<void>;
}

export interface CalibrationOptions {
  readonly store?: CalibrationStore | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
  /** Bytes of queries, keys and values kept from one run of the model; default 512 MiB. */
  readonly memoryBytes?: number | undefined;
}

/**
 * Observes every layer over every text and hands the figures to the calibrator. What a store has already is not observed again; the result depends on the
 * figures alone, so that an interrupted run ends as one that was not.
 *
 * @throws OptionError when there are no texts or layers, or the store holds progress of another calibration; AbortError.
 */
export async function runCalibration<F extends Json, R>(
  model: CalibratedModel,
  texts: readonly (readonly number[])[],
  calibrator: Calibrator<F, R>,
  { store, signal, onProgress, memoryBytes = 2 ** 29 }: CalibrationOptions = {},
): Promise<R> {
  const layers = calibratedLayers(model);
  if (texts.length === 0 || texts.some(({ length }) => length === 0))
    throw new OptionError('calibrate: there are no tokens to calibrate on');
  if (layers.length === 0) throw new OptionError('calibrate: every layer of the model has a window of its own');
  const key = JSON.stringify([
    calibrator.id,
    calibrator.settings,
    model.config,
    texts.map((tokens) => `${tokens.length}:${layoutHash(tokens.join())}`),
  ]);
  const saved = await store?.load();
  if (saved && (saved.version !== 1 || saved.key !== key))
    throw new OptionError(
      'calibrate: the progress that was kept belongs to other texts, settings or another model; start with an empty one',
    );
  const figures: Record<string, Json> = { ...saved?.figures };
  for (const [text, tokens] of texts.entries()) {
    const missing = layers.filter((layer) => !Object.hasOwn(figures, `${text}.${layer}`));
    await visitLayers(model, tokens, missing, { memoryBytes, signal }, async (sample) => {
      figures[`${text}.${sample.layer}`] = await calibrator.observe(sample, text);
      await store?.save({ version: 1, key, figures });
      onProgress?.(Object.keys(figures).length, texts.length * layers.length);
    });
  }
  const all = texts.map((_, text) => layers.map((layer) => figures[`${text}.${layer}`] as F));
  return calibrator.finish(all, layers);
}
