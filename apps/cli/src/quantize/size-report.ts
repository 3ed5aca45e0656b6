import { sizeOf } from '@filigree/core-tensor';
import type { QuantizedTensorReport } from '@filigree/quantization';
import { bitsPerWeight, bytes, percent, significant } from '../format/numbers.js';
import { right, table } from '../format/table.js';
import { groupBy } from '../group-by.js';

/** Sizes of a model before and after. */
export interface Sizes {
  readonly bytesBefore: number;
  readonly bytesAfter: number;
  readonly weights: number;
}

export function sizesOf(tensors: readonly QuantizedTensorReport[]): Sizes {
  const sum = (value: (tensor: QuantizedTensorReport) => number): number =>
    tensors.reduce((total, tensor) => total + value(tensor), 0);
  return {
    bytesBefore: sum(({ bytesBefore }) => bytesBefore),
    bytesAfter: sum(({ bytesAfter }) => bytesAfter),
    weights: sum(({ shape }) => sizeOf(shape)),
  };
}

/** One line for the tensors that differ in their layer alone and have the same types, the largest first. */
export function sizeTable(tensors: readonly QuantizedTensorReport[], title: (text: string) => string): string {
  const nameOf = ({ name }: QuantizedTensorReport): string => name.replace(/^blk\.\d+\./, 'blk.*.');
  const groups = groupBy(tensors, (tensor) => `${nameOf(tensor)} ${tensor.from} ${tensor.to}`);
  const rows = [...groups.values()]
    .map((members) => ({ name: nameOf(members[0]), members, sizes: sizesOf(members) }))
    .sort((a, b) => b.sizes.bytesBefore - a.sizes.bytesBefore)
    .map(({ name, members, sizes }) => [
      name,
      String(members.length),
      members[0].from,
      members[0].to === members[0].from ? 'same' : members[0].to,
      ...sizeCells(sizes),
    ]);
  const total = ['all', String(tensors.length), '', '', ...sizeCells(sizesOf(tensors))];
  const columns = ['before', 'after', 'bits per weight'].map(right);
  return table(['tensor', right('count'), 'from', 'to', ...columns], [...rows, total], title);
}

function sizeCells({ bytesBefore, bytesAfter, weights }: Sizes): string[] {
  return [bytes(bytesBefore), bytes(bytesAfter), significant(bitsPerWeight(bytesAfter, weights))];
}

/** What happened to tensors whose rows are no whole blocks of the type that the recipe names; undefined where all are. */
export function fallbackNote(tensors: readonly QuantizedTensorReport[]): string | undefined {
  const fallen = tensors.filter(({ instead }) => instead !== undefined);
  if (fallen.length === 0) return undefined;
  const groups = groupBy(fallen, ({ to, instead }) => `${to} instead of ${instead}`);
  const parts = [...groups].map(([key, members]) => `${members.length} take ${key}`);
  return `Rows of some tensors are no whole blocks: ${parts.join(', ')}.`;
}

export function sizeLine({ bytesBefore, bytesAfter, weights }: Sizes): string {
  const bits = significant(bitsPerWeight(bytesAfter, weights));
  return `${bytes(bytesBefore)} → ${bytes(bytesAfter)}, ${percent(bytesBefore === 0 ? 1 : bytesAfter / bytesBefore)} of it, ${bits} bits per weight`;
}
