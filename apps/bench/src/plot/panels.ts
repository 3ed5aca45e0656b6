import type { BenchRecord, Unit } from '../record.js';

/** Values of one contender: of each work of a bar panel, or at points of a line panel. */
export interface Series {
  readonly name: string;
  /** What the machine allows: the series that it bounds; null for measurements. */
  readonly boundOf: string | null;
  /** [context, value] on lines; [index of the work, value] as bars. */
  readonly points: readonly (readonly [x: number, y: number])[];
}

/** What is shown on one scale. */
export interface Panel {
  readonly title: string;
  readonly unit: Unit;
  /** The works that bars stand for; null where lines run over the context. */
  readonly works: readonly string[] | null;
  readonly series: readonly Series[];
}

interface Value {
  readonly name: string;
  readonly boundOf: string | null;
  readonly y: number;
}

/** What a record says, each under a name of its own. */
function valuesOf({ ours, oursName, peer, peerName, bound }: BenchRecord): Value[] {
  const suffix = oursName === 'ours' ? '' : `, ${oursName.replace(/^ours, /, '')}`;
  return [
    { name: oursName, boundOf: null, y: ours },
    ...(peer === null || peerName === null ? [] : [{ name: peerName, boundOf: null, y: peer }]),
    ...(bound === null ? [] : [{ name: `bound${suffix}`, boundOf: oursName, y: bound }]),
  ];
}

function panelOf(title: string, unit: Unit, records: readonly BenchRecord[]): Panel {
  const lines = records.every(({ context }) => context !== null) && new Set(records.map(({ context }) => context)).size > 1;
  const works = [...new Set(records.map(({ work }) => work))];
  const series = new Map<string, { name: string; boundOf: string | null; points: Map<number, number> }>();
  for (const record of records) {
    const x = lines ? (record.context ?? 0) : works.indexOf(record.work);
    for (const { name, boundOf, y } of valuesOf(record)) {
      // What "ours, dense" names as a peer on lines is what other records call ours.
      const known = lines && name === 'ours, dense' ? 'ours' : name;
      const one = series.get(known) ?? { name: known, boundOf, points: new Map<number, number>() };
      one.points.set(x, y);
      series.set(known, one);
    }
  }
  return {
    title,
    unit,
    works: lines ? null : works,
    // What the machine allows comes last.
    series: [...series.values()]
      .sort((a, b) => Number(a.boundOf !== null) - Number(b.boundOf !== null))
      .map(({ name, boundOf, points }) => ({
        name,
        boundOf,
        points: [...points].filter(([, y]) => Number.isFinite(y)).sort(([a], [b]) => a - b),
      })),
  };
}

/** Records as panels: one for each group and unit, lines over the context where it varies and bars elsewhere. */
export function panelsOf(records: readonly BenchRecord[]): Panel[] {
  const groups = new Map<string, BenchRecord[]>();
  for (const record of records) {
    const key = JSON.stringify([record.group, record.unit]);
    groups.set(key, [...(groups.get(key) ?? []), record]);
  }
  return [...groups.values()].map((some) => panelOf(some[0].group, some[0].unit, some));
}
