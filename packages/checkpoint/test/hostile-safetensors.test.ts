import { bytesSource, readSafetensors, readSafetensorsIndex } from '@filigree/checkpoint';
import { describe, expect, it } from 'vitest';
import { Judge } from './lib/judge.js';
import { concatBytes, Mutator } from './lib/mutator.js';

const utf8 = new TextEncoder();

/** A file of a header, whatever it is, and data; `length` is what the file says of its header. */
function fileOf(header: string | Uint8Array, data = new Uint8Array(0), length?: bigint): Uint8Array {
  const text = typeof header === 'string' ? utf8.encode(header) : header;
  const size = new Uint8Array(8);
  new DataView(size.buffer).setBigUint64(0, length ?? BigInt(text.byteLength), true);
  return concatBytes([size, text, data]);
}

const data = Uint8Array.from({ length: 110 }, (_, index) => index);
const goodHeader = JSON.stringify({
  __metadata__: { format: 'pt', note: 'naïve 👋 \u0001 "quoted"' },
  'model.embed_tokens.weight': { dtype: 'F32', shape: [4, 5], data_offsets: [0, 80] },
  'model.norm.weight': { dtype: 'BF16', shape: [5], data_offsets: [80, 90] },
  empty: { dtype: 'I64', shape: [0, 7], data_offsets: [90, 90] },
  scalar: { dtype: 'U8', shape: [], data_offsets: [90, 91] },
  'float8 → 8 bit': { dtype: 'F8_E4M3', shape: [3, 3], data_offsets: [91, 100] },
  packed: { dtype: 'F4', shape: [2, 10], data_offsets: [100, 110] },
});

const numbers = [
  '-1',
  '-0',
  '0',
  '1',
  '2',
  '1e2',
  '0.5',
  '1e308',
  '1e400',
  '9007199254740991',
  '9007199254740992',
  '18446744073709551616',
];
const notNumbers = ['NaN', '00', '+1', '0x10', '.5', '1.', '1e', '1'.repeat(400), 'null', 'true', '"1"', '[]', '{}', ''];
const dtypes = [
  'F32',
  'BF16',
  'U8',
  'F4',
  'F6_E2M3',
  'I64',
  'f32',
  'Q4_0',
  '',
  'toString',
  '__proto__',
  'F32\\u0000',
  '\\ud800',
  'C64',
];
const names = [
  'model.norm.weight',
  'empty',
  '__metadata__',
  '__proto__',
  'dtype',
  'shape',
  'data_offsets',
  '',
  'constructor',
  '\\u0000',
];
const values = [
  'null',
  'true',
  '0',
  '""',
  '[]',
  '{}',
  '[[]]',
  '{"a":{}}',
  '[0,80]',
  '{"dtype":"U8","shape":[0],"data_offsets":[0,0]}',
];

type TextChange = (mutator: Mutator, text: string) => string;

/** Replaces one match of `pattern`, which of them is left to chance. */
function replaceOne(mutator: Mutator, text: string, pattern: RegExp, replacement: (found: string) => string): string {
  const found = [...text.matchAll(pattern)];
  if (found.length === 0) return text;
  const { index, 0: old } = mutator.pick(found);
  return text.slice(0, index) + replacement(old) + text.slice(index + old.length);
}

const numberToken = /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const stringToken = /"(?:[^"\\]|\\.)*"/g;
/** A member whose value is a flat list, a flat object or a string. */
const member = /"(?:[^"\\]|\\.)*":(?:\[[^[\]]*\]|\{[^{}]*\}|"(?:[^"\\]|\\.)*")/g;

const textChanges: Record<string, TextChange> = {
  'number replaced': (mutator, text) => replaceOne(mutator, text, numberToken, () => mutator.pick(numbers)),
  'number spoiled': (mutator, text) => replaceOne(mutator, text, numberToken, () => mutator.pick(notNumbers)),
  'number moved': (mutator, text) =>
    replaceOne(mutator, text, numberToken, (old) => String(Number(old) + mutator.pick([-80, -10, -1, 1, 2, 10, 80]))),
  'numbers exchanged': (mutator, text) => {
    const other = mutator.pick([...text.matchAll(numberToken)].map(([found]) => found).concat('0'));
    return replaceOne(mutator, text, numberToken, () => other);
  },
  'type replaced': (mutator, text) => replaceOne(mutator, text, /(?<="dtype":)"[^"]*"/g, () => `"${mutator.pick(dtypes)}"`),
  'string replaced': (mutator, text) =>
    replaceOne(mutator, text, stringToken, () => `"${mutator.pick([...names, ...dtypes])}"`),
  'value replaced': (mutator, text) =>
    replaceOne(mutator, text, /(?<=:)(?:\[[^[\]]*\]|\{[^{}]*\}|"[^"]*")/g, () => mutator.pick(values)),
  'member repeated': (mutator, text) => replaceOne(mutator, text, member, (old) => `${old},${old}`),
  'member removed': (mutator, text) => replaceOne(mutator, text, /(?:"[^"]*":(?:\[[^[\]]*\]|\{[^{}]*\}|"[^"]*"),?)/g, () => ''),
  'value nested': (mutator, text) => {
    const depth = 1 + mutator.int(mutator.pick([20, 5000]));
    const [open, close] = mutator.pick([
      ['[', ']'],
      ['{"a":', '}'],
    ] as const);
    return replaceOne(mutator, text, numberToken, (old) => open.repeat(depth) + old + mutator.pick([close.repeat(depth), '']));
  },
  'sizes multiplied': (mutator, text) =>
    replaceOne(
      mutator,
      text,
      /(?<="shape":)\[[^\]]*\]/g,
      () => `[${Array.from({ length: 1 + mutator.int(8) }, () => mutator.pick(numbers)).join(',')}]`,
    ),
  'letters changed': (mutator, text) => {
    const at = mutator.int(text.length);
    return (
      text.slice(0, at) +
      mutator.pick(['"', '\\', '{', '}', '[', ']', ',', ':', ' ', '\n', '\u0000', '\ufeff', 'x', '']) +
      text.slice(at + mutator.int(2))
    );
  },
  'text cut off': (mutator, text) => text.slice(0, mutator.int(text.length)),
};

type FileChange = (mutator: Mutator, file: Uint8Array, header: string) => Uint8Array;

const fileChanges: Record<string, FileChange> = {
  truncated: (mutator, file) => mutator.truncate(file),
  'bits flipped': (mutator, file, header) => mutator.flipBits(file, mutator.pick([8, 8 + header.length, file.byteLength])),
  overwritten: (mutator, file, header) => mutator.overwrite(file, 8 + header.length),
  spliced: (mutator, file) => mutator.splice(file),
  'length edited': (mutator, _, header) =>
    fileOf(header, data, mutator.edge(BigInt(header.length), header.length + 8 + data.byteLength)),
  'data longer or shorter': (mutator, _, header) => fileOf(header, new Uint8Array(mutator.int(2 * data.byteLength))),
  'bad UTF-8': (mutator, _, header) => {
    const bytes = utf8.encode(header);
    bytes.set(
      mutator.pick([[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xe2, 0x82], [0x80]]),
      mutator.int(bytes.byteLength - 3),
    );
    return fileOf(bytes, data);
  },
  'anything at all': (mutator) =>
    fileOf(
      mutator.pick(['', '{', '{"a":']) +
        String.fromCharCode(...Array.from({ length: mutator.int(60) }, () => mutator.int(128))),
      data,
    ),
};

describe('spoiled safetensors files', () => {
  const filesPerChange = 500;

  it('give a typed error or a file whose tensors lie in bounds, within memory in proportion to the file', async () => {
    const judge = new Judge();
    const mutator = new Mutator(21);
    expect((await readSafetensors(bytesSource(fileOf(goodHeader, data)))).tensors).toHaveLength(6);
    const open = (kind: string, bytes: Uint8Array) => judge.open(kind, bytes, (source) => readSafetensors(source));
    for (let index = 0; index < filesPerChange; index++) {
      for (const [kind, change] of Object.entries(fileChanges))
        await open(kind, change(mutator, fileOf(goodHeader, data), goodHeader));
      for (const [kind, change] of Object.entries(textChanges)) await open(kind, fileOf(change(mutator, goodHeader), data));
      const changes = Object.values(textChanges);
      await open('several changes', fileOf(mutator.pick(changes)(mutator, mutator.pick(changes)(mutator, goodHeader)), data));
    }
    judge.report('safetensors');
    expect(judge.total).toBeGreaterThanOrEqual(11_000);
    for (const outcome of ['valid', 'SAFETENSORS_FORMAT', 'UNSUPPORTED_TENSOR_TYPE'])
      expect(judge.outcomes.get(outcome), outcome).toBeGreaterThanOrEqual(100);
    expect(judge.outcomes.get('SAFETENSORS_FORMAT')).toBeGreaterThanOrEqual(6_000);
  });

  it('give a typed error wherever they are cut off', async () => {
    const whole = fileOf(goodHeader, data);
    for (let length = 0; length < whole.byteLength; length++)
      await expect(readSafetensors(bytesSource(whole.slice(0, length))), String(length)).rejects.toMatchObject({
        code: 'SAFETENSORS_FORMAT',
      });
  });

  it('give a typed error, or tensors of the shards listed, when it is the index that is spoiled', async () => {
    const shards = new Map([
      [
        'model-00001-of-00002.safetensors',
        fileOf(
          '{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}}',
          data.slice(0, 2),
        ),
      ],
      ['model-00002-of-00002.safetensors', fileOf('{"c":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', data.slice(0, 4))],
    ]);
    const [first, second] = [...shards.keys()];
    const index = JSON.stringify({ metadata: { total_size: 6 }, weight_map: { a: first, b: first, c: second } });
    const judge = new Judge();
    const mutator = new Mutator(22);
    for (let round = 0; round < 80; round++) {
      for (const [kind, change] of Object.entries(textChanges)) {
        const text = change(mutator, index);
        await judge.open(kind, utf8.encode(text), async () => {
          const file = await readSafetensorsIndex((name) => {
            const bytes = shards.get(name);
            // As a folder without that file answers.
            return bytesSource(bytes ?? new Uint8Array(0), name);
          }, text);
          for (const tensor of file.tensors) expect((await file.readBytes(tensor)).byteLength).toBe(tensor.byteLength);
          return { tensors: [] };
        });
      }
    }
    judge.report('safetensors indices');
    expect(judge.total).toBeGreaterThanOrEqual(1_000);
    expect(judge.outcomes.get('SAFETENSORS_FORMAT')).toBeGreaterThanOrEqual(400);
    expect(judge.outcomes.get('valid')).toBeGreaterThanOrEqual(50);
  });
});

const tensor = (dtype: string, shape: unknown, offsets: unknown) =>
  JSON.stringify({ t: { dtype, shape, data_offsets: offsets } });
const two = (a: readonly number[], b: readonly number[]) =>
  JSON.stringify(
    Object.fromEntries(
      [a, b].map((range, index) => [`t${index}`, { dtype: 'U8', shape: [range[1] - range[0]], data_offsets: range }]),
    ),
  );

describe('each fault is named', () => {
  const bytes = (count: number) => new Uint8Array(count);

  it.each<[string, Uint8Array, string]>([
    ['7 bytes', bytes(7), 'too few for a safetensors file'],
    ['a header of 2^64 - 1 bytes', fileOf('{}', bytes(0), 2n ** 64n - 1n), 'length is 18446744073709551615 bytes'],
    ['a header past the limit of the format', fileOf('{}', bytes(0), 100_000_001n), 'more than 100000000'],
    ['a header past the end', fileOf('{}', bytes(0), 3n), 'a header of 3 bytes does not fit'],
    ['a header of spaces', fileOf('  {}'), 'does not begin with "{"'],
    ['invalid UTF-8', fileOf(Uint8Array.of(0x7b, 0xff, 0x7d)), 'not valid UTF-8'],
    ['a header that is no object', fileOf('{} 1'), 'text after the end'],
    ['a key twice', fileOf('{"a":1,"a":2}'), 'the key "a" occurs twice'],
    ['metadata that is no text', fileOf('{"__metadata__":{"a":1}}'), '__metadata__ "a" is not a string'],
    ['a tensor that is no object', fileOf('{"t":[]}'), 'is not described by an object'],
    ['100,000 brackets', fileOf(`{"t":${'['.repeat(100_000)}`), 'nested more than 16 deep'],
    ['a negative size', fileOf(tensor('U8', [-1], [0, 1]), bytes(1)), 'shape is not a list of non-negative integers'],
    ['half a size', fileOf(tensor('U8', [0.5], [0, 1]), bytes(1)), 'shape is not a list of non-negative integers'],
    [
      'sizes whose product overflows',
      fileOf(tensor('U8', [2 ** 40, 2 ** 40], [0, 1]), bytes(1)),
      'takes no whole number of bytes',
    ],
    ['offsets in the wrong order', fileOf(tensor('U8', [1], [1, 0]), bytes(1)), 'is not [begin, end] in order'],
    ['three offsets', fileOf(tensor('U8', [1], [0, 1, 2]), bytes(1)), 'is not [begin, end] in order'],
    ['an end past the data', fileOf(tensor('U8', [2], [0, 2]), bytes(1)), 'is the file complete?'],
    ['bytes that do not fit the shape', fileOf(tensor('F32', [2], [0, 4]), bytes(4)), 'takes 8 bytes, data_offsets give it 4'],
    ['half a byte', fileOf(tensor('F4', [3], [0, 1]), bytes(1)), 'takes no whole number of bytes'],
    ['tensors on top of each other', fileOf(two([0, 2], [1, 3]), bytes(3)), 'they overlap'],
    ['the same bytes twice', fileOf(two([0, 2], [0, 2]), bytes(2)), 'they overlap'],
    ['a hole', fileOf(two([0, 1], [2, 3]), bytes(3)), 'there is a hole'],
    ['bytes of no tensor', fileOf(tensor('U8', [1], [0, 1]), bytes(2)), 'belongs to no tensor'],
  ])('%s', async (_, file, message) => {
    const reading = readSafetensors(bytesSource(file, 'f.safetensors'));
    await expect(reading).rejects.toMatchObject({ code: 'SAFETENSORS_FORMAT', message: expect.stringContaining(message) });
    await expect(reading).rejects.toThrow(/^f\.safetensors: /);
  });

  it.each(['F128', 'f32', '', 'toString'])('type "%s"', async (dtype) => {
    const reading = readSafetensors(bytesSource(fileOf(tensor(dtype, [1], [0, 1]), bytes(1))));
    await expect(reading).rejects.toMatchObject({ code: 'UNSUPPORTED_TENSOR_TYPE', tensor: 't', type: dtype });
  });
});

it('refuses a header of millions of empty values before they become objects', async () => {
  for (const unit of ['{},', '[],', '0,']) {
    const file = fileOf(`{"t":[${unit.repeat((24 * 2 ** 20) / unit.length)}0]}`);
    const before = process.memoryUsage().heapUsed;
    await expect(readSafetensors(bytesSource(file)), unit).rejects.toThrow('more than 4194304 values');
    // 24 MiB of text twice, and four million values at the most.
    expect(process.memoryUsage().heapUsed - before, unit).toBeLessThan(2 ** 30);
  }
});
