import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  bytesSink,
  bytesSource,
  GgufFormatError,
  ggufByteLength,
  ggufShardNames,
  ggufTypes,
  ggufValueTypes,
  readGguf,
  readGgufShards,
  writeGguf,
  type GgufArray,
  type GgufEntries,
  type GgufTensorEntry,
  type GgufType,
  type GgufValue,
} from '@filigree/checkpoint';
import { GgufBytes, valueTypeIds } from './lib/gguf-bytes.js';

async function written(entries: GgufEntries, version: 2 | 3 = 3): Promise<Uint8Array> {
  const sink = bytesSink();
  await writeGguf(sink, entries, { version });
  return sink.bytes();
}

const finite32 = fc.float({ noNaN: true });
const arrays: fc.Arbitrary<GgufArray> = fc.letrec<{ array: GgufArray }>((tie) => ({
  array: fc.oneof(
    { depthSize: 'small', maxDepth: 2 },
    fc.uint8Array().map((values) => ({ elementType: 'u8', values }) as const),
    fc.int8Array().map((values) => ({ elementType: 'i8', values }) as const),
    fc.uint16Array().map((values) => ({ elementType: 'u16', values }) as const),
    fc.int16Array().map((values) => ({ elementType: 'i16', values }) as const),
    fc.uint32Array().map((values) => ({ elementType: 'u32', values }) as const),
    fc.int32Array().map((values) => ({ elementType: 'i32', values }) as const),
    fc.float32Array().map((values) => ({ elementType: 'f32', values }) as const),
    fc.float64Array().map((values) => ({ elementType: 'f64', values }) as const),
    fc.bigInt64Array().map((values) => ({ elementType: 'i64', values }) as const),
    fc.bigUint64Array().map((values) => ({ elementType: 'u64', values }) as const),
    fc.array(fc.boolean()).map((values) => ({ elementType: 'bool', values }) as const),
    fc.array(fc.string({ unit: 'binary' })).map((values) => ({ elementType: 'string', values }) as const),
    fc.array(tie('array'), { maxLength: 3 }).map((values) => ({ elementType: 'array', values }) as const),
  ),
})).array;

const values: fc.Arbitrary<GgufValue> = fc.oneof(
  fc.integer({ min: 0, max: 255 }).map((value) => ({ type: 'u8', value }) as const),
  fc.integer({ min: -128, max: 127 }).map((value) => ({ type: 'i8', value }) as const),
  fc.integer({ min: 0, max: 65535 }).map((value) => ({ type: 'u16', value }) as const),
  fc.integer({ min: -32768, max: 32767 }).map((value) => ({ type: 'i16', value }) as const),
  fc.integer({ min: 0, max: 2 ** 32 - 1 }).map((value) => ({ type: 'u32', value }) as const),
  fc.integer().map((value) => ({ type: 'i32', value }) as const),
  finite32.map((value) => ({ type: 'f32', value }) as const),
  fc.double().map((value) => ({ type: 'f64', value }) as const),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map((value) => ({ type: 'u64', value }) as const),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map((value) => ({ type: 'i64', value }) as const),
  fc.boolean().map((value) => ({ type: 'bool', value }) as const),
  fc.string({ unit: 'binary' }).map((value) => ({ type: 'string', value }) as const),
  arrays.map((value) => ({ type: 'array', value }) as const),
);

const tensors: fc.Arbitrary<GgufTensorEntry> = fc
  .record({
    name: fc.string({ unit: 'binary', minLength: 1, maxLength: 20 }),
    type: fc.constantFrom<GgufType>('F32', 'Q4_0', 'Q6_K', 'I8', 'F64'),
    outer: fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 3 }),
    blocks: fc.integer({ min: 1, max: 3 }),
    seed: fc.integer({ min: 0, max: 255 }),
  })
  .map(({ name, type, outer, blocks, seed }) => {
    const shape = [...outer, blocks * ggufTypes[type].blockSize];
    const data = new Uint8Array(ggufByteLength(type, shape) ?? 0).map((_, index) => seed + index);
    return { name, type, shape, data };
  });

it('reads back what it wrote, whatever the metadata and tensors, in both versions', async () => {
  const seen = new Set<string>();
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(fc.tuple(fc.string({ unit: 'binary', minLength: 1 }), values), { selector: ([key]) => key }),
      fc.uniqueArray(tensors, { selector: ({ name }) => name, maxLength: 5 }),
      fc.constantFrom<2 | 3>(2, 3),
      async (metadata, entries, version) => {
        fc.pre(metadata.every(([key]) => key !== 'general.alignment'));
        const file = await readGguf(bytesSource(await written({ metadata, tensors: entries }, version)));
        expect(file.version).toBe(version);
        expect([...file.metadata]).toEqual(metadata);
        expect(file.tensors.map(({ name, type, shape }) => ({ name, type, shape }))).toEqual(
          entries.map(({ name, type, shape }) => ({ name, type, shape })),
        );
        for (const entry of entries) expect(await file.readBytes(file.tensor(entry.name))).toEqual(entry.data);
        for (const [, { type }] of metadata) seen.add(type);
      },
    ),
    { numRuns: 200, seed: 1 },
  );
  expect([...seen].sort()).toEqual([...ggufValueTypes].sort());
});

it('reads every value type from bytes laid out by hand', async () => {
  const f32 = new Uint8Array(Float32Array.of(1.5).buffer);
  const f64 = new Uint8Array(Float64Array.of(-2.25).buffer);
  const id = valueTypeIds;
  const bytes = new GgufBytes().preamble(1, 14);
  const pair = (key: string, type: number) => bytes.string(key).number('type', type, 4);
  pair('u8', id.u8).raw([200]);
  pair('i8', id.i8).raw([0xff]);
  pair('u16', id.u16).number('value', 65000, 2);
  pair('i16', id.i16).number('value', -2, 2);
  pair('u32', id.u32).number('value', 4_000_000_000, 4);
  pair('i32', id.i32).number('value', -3, 4);
  pair('f32', id.f32).raw(f32);
  pair('bool', id.bool).raw([1]);
  pair('string', id.string).string('naïve 👋');
  pair('array', id.array).number('type', id.i16, 4).number('count', 2, 8).number('value', 5, 2).number('value', -5, 2);
  pair('u64', id.u64).number('value', 2n ** 63n, 8);
  pair('i64', id.i64).number('value', -4n, 8);
  pair('f64', id.f64).raw(f64);
  pair('nested', id.array).number('type', id.array, 4).number('count', 1, 8);
  bytes.number('type', id.string, 4).number('count', 1, 8).string('a');
  bytes.tensor('t', [3, 2], 24, 0).pad().raw([1, 2, 3, 4, 5, 6]);

  const file = await readGguf(bytesSource(bytes.finish()));
  expect(Object.fromEntries([...file.metadata].map(([key, { value }]) => [key, value]))).toEqual({
    u8: 200,
    i8: -1,
    u16: 65000,
    i16: -2,
    u32: 4_000_000_000,
    i32: -3,
    f32: 1.5,
    bool: true,
    string: 'naïve 👋',
    array: { elementType: 'i16', values: Int16Array.of(5, -5) },
    u64: 2n ** 63n,
    i64: -4n,
    f64: -2.25,
    nested: { elementType: 'array', values: [{ elementType: 'string', values: ['a'] }] },
  });
  expect(file.tensor('t').shape).toEqual([2, 3]);
  expect(await file.readBytes(file.tensor('t'))).toEqual(Uint8Array.of(1, 2, 3, 4, 5, 6));
});

it('writes and reads a tensor of every element type', async () => {
  const types = Object.values(ggufTypes);
  const entries = types.map(({ name, blockSize, blockBytes }, index) => ({
    name,
    type: name,
    shape: [2, blockSize],
    data: new Uint8Array(2 * blockBytes).fill(index + 1),
  }));
  const file = await readGguf(bytesSource(await written({ tensors: entries })));
  for (const entry of entries) {
    expect(file.tensor(entry.name).type).toBe(entry.type);
    expect(await file.readBytes(file.tensor(entry.name))).toEqual(entry.data);
  }
  expect(types.length).toBeGreaterThanOrEqual(26);
});

it('places tensors at multiples of the alignment that the metadata states', async () => {
  const metadata: [string, GgufValue][] = [['general.alignment', { type: 'u32', value: 128 }]];
  const entries: GgufTensorEntry[] = ['a', 'b'].map((name) => ({
    name,
    type: 'I8',
    shape: [5],
    data: Uint8Array.of(1, 2, 3, 4, 5),
  }));
  const file = await readGguf(bytesSource(await written({ metadata, tensors: entries })));
  expect(file.alignment).toBe(128);
  expect(file.tensors.map(({ offset }) => offset % 128)).toEqual([0, 0]);
});

it('gives typed access to the metadata, and names the key that has another type', async () => {
  const metadata: [string, GgufValue][] = [
    ['name', { type: 'string', value: 'x' }],
    ['flag', { type: 'bool', value: false }],
    ['count', { type: 'u64', value: 7n }],
    ['huge', { type: 'u64', value: 2n ** 60n }],
    ['words', { type: 'array', value: { elementType: 'string', values: ['a', 'b'] } }],
    ['scores', { type: 'array', value: { elementType: 'f32', values: Float32Array.of(1, 2) } }],
  ];
  const file = await readGguf(bytesSource(await written({ metadata })));
  expect([file.string('name'), file.boolean('flag'), file.number('count')]).toEqual(['x', false, 7]);
  expect([file.strings('words'), file.numbers('scores')]).toEqual([['a', 'b'], Float32Array.of(1, 2)]);
  expect(file.string('absent')).toBeUndefined();
  const wrong = [
    () => file.string('flag'),
    () => file.boolean('name'),
    () => file.number('name'),
    () => file.number('huge'),
    () => file.strings('scores'),
    () => file.numbers('words'),
  ];
  for (const read of wrong) expect(read).toThrow(GgufFormatError);
  expect(() => file.strings('scores')).toThrow('metadata "scores" should be an array of strings, the file has an array of f32');
  expect(() => file.tensor('w')).toThrow('there is no tensor "w"');
});

it.each<[string, GgufEntries, string]>([
  ['an integer out of range', { metadata: [['k', { type: 'u8', value: 256 }]] }, 'out of the range'],
  [
    'a key given twice',
    {
      metadata: [
        ['k', { type: 'u8', value: 1 }],
        ['k', { type: 'u8', value: 1 }],
      ],
    },
    'given twice',
  ],
  [
    'rows that are no whole blocks',
    { tensors: [{ name: 't', type: 'Q4_0', shape: [31], data: new Uint8Array(18) }] },
    'whole blocks of 32',
  ],
  ['too few bytes', { tensors: [{ name: 't', type: 'F32', shape: [2], data: new Uint8Array(7) }] }, '7 bytes, not the 8'],
  ['too many bytes', { tensors: [{ name: 't', type: 'F32', shape: [2], data: new Uint8Array(9) }] }, 'more than the 8'],
  ['five dimensions', { tensors: [{ name: 't', type: 'F32', shape: [1, 1, 1, 1, 1], data: new Uint8Array(4) }] }, 'at most 4'],
])('refuses to write %s', async (_, entries, message) => {
  await expect(written(entries)).rejects.toMatchObject({ code: 'OPTION', message: expect.stringContaining(message) });
});

const names = ggufShardNames('m-00002-of-00003.gguf');

function shard(index: number, tensor: string, extra: Partial<Record<string, number>> = {}): GgufEntries {
  const numbers = { 'split.no': index, 'split.count': 3, 'split.tensors.count': 3, ...extra };
  return {
    metadata: [
      ['part', { type: 'u32', value: index }],
      ...Object.entries(numbers).map(([key, value]): [string, GgufValue] => [key, { type: 'u16', value: value ?? 0 }]),
    ],
    tensors: [{ name: tensor, type: 'I8', shape: [1], data: Uint8Array.of(index) }],
  };
}

it('opens a model in several files as one, and closes all of them', async () => {
  expect(names).toEqual(['m-00001-of-00003.gguf', 'm-00002-of-00003.gguf', 'm-00003-of-00003.gguf']);
  expect(ggufShardNames('m.gguf')).toEqual(['m.gguf']);
  expect(ggufShardNames('m-00004-of-00003.gguf')).toEqual(['m-00004-of-00003.gguf']);
  const files = new Map<string, Uint8Array>();
  for (const [index, name] of names.entries()) files.set(name, await written(shard(index, `t${index}`)));
  const closed: string[] = [];
  const open = (name: string) => ({
    ...bytesSource(files.get(name) ?? new Uint8Array(), name),
    close: async () => {
      closed.push(name);
    },
  });
  const file = await readGgufShards(open, names[1]);
  expect(file.number('part')).toBe(0);
  const contents = await Promise.all(file.tensors.map((tensor) => file.readBytes(tensor)));
  expect(contents).toEqual([Uint8Array.of(0), Uint8Array.of(1), Uint8Array.of(2)]);
  await file.close();
  expect(closed).toEqual(names);

  const spoiled: [string, GgufEntries, string][] = [
    ['a part of another place', shard(0, 't1'), 'by its metadata'],
    ['a tensor that is there already', shard(1, 't0'), 'is in an earlier part as well'],
  ];
  for (const [what, entries, message] of spoiled) {
    closed.length = 0;
    files.set(names[1], await written(entries));
    await expect(readGgufShards(open, names[0]), what).rejects.toThrow(message);
    expect(closed.length, what).toBeGreaterThanOrEqual(2);
  }
});
