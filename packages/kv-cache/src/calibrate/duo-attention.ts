import { checkIntegers, runCalibration, type Calibrator } from '@filigree/sparse-attention';
import type { KvPlan } from '../compress/kv-plan.js';
import { meanOverTexts, planOf, type KvCalibrationOptions } from './plan-of.js';
import { recallDefaults, recallText, type CalibratedKvModel, type RecallOptions } from './recall-text.js';
import { meanAttention } from './row-attention.js';

export interface CalibrateDuoOptions extends KvCalibrationOptions, Partial<RecallOptions> {
  /** First entries that a streaming head would keep. Default 128. */
  readonly sinks?: number | undefined;
  /** Newest entries that it would keep. Default 256. */
  readonly recent?: number | undefined;
}

/**
 * Gates for DuoAttention without training them: the share of its attention that a key-value head loses if it streams, where the model repeats passkeys planted in
 * the texts; of a group the largest. The texts are its authors', as are the rows that count. Their gates are trained against the last hidden states, and know
 * what later layers make of a head; these see each head by itself.
 * Data of Xiao et al., arXiv:2410.10819.
 *
 * @throws OptionError when an option is out of its range, or a text too short; AbortError.
 */
export async function calibrateDuoAttention(
  model: CalibratedKvModel,
  texts: readonly (readonly number[])[],
  { sinks = 128, recent = 256, name = 'unnamed', ...options }: CalibrateDuoOptions = {},
): Promise<KvPlan> {
  checkIntegers('calibrateDuoAttention', { sinks, recent });
  const { passkeys, words, seed } = { ...recallDefaults, ...options };
  const made = texts.map((text, index) => recallText(model, text, { passkeys, words, seed }, index));
  const group = model.config.heads / model.config.kvHeads;
  const calibrator: Calibrator<number[], KvPlan> = {
    id: 'duo-attention',
    settings: { sinks, recent },
    async observe(sample, text) {
      const rows = made[text].recalls.map((recall) => recall.rows);
      const [lost] = await meanAttention(sample, rows, [(row) => [{ start: sinks, end: row - recent + 1 }]]);
      return lost;
    },
    finish: (figures, layers) => {
      const heads = meanOverTexts(figures);
      const gates = heads.map((row) =>
        Array.from({ length: row.length / group }, (_, head) => Math.max(...row.slice(head * group, (head + 1) * group))),
      );
      const settings = { method: 'duo-attention', texts: texts.length, sinks, recent, passkeys, words, seed };
      return planOf(model, name, settings, { layers, figures: { gates } });
    },
  };
  return runCalibration(
    model,
    made.map(({ tokens }) => tokens),
    calibrator,
    options,
  );
}
