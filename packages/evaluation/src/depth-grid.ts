import { methodLabel, scoreOf, type EvaluationRecord } from './record.js';
import { mean } from './statistics.js';
import type { Task } from './task.js';

/** Parts of the depth that a grid has. */
export const depthBins = 10;

/** Mean score by depth and length, for one method and task. */
export interface DepthGrid {
  readonly task: Task;
  readonly label: string;
  readonly lengths: readonly number[];
  /** [lengths][depthBins]; null where nothing was asked. */
  readonly scores: readonly (readonly (number | null)[])[];
}

/** Grids of a task whose questions have their evidence at one depth each. */
export function depthGrids(records: readonly EvaluationRecord[], task: Task): DepthGrid[] {
  const own = records.filter((record) => record.task === task.id);
  const lengths = [...new Set(own.map(({ length }) => length))].sort((a, b) => a - b);
  const labels = [...new Set(own.map(({ method }) => methodLabel(method)))];
  return labels.map((label) => ({
    task,
    label,
    lengths,
    scores: lengths.map((length) => {
      const bins = Array.from({ length: depthBins }, (): number[] => []);
      for (const record of own) {
        if (record.length !== length || methodLabel(record.method) !== label) continue;
        for (const answer of record.answers) {
          if (answer.depth === null) continue;
          bins[Math.min(depthBins - 1, Math.floor(answer.depth * depthBins))].push(scoreOf(task, answer));
        }
      }
      return bins.map((scores) => (scores.length === 0 ? null : mean(scores)));
    }),
  }));
}
