import { bytesSource, readGguf } from '@filigree/checkpoint';
import { describe, expect, it } from 'vitest';
import { GgufBytes, valueTypeIds as id, type Field } from './lib/gguf-bytes.js';
import { Judge } from './lib/judge.js';
import { concatBytes, Mutator } from './lib/mutator.js';
import { recordingSource } from './lib/recording-source.js';

/** A file that has everything: each value type, nested arrays, words, quantised tensors. */
function everything(version: 2 | 3): GgufBytes {
  const bytes = new GgufBytes().preamble(4, 17, version);
  const pair = (key: string, type: number, value: (to: GgufBytes) => void) =>
    bytes.group((to) => {
      to.string(key).number('type', type, 4);
      value(to);
    });
  pair('general.architecture', id.string, (to) => to.string('llama'));
  pair('general.alignment', id.u32, (to) => to.number('value', 32, 4));
  for (const [type, size] of [
    ['u8', 1],
    ['i8', 1],
    ['u16', 2],
    ['i16', 2],
    ['u32', 4],
    ['i32', 4],
    ['f32', 4],
    ['u64', 8],
    ['i64', 8],
    ['f64', 8],
  ] as const)
    pair(type, id[type], (to) => to.number('value', 7, size));
  pair('flag', id.bool, (to) => to.number('value', 1, 1));
  pair('words', id.array, (to) => {
    to.number('type', id.string, 4).number('count', 6, 8);
    for (const word of ['<s>', 'the', ' ', 'naïve', '👋', '']) to.string(word);
  });
  pair('scores', id.array, (to) => to.number('type', id.f32, 4).number('count', 5, 8).raw(new Uint8Array(20)));
  pair('flags', id.array, (to) => to.number('type', id.bool, 4).number('count', 3, 8).raw([0, 1, 1]));
  pair('nested', id.array, (to) => {
    to.number('type', id.array, 4).number('count', 2, 8);
    for (const value of [1, 2]) to.number('type', id.i64, 4).number('count', 1, 8).number('value', value, 8);
  });
  bytes.tensor('token_embd.weight', [32, 3], 2, 0);
  bytes.tensor('blk.0.attn_q.weight', [64, 2], 8, 64);
  bytes.tensor('norm', [5], 0, 224);
  bytes.tensor('scalar', [], 0, 256);
  return bytes.pad().raw(Array.from({ length: 288 }, (_, index) => index % 256));
}

function readField(bytes: Uint8Array, { at, bytes: size }: Field): bigint {
  let value = 0n;
  for (let index = size - 1; index >= 0; index--) value = value * 256n + BigInt(bytes[at + index]);
  return value;
}

function writeField(bytes: Uint8Array, { at, bytes: size }: Field, value: bigint): Uint8Array {
  const changed = bytes.slice();
  for (let index = 0; index < size; index++) changed[at + index] = Number((value >> BigInt(8 * index)) & 255n);
  return changed;
}

type Change = (mutator: Mutator, file: GgufBytes, bytes: Uint8Array) => Uint8Array;

const numeric = (file: GgufBytes, kind?: Field['kind']) =>
  file.fields.filter((field) => field.kind !== 'text' && (kind === undefined || field.kind === kind));

const edited =
  (kind: Field['kind']): Change =>
  (mutator, file, bytes) => {
    const field = mutator.pick(numeric(file, kind));
    return writeField(bytes, field, mutator.edge(readField(bytes, field), bytes.byteLength));
  };

const changes: Record<string, Change> = {
  truncated: (mutator, _, bytes) => mutator.truncate(bytes),
  'bits flipped': (mutator, file, bytes) =>
    mutator.flipBits(bytes, mutator.pick([bytes.byteLength, file.fields.at(-1)?.at ?? 1])),
  overwritten: (mutator, file, bytes) => mutator.overwrite(bytes, file.fields.at(-1)?.at ?? 1),
  spliced: (mutator, _, bytes) => mutator.splice(bytes),
  'length edited': edited('length'),
  'count edited': edited('count'),
  'offset edited': edited('offset'),
  'type edited': edited('type'),
  'dimensions edited': edited('dimensions'),
  'size edited': edited('size'),
  'value edited': edited('value'),
  'version edited': edited('version'),
  'several edited': (mutator, file, bytes) => {
    let changed = bytes;
    for (let count = 2 + mutator.int(4); count > 0; count--) {
      const field = mutator.pick(numeric(file));
      changed = writeField(changed, field, mutator.edge(readField(changed, field), bytes.byteLength));
    }
    return changed;
  },
  /** Names twice, tensors on top of each other, types that are another's. */
  'field copied': (mutator, file, bytes) => {
    const from = mutator.pick(file.fields);
    const to = mutator.pick(file.fields.filter(({ kind }) => kind === from.kind));
    const changed = bytes.slice();
    changed.set(bytes.subarray(from.at, from.at + Math.min(from.bytes, to.bytes)), to.at);
    return changed;
  },
  /** Twice the same pair or tensor, with and without a count that says so. */
  'group repeated': (mutator, file, bytes) => {
    const group = mutator.pick(file.groups);
    const piece = bytes.slice(group.at, group.at + group.bytes);
    const whole = concatBytes([bytes.slice(0, group.at), piece, bytes.slice(group.at)]);
    const counted = mutator.pick([undefined, ...numeric(file, 'count').slice(0, 2)]);
    return counted ? writeField(whole, counted, readField(whole, counted) + 1n) : whole;
  },
  'group removed': (mutator, file, bytes) => {
    const group = mutator.pick(file.groups);
    const whole = concatBytes([bytes.slice(0, group.at), bytes.slice(group.at + group.bytes)]);
    const counted = mutator.pick([undefined, ...numeric(file, 'count').slice(0, 2)]);
    return counted ? writeField(whole, counted, readField(whole, counted) - 1n) : whole;
  },
  'bad UTF-8': (mutator, file, bytes) => {
    const changed = bytes.slice();
    const text = mutator.pick(file.fields.filter(({ kind, bytes: size }) => kind === 'text' && size > 0));
    const bad = mutator.pick([[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xe2, 0x82], [0x80], [0xf5, 0x80, 0x80, 0x80], [0]]);
    changed.set(bad.slice(0, text.bytes), text.at + mutator.int(Math.max(1, text.bytes - bad.length)));
    return changed;
  },
  'deeply nested': (mutator, _, bytes) => {
    const to = new GgufBytes().preamble(0, 1).string('k').number('type', id.array, 4);
    for (let depth = mutator.int(mutator.pick([6, 500])); depth > 0; depth--)
      to.number('type', id.array, 4).number('count', mutator.pick([1, 1, 1, 2, 40]), 8);
    to.number('type', mutator.pick(Object.values(id)), 4).number('count', mutator.int(4), 8);
    return concatBytes([to.finish(), bytes]);
  },
  'anything at all': (mutator, file, bytes) =>
    concatBytes([
      bytes.slice(0, mutator.pick([0, 8, 24])),
      Uint8Array.from({ length: mutator.int(400) }, () => mutator.int(256)),
    ]),
};

describe('spoiled GGUF files', () => {
  const filesPerChange = 640;

  it('give a typed error or a file whose tensors lie in bounds, within memory in proportion to the file', async () => {
    const judge = new Judge();
    const mutator = new Mutator(20);
    const files = ([2, 3] as const).map(everything);
    for (const file of files) expect((await readGguf(bytesSource(file.finish()))).tensors).toHaveLength(4);
    for (const [kind, change] of Object.entries(changes)) {
      for (let index = 0; index < filesPerChange; index++) {
        const file = files[index % files.length];
        await judge.open(kind, change(mutator, file, file.finish()), (source) => readGguf(source));
      }
    }
    judge.report('GGUF');
    expect(judge.total).toBeGreaterThanOrEqual(12_000);
    for (const outcome of ['valid', 'GGUF_FORMAT', 'UNSUPPORTED_TENSOR_TYPE'])
      expect(judge.outcomes.get(outcome), outcome).toBeGreaterThanOrEqual(100);
    // Every change must reach its target: a kind that never spoils anything tests nothing.
    expect(judge.outcomes.get('GGUF_FORMAT')).toBeGreaterThanOrEqual(6_000);
  });

  it('give a typed error wherever they are cut off', async () => {
    const whole = everything(3).finish();
    for (let length = 0; length < whole.byteLength - 28; length++)
      await expect(readGguf(bytesSource(whole.slice(0, length))), String(length)).rejects.toMatchObject({
        code: 'GGUF_FORMAT',
      });
  });
});

/** A file with one pair, whose value follows. */
const withPair = (type: number) => new GgufBytes().preamble(0, 1).string('k').number('type', type, 4);
const arrayOf = (type: number, count: number | bigint) => withPair(id.array).number('type', type, 4).number('count', count, 8);
const withTensor = (dimensions: readonly (number | bigint)[], type = 0, offset: number | bigint = 0) =>
  new GgufBytes().preamble(1, 0).tensor('t', dimensions, type, offset).pad().raw(new Uint8Array(64));
const aligned = (type: number, value: number) =>
  new GgufBytes().preamble(0, 1).string('general.alignment').number('type', type, 4).number('value', value, 4);

function nested(depth: number): GgufBytes {
  const bytes = withPair(id.array);
  for (let index = 0; index < depth; index++) bytes.number('type', id.array, 4).number('count', 1, 8);
  return bytes.number('type', id.u8, 4).number('count', 0, 8);
}

describe('each fault is named', () => {
  it.each<[string, GgufBytes, string]>([
    ['nothing', new GgufBytes(), 'go past the end of the file (0 bytes)'],
    ['another format', new GgufBytes().raw(new TextEncoder().encode('PK\u0003\u0004')), 'not a GGUF file'],
    ['version 1', new GgufBytes().preamble(0, 0, 1), 'version 1 is not supported'],
    ['big-endian', new GgufBytes().preamble(0, 0, 3 * 2 ** 24), 'the file is big-endian'],
    [
      'more tensors than fit',
      new GgufBytes()
        .number('magic', 0x46554747, 4)
        .number('version', 3, 4)
        .number('count', 2n ** 40n, 8)
        .number('count', 0, 8),
      'tensor count is 1099511627776, but only',
    ],
    [
      'more pairs than fit',
      new GgufBytes().number('magic', 0x46554747, 4).number('version', 3, 4).number('count', 0, 8).number('count', 5, 8),
      'metadata count is 5, but only',
    ],
    [
      'a count of 2^64 - 1',
      new GgufBytes().number('magic', 0x46554747, 4).number('version', 3, 4).number('count', -1, 8).number('count', 0, 8),
      'tensor count is 18446744073709551615',
    ],
    ['a string of 2^63 bytes', withPair(id.string).number('length', 2n ** 63n, 8), 'string length is 9223372036854775808'],
    ['a string past the end', withPair(id.string).number('length', 100, 8).raw([65]), 'string length is 100, but only 1 bytes'],
    ['invalid UTF-8', withPair(id.string).number('length', 2, 8).raw([0xc3, 0x28]), 'is not valid UTF-8'],
    ['an unknown value type', withPair(13).raw([0]), 'unknown value type 13'],
    ['a bool of 2', withPair(id.bool).raw([2]), 'a bool is 0 or 1, got 2'],
    ['an array of 2^61 numbers', arrayOf(id.u64, 2n ** 61n), 'array length is 2305843009213693952'],
    ['an array past the end', arrayOf(id.u32, 3).raw(new Uint8Array(11)), 'array length is 3, but only 11 bytes'],
    ['arrays 5 deep', nested(4), 'nested more than 4 deep'],
    ['arrays 100,000 deep', nested(100_000), 'nested more than 4 deep'],
    [
      'a key twice',
      new GgufBytes()
        .preamble(0, 2)
        .string('k')
        .number('type', id.u8, 4)
        .raw([1])
        .string('k')
        .number('type', id.u8, 4)
        .raw([1]),
      'the key "k" occurs twice',
    ],
    ['an empty key', new GgufBytes().preamble(0, 1).string('').raw(new Uint8Array(20)), 'the key is empty'],
    ['an alignment of 0', aligned(id.u32, 0), 'must be a power of two, got 0'],
    ['an alignment of 48', aligned(id.u32, 48), 'must be a power of two, got 48'],
    ['an alignment that is no u32', aligned(id.i32, 32), 'should be a u32, the file has i32'],
    ['5 dimensions', withTensor([1, 1, 1, 1, 1]), '5 dimensions; at most 4'],
    ['a dimension of 0', withTensor([4, 0]), 'dimension 1 is 0'],
    [
      'dimensions whose product overflows 64 bits',
      withTensor([2n ** 33n, 2n ** 33n, 2n ** 33n]),
      'more elements or bytes than any file holds',
    ],
    ['a dimension of 2^63', withTensor([2n ** 63n]), 'dimension 0 is 9223372036854775808'],
    ['a row of half a block', withTensor([16], 2), 'rows of 16 elements are not whole blocks of 32 (Q4_0)'],
    ['an offset that wraps around', withTensor([1], 0, 2n ** 64n - 32n), 'offset is 18446744073709551584'],
    ['an offset past the end', withTensor([1], 0, 64), 'go past the end of the file'],
    ['an offset off the alignment', withTensor([1], 0, 4), 'offset 4 is not a multiple of the alignment 32'],
    ['a tensor longer than the file', withTensor([17]), 'is the file complete?'],
    [
      'a name twice',
      new GgufBytes().preamble(2, 0).tensor('t', [1], 0, 0).tensor('t', [1], 0, 32).pad().raw(new Uint8Array(64)),
      'the name "t" occurs twice',
    ],
    [
      'tensors on top of each other',
      new GgufBytes().preamble(2, 0).tensor('a', [9], 0, 0).tensor('b', [1], 0, 32).pad().raw(new Uint8Array(64)),
      'overlap those of "a"',
    ],
    [
      'a name of 2,000 bytes',
      new GgufBytes().preamble(1, 0).tensor('t'.repeat(2000), [1], 0, 0),
      'a string of 2000 bytes where at most 1024',
    ],
  ])('%s', async (_, bytes, message) => {
    const reading = readGguf(bytesSource(bytes.finish(), 'f.gguf'));
    await expect(reading).rejects.toMatchObject({ code: 'GGUF_FORMAT', message: expect.stringContaining(message) });
    await expect(reading).rejects.toThrow(/^f\.gguf: /);
  });

  it.each([4, 5, 9, 15, 16, 36, 99, 2 ** 32 - 1])('tensor type %i', async (type) => {
    const reading = readGguf(bytesSource(withTensor([256], type).finish(), 'f.gguf'));
    await expect(reading).rejects.toMatchObject({ code: 'UNSUPPORTED_TENSOR_TYPE', tensor: 't', type });
  });
});

describe('files that are long and empty of sense', () => {
  it('are refused before their counts become objects', async () => {
    const long = (head: GgufBytes) => {
      const bytes = new Uint8Array(48 * 2 ** 20);
      bytes.set(head.finish());
      return bytes;
    };
    const count = 47 * 2 ** 20;
    const hostile: [string, Uint8Array, string][] = [
      ['bools', long(arrayOf(id.bool, count)), 'more than 4194304 strings, bools and arrays'],
      ['strings', long(arrayOf(id.string, count / 8)), 'more than 4194304 strings, bools and arrays'],
      [
        'tensors',
        long(
          new GgufBytes()
            .number('magic', 0x46554747, 4)
            .number('version', 3, 4)
            .number('count', 2 ** 20, 8)
            .number('count', 0, 8),
        ),
        'at most 262144 are read',
      ],
      [
        'pairs',
        long(
          new GgufBytes()
            .number('magic', 0x46554747, 4)
            .number('version', 3, 4)
            .number('count', 0, 8)
            .number('count', 2 ** 20, 8),
        ),
        'at most 65536 are read',
      ],
    ];
    for (const [what, bytes, message] of hostile) {
      const before = process.memoryUsage().heapUsed;
      await expect(readGguf(bytesSource(bytes)), what).rejects.toThrow(message);
      expect(process.memoryUsage().heapUsed - before, what).toBeLessThan(16 * 2 ** 20);
    }
  });

  it('are read no further than the limit on headers', async () => {
    const bytes = new Uint8Array(8 * 2 ** 20);
    bytes.set(arrayOf(id.u8, 7 * 2 ** 20).finish());
    const source = recordingSource(bytes);
    await expect(readGguf(source, { maxHeaderBytes: 2 ** 20 })).rejects.toThrow('the header goes on past 1048576 bytes');
    expect(source.bytesRead()).toBeLessThanOrEqual(2 ** 20);
  });

  it('do not put what they contain into messages at length, nor control characters', async () => {
    const key = '\u001b[2J' + 'x'.repeat(60_000);
    const bytes = new GgufBytes().preamble(0, 1).string(key).number('type', 99, 4).finish();
    const message = await readGguf(bytesSource(bytes)).then(String, String);
    expect(message).toContain('unknown value type 99');
    expect(message).toContain('\\u001b[2J');
    expect(message.length).toBeLessThan(2100);
    expect(message).not.toMatch(/\p{Cc}/u);
  });
});
