import type { GgufValue } from '@filigree/checkpoint';
import { amount, bitsPerWeight, bytes, grouped, percent, significant } from '../format/numbers.js';
import { printable } from '../format/printable.js';
import { pairs, right, table } from '../format/table.js';
import { partShares, typeShares, totals, type Inspection, type Share } from './inspection.js';
import { metadataJson, metadataText } from './metadata.js';
import { partTitles } from './tensor-part.js';

/** The inspection as an object of plain JSON; its keys are an interface. */
export function inspectionJson(inspection: Inspection, full: boolean): Record<string, unknown> {
  const { file, format, version, tensors, metadata } = inspection;
  const sum = totals(tensors);
  return {
    file,
    format,
    ...(version === undefined ? {} : { version }),
    bytes: inspection.bytes,
    parameters: sum.parameters,
    bitsPerWeight: bitsOf(sum),
    types: typeShares(tensors).map((share) => ({ ...share, bitsPerWeight: bitsOf(share) })),
    parts: partShares(tensors).map(({ types, ...share }) => ({ ...share, bitsPerWeight: bitsOf(share), types })),
    metadata: Object.fromEntries([...metadata].map(([key, value]) => [key, metadataJson(value, full)])),
    tensors: tensors.map(({ name, type, shape, parameters, bytes: size, offset, file: place }) => ({
      name,
      type,
      shape,
      parameters,
      bytes: size,
      offset,
      file: place,
    })),
  };
}

/** What the file is: one screen. */
export function summaryText({ file, format, version, bytes: size, tensors, metadata }: Inspection): string {
  const sum = totals(tensors);
  const text = (key: string): string | undefined => textOf(metadata.get(key));
  const architecture = text('general.architecture');
  return pairs([
    ['file', printable(file)],
    ['format', format === 'gguf' ? `GGUF v${version ?? ''}` : 'safetensors'],
    ['size', `${bytes(size)} (${grouped(size)} bytes)`],
    ['name', text('general.name')],
    ['architecture', architecture],
    ['context', text(`${architecture ?? ''}.context_length`)],
    ['tensors', grouped(sum.tensors)],
    ['parameters', `${amount(sum.parameters)} at ${bitsText(sum)} bits each`],
  ]);
}

const shareColumns = ['tensors', 'parameters', 'size', 'share', 'bits per weight'].map(right);

/** Which types the weights have. */
export function typesText({ tensors }: Inspection, title: (text: string) => string): string {
  const all = totals(tensors);
  const rows = typeShares(tensors).map((share) => [share.type, ...shareCells(share, all)]);
  return table(['type', ...shareColumns], [...rows, ['all', ...shareCells(all, all)]], title);
}

/** Which types the parts of the model have; undefined when no tensor has a name that says what it is for. */
export function partsText({ tensors }: Inspection, title: (text: string) => string): string | undefined {
  const parts = partShares(tensors);
  if (parts.every(({ part }) => part === 'other')) return undefined;
  const all = totals(tensors);
  const rows = parts.map(({ part, types, ...share }) => {
    const mix = types.map(({ type, tensors: count }) => `${type} × ${count}`).join(', ');
    return [partTitles[part], ...shareCells(share, all), mix];
  });
  return table(['part', ...shareColumns, 'types'], rows, title);
}

function shareCells(share: Share, all: Share): string[] {
  const part = percent(all.bytes > 0 ? share.bytes / all.bytes : 0);
  return [grouped(share.tensors), amount(share.parameters), bytes(share.bytes), part, bitsText(share)];
}

function bitsOf({ bytes: size, parameters }: Share): number {
  return bitsPerWeight(size, parameters);
}

function bitsText(share: Share): string {
  return share.parameters > 0 ? significant(bitsOf(share)) : '–';
}

export function metadataTable({ metadata }: Inspection, full: boolean, title: (text: string) => string): string {
  const rows = [...metadata].map(([key, value]) => [printable(key), value.type, metadataText(value, full)]);
  return table(['metadata', 'type', 'value'], rows, title);
}

export function tensorsTable({ tensors }: Inspection, title: (text: string) => string): string {
  const rows = tensors.map(({ name, type, shape, bytes: size }) => [printable(name), type, shape.join(' × '), bytes(size)]);
  return table(['tensor', 'type', right('shape'), right('size')], rows, title);
}

function textOf(entry: GgufValue | undefined): string | undefined {
  return entry && entry.type !== 'array' ? printable(String(entry.value)) : undefined;
}
