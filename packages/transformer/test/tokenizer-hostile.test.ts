import type { GgufFile, GgufValue } from '@filigree/checkpoint';
import { fullTier } from '@filigree/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TokenizerError } from '../src/tokenizer/errors.js';
import { createGgufTokenizer } from '../src/tokenizer/gguf-tokenizer.js';
import { createHubTokenizer } from '../src/tokenizer/hub-tokenizer.js';
import type { Tokenizer } from '../src/tokenizer/tokenizer.js';
import { byteLevelGolden, hubGolden, sentencePieceGolden } from './support/tokenizer-goldens.js';
import { floats, ggufFile, integers, string, strings, u32 } from './support/tokenizer-gguf.js';

// Seeds are fixed in the short tier.
fc.configureGlobal(fullTier ? { numRuns: 1000 } : { seed: 1 });

const kinds = { gpt2: byteLevelGolden('smollm').file, llama: sentencePieceGolden('spaced').file } as const;
const key = (name: string): string => `tokenizer.ggml.${name}`;

/** The file with entries replaced, or left out where undefined. */
function altered(file: GgufFile, changes: Readonly<Record<string, GgufValue | undefined>>): GgufFile {
  const metadata = new Map(file.metadata);
  for (const [name, value] of Object.entries(changes)) {
    if (value === undefined) metadata.delete(key(name));
    else metadata.set(key(name), value);
  }
  return ggufFile([...metadata]);
}

function thrown(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  return undefined;
}

const tokens = (file: GgufFile): string[] => [...(file.strings(key('tokens')) ?? [])];
const count = (file: GgufFile): number => tokens(file).length;
const { gpt2, llama } = kinds;

const faults: readonly (readonly [string, GgufFile, Readonly<Record<string, GgufValue | undefined>>, string])[] = [
  [
    'no model',
    gpt2,
    { model: undefined },
    'model: expected "gpt2" (byte-level BPE) or "llama" (SentencePiece), the file has none',
  ],
  [
    'another model',
    gpt2,
    { model: string('t5') },
    'model: expected "gpt2" (byte-level BPE) or "llama" (SentencePiece), the file has "t5"',
  ],
  ['a model that is no string', gpt2, { model: u32(1) }, 'model" should be a string, the file has u32'],
  ['no tokens', gpt2, { tokens: undefined }, 'tokens: is missing'],
  ['an empty list of tokens', gpt2, { tokens: strings([]) }, 'tokens: expected 1 to 4194304 tokens, the file has 0'],
  [
    'tokens that are numbers',
    llama,
    { tokens: integers([1]) },
    'tokens" should be an array of strings, the file has an array of i32',
  ],
  [
    'an unknown pre-tokenizer',
    gpt2,
    { pre: string('nosuch') },
    'pre: the pre-tokenizer "nosuch" is not supported. Supported: default, gpt-2,',
  ],
  ['no merges', gpt2, { merges: undefined }, 'merges: is missing'],
  [
    'a merge of an unknown left part',
    gpt2,
    { merges: strings(['ĠĠĠĠĠĠĠĠĠ a']) },
    'merges[0]: "ĠĠĠĠĠĠĠĠĠ a": the left part is no token',
  ],
  [
    'a merge of an unknown right part',
    gpt2,
    { merges: strings(['a ĠĠĠĠĠĠĠĠĠ']) },
    'merges[0]: "a ĠĠĠĠĠĠĠĠĠ": the right part is no token',
  ],
  ['a merge to no token', gpt2, { merges: strings(['Ä Ä']) }, 'merges[0]: "Ä Ä": the result is no token'],
  [
    'a merge of one part',
    gpt2,
    { merges: strings(['ab']) },
    'merges[0]: "ab": expected two texts of tokens with one space between',
  ],
  ['a merge of three parts', gpt2, { merges: strings(['a b c']) }, 'merges[0]: "a b c": expected two texts'],
  [
    'too few types',
    gpt2,
    { token_type: integers([1]) },
    `token_type: expected one value for each of ${count(gpt2)} tokens, the file has 1`,
  ],
  [
    'an unknown type',
    gpt2,
    { token_type: integers(tokens(gpt2).map(() => 9)) },
    'token_type[0]: expected a type of 0 to 6, the file has 9',
  ],
  ['no scores', llama, { scores: undefined }, 'scores: is missing'],
  [
    'too few scores',
    llama,
    { scores: floats([0]) },
    `scores: expected one value for each of ${count(llama)} tokens, the file has 1`,
  ],
  [
    'a score that is NaN',
    llama,
    { scores: floats(tokens(llama).map((_, id) => (id === 7 ? NaN : 0))) },
    'scores[7]: expected a number, the file has NaN',
  ],
  [
    'a byte token of no byte',
    llama,
    { token_type: integers(tokens(llama).map(() => 6)) },
    'tokens[0]: a byte token should be <0x00> to <0xFF>, the file has "<unk>"',
  ],
  [
    'a bos that is no token',
    llama,
    { bos_token_id: u32(count(llama)) },
    `bos_token_id: expected the id of one of ${count(llama)} tokens, the file has ${count(llama)}`,
  ],
  ['an eos that is no token', gpt2, { eos_token_id: u32(2 ** 32 - 1) }, 'eos_token_id: expected the id of one of'],
  ['an eot between two ids', gpt2, { eot_token_id: { type: 'f32', value: 0.5 } }, 'eot_token_id: expected the id of one of'],
  [
    'neither byte tokens nor an unknown token',
    llama,
    { token_type: undefined, unknown_token_id: undefined },
    'unknown_token_id: is missing, and there are no byte tokens',
  ],
];

describe('hostile GGUF metadata is a TokenizerError that names the file and the key', () => {
  it.each(faults)('%s', (_, file, changes, message) => {
    const error = thrown(() => createGgufTokenizer(altered(file, changes)));
    expect(error).toBeInstanceOf(TokenizerError);
    expect(String(error)).toContain(`test.gguf: `);
    expect(String(error)).toContain(message);
  });

  const anyValue = (file: GgufFile): fc.Arbitrary<GgufValue | undefined> =>
    fc.oneof(
      fc.constant(undefined),
      fc.string().map(string),
      fc.integer({ min: 0, max: 1000 }).map(u32),
      fc.constant<GgufValue>({ type: 'u64', value: 2n ** 63n }),
      fc.boolean().map((value): GgufValue => ({ type: 'bool', value })),
      fc.array(fc.string({ unit: 'binary' }), { maxLength: 600 }).map(strings),
      fc.array(fc.double(), { maxLength: 600 }).map(floats),
      fc.infiniteStream(fc.float()).map((stream) => floats(tokens(file).map(() => stream.next().value as number))),
      fc
        .infiniteStream(fc.integer({ min: 0, max: 6 }))
        .map((stream) => integers(tokens(file).map(() => stream.next().value as number))),
      fc.shuffledSubarray(tokens(file)).map(strings),
      fc
        .array(fc.constantFrom('', '<|im_end|>', ' ', 'a', '▁', '\0', '\ud800'), {
          minLength: count(file),
          maxLength: count(file),
        })
        .map(strings),
    );

  it.each(['gpt2', 'llama'] as const)('whatever stands in place of any entry (%s)', (name) => {
    const file = kinds[name];
    const names = [...file.metadata.keys(), key('eot_token_id')].map((full) => full.replace(key(''), ''));
    const changes = fc.dictionary(fc.constantFrom(...names), anyValue(file), { minKeys: 1, maxKeys: 3 });
    fc.assert(
      fc.property(changes, fc.string({ unit: 'binary' }), (change, text) => {
        survives(() => createGgufTokenizer(altered(file, change)), text);
      }),
    );
  });
});

/** A tokenizer that can be built works; what is wrong is a TokenizerError. */
function survives(create: () => Tokenizer, text: string): void {
  try {
    const tokenizer = create();
    const ids = tokenizer.encode(text, { special: true });
    expect(ids.every((id) => id >= 0 && id < tokenizer.vocabularySize)).toBe(true);
    tokenizer.decode(ids, { special: true });
  } catch (error) {
    if (!(error instanceof TokenizerError)) throw error;
  }
}

describe('a hostile tokenizer.json is a TokenizerError that names the place', () => {
  const { json } = hubGolden('smollm');
  const base = json as Record<string, unknown>;
  const model = base['model'] as Record<string, unknown>;
  const withModel = (change: Record<string, unknown>): unknown => ({ ...base, model: { ...model, ...change } });

  const wrong: readonly (readonly [string, unknown, string])[] = [
    ['no object', 'text', 'tokenizer.json: expected an object, got "text"'],
    ['no model', { ...base, model: undefined }, 'tokenizer.json: model: expected an object, got nothing'],
    [
      'a model of an unknown kind',
      withModel({ type: 'Nosuch' }),
      'tokenizer.json: model.type: expected one of BPE, Unigram, WordPiece, WordLevel, got "Nosuch"',
    ],
    ['a vocabulary that is a list', withModel({ vocab: ['a'] }), 'tokenizer.json: model.vocab: expected an object, got ["a"]'],
    [
      'an id that is no integer',
      withModel({ vocab: { a: 0.5 } }),
      'tokenizer.json: model.vocab["a"]: expected an integer of 0 to 4194303, got 0.5',
    ],
    [
      'an id beyond all vocabularies',
      withModel({ vocab: { a: 2 ** 40 } }),
      'tokenizer.json: model.vocab["a"]: expected an integer',
    ],
    [
      'merges that are no list',
      withModel({ merges: {} }),
      'tokenizer.json: model.merges: expected at most 4194304 merges in an array, got {}',
    ],
    ['a merge that is a number', withModel({ merges: [1] }), 'tokenizer.json: model.merges[0]: expected two texts, got 1'],
    [
      'a merge of unknown tokens',
      withModel({ merges: [['zq', 'a']] }),
      'tokenizer.json: model.merges[0]: ["zq","a"]: the left part is no token',
    ],
    ['added tokens that are no list', { ...base, added_tokens: 3 }, 'tokenizer.json: added_tokens: expected an array, got 3'],
    [
      'an added token without content',
      { ...base, added_tokens: [{ id: 1 }] },
      'tokenizer.json: added_tokens[0].content: expected a string, got nothing',
    ],
    [
      'an added token without id',
      { ...base, added_tokens: [{ content: 'a' }] },
      'tokenizer.json: added_tokens[0].id: expected an integer of',
    ],
    ['an unknown normaliser', { ...base, normalizer: { type: 'Nosuch' } }, 'tokenizer.json: Unknown Normalizer'],
    [
      'a pattern that is none',
      { ...base, pre_tokenizer: { type: 'Split', pattern: { Regex: '(' }, behavior: 'Isolated' } },
      'tokenizer.json: ',
    ],
  ];

  it.each(wrong)('%s', (_, tokenizerJson, message) => {
    const error = thrown(() => createHubTokenizer({ tokenizerJson }).encode('some text'));
    expect(error).toBeInstanceOf(TokenizerError);
    expect(String(error)).toContain(message);
  });

  it('a bos that is no text', () => {
    const error = thrown(() => createHubTokenizer({ tokenizerJson: json, tokenizerConfig: { bos_token: 7 } }));
    expect(error).toBeInstanceOf(TokenizerError);
    expect(String(error)).toContain('tokenizer_config.json: bos_token: expected the text of a token');
  });

  it.each(['smollm', 'llama-bpe', 'prefixed'])('whatever stands in any place (%s)', (name) => {
    const text = JSON.stringify(hubGolden(name).json);
    const places = jsonPlaces(JSON.parse(text), 4);
    const value = fc.oneof(fc.jsonValue(), fc.constantFrom(null, -1, 2 ** 31, '', [], {}, [[]]));
    fc.assert(
      fc.property(fc.constantFrom(...places), value, fc.string({ unit: 'binary' }), (place, changed, input) => {
        const tokenizerJson: unknown = JSON.parse(text);
        setPlace(tokenizerJson, place, changed);
        survives(() => createHubTokenizer({ tokenizerJson }), input);
      }),
    );
  });
});

type Place = readonly (string | number)[];

/** Paths of everything in a JSON value down to a depth; of long lists and objects only the first few. */
function jsonPlaces(value: unknown, depth: number): Place[] {
  if (typeof value !== 'object' || value === null || depth === 0) return [];
  const entries: (readonly [string | number, unknown])[] = Array.isArray(value)
    ? value.slice(0, 5).map((entry: unknown, index) => [index, entry] as const)
    : Object.entries(value).slice(0, 20);
  return entries.flatMap(([name, inner]) => [[name], ...jsonPlaces(inner, depth - 1).map((rest) => [name, ...rest])]);
}

function setPlace(root: unknown, place: Place, value: unknown): void {
  let at = root as Record<string | number, unknown>;
  for (const step of place.slice(0, -1)) at = at[step] as Record<string | number, unknown>;
  at[place[place.length - 1]] = value;
}
