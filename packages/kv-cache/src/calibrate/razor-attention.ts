import { OptionError, Random } from '@filigree/core-tensor';
import { checkIntegers, runCalibration, type Calibrator } from '@filigree/sparse-attention';
import type { KvPlan } from '../compress/kv-plan.js';
import { meanOverTexts, planOf, type KvCalibrationOptions } from './plan-of.js';
import type { CalibratedKvModel } from './recall-text.js';
import { meanAttention, type Seen } from './row-attention.js';

export interface CalibrateRazorOptions extends KvCalibrationOptions {
  /** Times that a text says the same random tokens. Default 4. */
  readonly repeats?: number | undefined;
  /** Default 1. */
  readonly seed?: number | undefined;
}

/**
 * RazorAttention's figures of heads, on random tokens that are repeated: of every query head `echo`, its mean attention to where the token stood before, and
 * `induction`, to what followed it there. `lengths` are those of the texts; its authors repeat 2,500 tokens four times.
 *
 * As many dot products of queries and keys as dense attention, and all of a head's probabilities pass by. Tang et al., arXiv:2407.15891.
 *
 * @throws OptionError when an option is out of its range, or a length too short; AbortError.
 */
export async function calibrateRazorAttention(
  model: CalibratedKvModel,
  lengths: readonly number[],
  { repeats = 4, seed = 1, name = 'unnamed', ...options }: CalibrateRazorOptions = {},
): Promise<KvPlan> {
  checkIntegers('calibrateRazorAttention', { repeats }, 2);
  const short = lengths.find((length) => !(length >= 2 * repeats));
  if (short !== undefined)
    throw new OptionError(
      `calibrate: ${short} tokens are too few to repeat some ${repeats} times; give at least ${2 * repeats}`,
    );
  const texts = lengths.map((length, index) => repeatedTokens(model.config.vocabularySize, { length, repeats, seed }, index));
  const calibrator: Calibrator<number[][], KvPlan> = {
    id: 'razor-attention',
    settings: { repeats },
    observe(sample, text) {
      const { period } = texts[text];
      const at =
        (distance: number): Seen =>
        (row) => [{ start: row - distance, end: row - distance + 1 }];
      return meanAttention(sample, [{ start: period, end: sample.length }], [at(period), at(period - 1)]);
    },
    finish(figures, layers) {
      const [echo, induction] = [0, 1].map((index) => meanOverTexts(figures.map((text) => text.map((layer) => layer[index]))));
      const settings = { method: 'razor-attention', texts: texts.length, repeats, seed };
      return planOf(model, name, settings, { layers, figures: { induction, echo } });
    },
  };
  return runCalibration(
    model,
    texts.map(({ tokens }) => tokens),
    calibrator,
    options,
  );
}

function repeatedTokens(
  vocabularySize: number,
  { length, repeats, seed }: { readonly length: number; readonly repeats: number; readonly seed: number },
  stream: number,
): { readonly tokens: readonly number[]; readonly period: number } {
  const random = new Random(seed, stream);
  const period = Math.floor(length / repeats);
  const once = Array.from({ length: period }, () => random.nextInt(vocabularySize));
  return { tokens: Array.from({ length: repeats }, () => once).flat(), period };
}
