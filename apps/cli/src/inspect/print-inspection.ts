import type { GgufValue } from '@filigree/checkpoint';
import { amount, bytes, grouped, percent, significant } from '../format/numbers.js';
import { printable } from '../format/printable.js';
import { pairs, table } from '../format/table.js';
import { typeShares, totals, type Inspection } from './inspection.js';
import { metadataJson, metadataText } from './metadata.js';

const right = (title: string) => ({ title, right: true }) as const;

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
    types: typeShares(tensors),
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
  const bits = sum.parameters > 0 ? significant((8 * sum.bytes) / sum.parameters) : '–';
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
    ['parameters', `${amount(sum.parameters)} at ${bits} bits each`],
  ]);
}

/** Which types the weights have. */
export function typesText({ tensors }: Inspection, title: (text: string) => string): string {
  const all = totals(tensors);
  const rows = typeShares(tensors).map((share) => [
    share.type,
    grouped(share.tensors),
    amount(share.parameters),
    bytes(share.bytes),
    percent(all.bytes > 0 ? share.bytes / all.bytes : 0),
  ]);
  return table(['type', right('tensors'), right('parameters'), right('size'), right('share')], rows, title);
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
