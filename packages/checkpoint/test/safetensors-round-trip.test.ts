import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  bytesSink,
  bytesSource,
  readSafetensors,
  readSafetensorsIndex,
  SafetensorsFormatError,
  safetensorsByteLength,
  safetensorsDTypes,
  writeSafetensors,
  type SafetensorsDType,
  type SafetensorsTensorEntry,
} from '@filigree/checkpoint';

async function written(
  tensors: readonly SafetensorsTensorEntry[],
  metadata?: ReadonlyMap<string, string>,
): Promise<Uint8Array> {
  const sink = bytesSink();
  await writeSafetensors(sink, tensors, metadata);
  return sink.bytes();
}

const dtypes = Object.keys(safetensorsDTypes) as SafetensorsDType[];

const tensors: fc.Arbitrary<SafetensorsTensorEntry> = fc
  .record({
    name: fc.string({ unit: 'binary' }),
    dtype: fc.constantFrom(...dtypes),
    shape: fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 4 }),
    seed: fc.integer({ min: 0, max: 255 }),
  })
  .filter(({ name, dtype, shape }) => name !== '__metadata__' && safetensorsByteLength(dtype, shape) !== undefined)
  .map(({ name, dtype, shape, seed }) => ({
    name,
    dtype,
    shape,
    data: new Uint8Array(safetensorsByteLength(dtype, shape) ?? 0).map((_, index) => seed + index),
  }));

it('reads back what it wrote: names, types, shapes, bytes and metadata', async () => {
  const seen = new Set<string>();
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(tensors, { selector: ({ name }) => name, maxLength: 12 }),
      fc.array(
        fc.tuple(fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('__proto__', '7')), fc.string({ unit: 'binary' })),
      ),
      async (entries, pairs) => {
        const metadata = new Map(pairs);
        const file = await readSafetensors(bytesSource(await written(entries, metadata)));
        expect(file.metadata).toEqual(metadata);
        expect(file.tensors).toHaveLength(entries.length);
        for (const { name, dtype, shape, data } of entries) {
          const tensor = file.tensor(name);
          expect([tensor.dtype, tensor.shape]).toEqual([dtype, shape]);
          expect(await file.readBytes(tensor)).toEqual(data);
          // Elements of whole bytes lie at multiples of their size, so that a typed array can look at them in place.
          const bits = safetensorsDTypes[dtype];
          if (bits % 8 === 0) expect(tensor.offset % (bits / 8)).toBe(0);
          seen.add(dtype);
        }
      },
    ),
    { numRuns: 300, seed: 2 },
  );
  expect(seen.size).toBe(dtypes.length);
});

it('keeps tensors named like members of every object apart from them', async () => {
  const entries = ['__proto__', 'constructor', 'hasOwnProperty', '1', ''].map((name, index): SafetensorsTensorEntry => ({
    name,
    dtype: 'U8',
    shape: [1],
    data: Uint8Array.of(index),
  }));
  const file = await readSafetensors(bytesSource(await written(entries)));
  for (const [index, { name }] of entries.entries())
    expect(await file.readBytes(file.tensor(name))).toEqual(Uint8Array.of(index));
  expect(file.find('toString')).toBeUndefined();
});

it.each<[string, SafetensorsTensorEntry[], string]>([
  ['half bytes', [{ name: 't', dtype: 'F4', shape: [3], data: new Uint8Array(2) }], 'no whole number of bytes'],
  ['a name twice', ['t', 't'].map((name) => ({ name, dtype: 'U8', shape: [0], data: new Uint8Array(0) })), 'given twice'],
  ['the reserved name', [{ name: '__metadata__', dtype: 'U8', shape: [0], data: new Uint8Array(0) }], 'reserved'],
  ['too few bytes', [{ name: 't', dtype: 'F32', shape: [2], data: new Uint8Array(4) }], '4 bytes, not the 8'],
  ['a negative size', [{ name: 't', dtype: 'F32', shape: [-1], data: new Uint8Array(4) }], 'non-negative'],
])('refuses to write %s', async (_, entries, message) => {
  await expect(written(entries)).rejects.toMatchObject({ code: 'OPTION', message: expect.stringContaining(message) });
});

it('opens a checkpoint in several files through its index', async () => {
  const shards = new Map<string, Uint8Array>();
  const entry = (name: string, value: number): SafetensorsTensorEntry => ({
    name,
    dtype: 'U8',
    shape: [1],
    data: Uint8Array.of(value),
  });
  shards.set('model-00001-of-00002.safetensors', await written([entry('a', 1), entry('b', 2)]));
  shards.set('model-00002-of-00002.safetensors', await written([entry('c', 3), entry('unlisted', 4)]));
  const index = (map: Record<string, unknown>) => JSON.stringify({ metadata: { total_size: 3 }, weight_map: map });
  const [first, second] = [...shards.keys()];
  const opened: string[] = [];
  const closed: string[] = [];
  const open = (name: string) => {
    opened.push(name);
    const close = async () => {
      closed.push(name);
    };
    return { ...bytesSource(shards.get(name) ?? new Uint8Array(), name), close };
  };

  const file = await readSafetensorsIndex(open, index({ a: first, c: second, b: first }));
  expect(opened).toEqual([first, second]);
  expect(file.tensors.map(({ name }) => name).sort()).toEqual(['a', 'b', 'c']);
  expect(await file.readBytes(file.tensor('c'))).toEqual(Uint8Array.of(3));
  expect(file.metadata.get('total_size')).toBe('3');
  await file.close();
  expect(closed).toEqual([first, second]);

  closed.length = 0;
  await expect(readSafetensorsIndex(open, index({ a: first, missing: second }))).rejects.toThrow('"missing" should be in');
  expect(closed).toEqual([first, second]);
  for (const path of ['../secret.safetensors', 'a/b.safetensors', 'C:\\x', '..', '', 7])
    await expect(readSafetensorsIndex(open, index({ a: path })), String(path)).rejects.toThrow('plain file name');
  for (const text of ['', '[]', '{}', '{"weight_map":[]}', '{"weight_map":{"a":"x","a":"y"}}'])
    await expect(readSafetensorsIndex(open, text), text).rejects.toThrow(SafetensorsFormatError);
});
