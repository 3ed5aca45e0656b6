import { denseRun, mean, planted, type MethodRun, type PlantedKind, type PlantedResult } from '@filigree/evaluation';
import { OptionError, type Backend } from '@filigree/core-tensor';
import { percent, significant } from '../format/numbers.js';
import { html, htmlTable, type Html } from './html.js';

export interface PlantedWork {
  readonly backend: Backend;
  readonly methods: readonly MethodRun[];
  readonly lengths: readonly number[];
  readonly samples: number;
  readonly seed: number;
  readonly signal: AbortSignal;
  readonly note: (text: string) => void;
}

/** Every method on planted attention. A method that refuses the setting, such as one that needs rotary positions, is named and left out. */
export async function runPlanted({
  backend,
  methods,
  lengths,
  samples,
  seed,
  signal,
  note,
}: PlantedWork): Promise<PlantedResult[]> {
  const results: PlantedResult[] = [];
  for (const method of methods.filter(({ id }) => id !== denseRun.id)) {
    try {
      for (const length of lengths) {
        for (const kind of ['easy', 'hard'] as const) {
          for (let sample = 0; sample < samples; sample++) {
            signal.throwIfAborted();
            results.push(await planted({ backend, method, kind, length, seed, sample }));
          }
        }
      }
    } catch (error) {
      if (!(error instanceof OptionError)) throw error;
      note(`planted leaves ${method.id} out: ${error.message}`);
    }
  }
  return results;
}

export const plantedColumns = [
  'method',
  'keys',
  'planted',
  'samples',
  'evidence kept',
  'weight kept',
  'output error',
  'density',
  'step',
  'dense',
];

/** A row for every method, length and kind: means over samples. */
export function plantedRows(results: readonly PlantedResult[]): string[][] {
  const keys = [...new Set(results.map(({ label, length, kind }) => JSON.stringify([label, length, kind])))];
  return keys.map((key) => {
    const [label, length, kind] = JSON.parse(key) as [string, number, PlantedKind];
    const own = results.filter((result) => result.label === label && result.length === length && result.kind === kind);
    const average = (of: (result: PlantedResult) => number): number => mean(own.map(of));
    return [
      ...[label, String(length), kind, String(own.length)],
      percent(average((result) => result.evidenceKept)),
      percent(average((result) => result.massKept)),
      significant(average((result) => result.outputError)),
      percent(average((result) => result.density)),
      `${significant(1000 * average((result) => result.seconds))} ms`,
      `${significant(1000 * average((result) => result.denseSeconds))} ms`,
    ];
  });
}

export function plantedPart(results: readonly PlantedResult[]): Html {
  return html`<h2>Planted attention <span class="quiet">(planted)</span></h2>
    <p>
      One step without a model: 64 queries ask for one key of each key-value head. Easy: all other keys are faint. Hard: they
      are as large, so that bounds and means of blocks say little. Shares are those of dense attention; a prompt's step has 512
      queries, a decoder's one.
    </p>
    ${htmlTable(plantedColumns, plantedRows(results))}`;
}
