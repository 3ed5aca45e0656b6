import type { GgufValue } from '@filigree/checkpoint';
import { fullTier } from '@filigree/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createGgufTokenizer } from '../src/tokenizer/gguf-tokenizer.js';
import { createHubTokenizer } from '../src/tokenizer/hub-tokenizer.js';
import { MergeLoop, type MergeTable } from '../src/tokenizer/merge-loop.js';
import { SpecialTokens } from '../src/tokenizer/special-tokens.js';
import { tokenType, Vocabulary } from '../src/tokenizer/vocabulary.js';
import { byteLevelGolden, hubGolden, sentencePieceGolden } from './support/tokenizer-goldens.js';
import { bool, ggufFile, integers, string, u32 } from './support/tokenizer-gguf.js';

// Seeds are fixed in the short tier.
fc.configureGlobal(fullTier ? { numRuns: 1000 } : { seed: 1 });

describe('MergeLoop', () => {
  /** Pairs of tokens merge to tokens from 4 on, with ranks; several pairs may have the same one. */
  const rules = fc.uniqueArray(fc.tuple(fc.nat(9), fc.nat(9), fc.integer({ min: 4, max: 9 }), fc.nat(5)), {
    selector: ([left, right]) => `${left} ${right}`,
    maxLength: 40,
  });

  it('merges as the definition does, one lowest and leftmost pair at a time', () => {
    fc.assert(
      fc.property(rules, fc.array(fc.nat(3), { maxLength: 60 }), (pairs, symbols) => {
        const find = (left: number, right: number): (typeof pairs)[number] | undefined =>
          pairs.find((pair) => pair[0] === left && pair[1] === right);
        const table: MergeTable & { merged: number } = {
          merged: -1,
          byteLength: 0,
          rank(_text: Uint8Array, _start: number, _middle: number, _end: number, left: number, right: number): number {
            const rule = find(left, right);
            table.merged = rule?.[2] ?? -1;
            return rule?.[3] ?? -1;
          },
        };
        const expected = [...symbols];
        for (;;) {
          const ranks = expected.slice(1).map((right, index) => find(expected[index], right)?.[3] ?? Infinity);
          const lowest = Math.min(...ranks, Infinity);
          if (lowest === Infinity) break;
          const at = ranks.indexOf(lowest);
          expected.splice(at, 2, find(expected[at], expected[at + 1])?.[2] ?? -1);
        }
        const loop = new MergeLoop();
        loop.reserve(symbols.length);
        symbols.forEach((symbol, index) => {
          loop.starts[index] = index;
          loop.ids[index] = symbol;
        });
        const found: number[] = [];
        const ends: number[] = [0];
        loop.run(table, new Uint8Array(), symbols.length, symbols.length, (token, start, end) => {
          expect(start).toBe(ends[ends.length - 1]);
          ends.push(end);
          found.push(token);
        });
        expect(found).toEqual(expected);
        expect(ends[ends.length - 1]).toBe(symbols.length);
      }),
    );
  });
});

describe('SpecialTokens', () => {
  it('finds the leftmost and of these the longest, and leaves nothing out', () => {
    const names = fc.uniqueArray(fc.string({ unit: fc.constantFrom('a', 'b', '<', '>'), minLength: 1, maxLength: 4 }), {
      maxLength: 8,
    });
    fc.assert(
      fc.property(names, fc.string({ unit: fc.constantFrom('a', 'b', '<', '>', '😀'), maxLength: 30 }), (texts, text) => {
        const expected: (readonly [string, number])[] = [];
        for (let at = 0; at < text.length;) {
          const fitting = texts.filter((name) => text.startsWith(name, at)).sort((x, y) => y.length - x.length);
          const [name = ''] = fitting;
          const last = expected.pop();
          if (name !== '') {
            if (last) expected.push(last);
            expected.push([name, texts.indexOf(name)]);
          } else if (last?.[1] === -1) expected.push([last[0] + text[at], -1]);
          else {
            if (last) expected.push(last);
            expected.push([text[at], -1]);
          }
          at += Math.max(1, name.length);
        }
        const parts: (readonly [string, number])[] = [];
        new SpecialTokens(texts.map((name, id) => [name, id] as const)).split(text, (whole, start, end, token) => {
          parts.push([whole.slice(start, end), token]);
        });
        expect(parts).toEqual(expected);
      }),
    );
  });
});

describe('Vocabulary', () => {
  it('finds every ordinary token by its bytes and nothing else', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.string({ unit: fc.constantFrom('a', 'é', '漢', '😀', '▁'), minLength: 1 }), { minLength: 1 }),
        (texts) => {
          const vocabulary = new Vocabulary(texts, new Uint8Array(texts.length).fill(tokenType.normal), 'spaces', 'tokens');
          const bytes = (text: string): Uint8Array => new TextEncoder().encode(text.replaceAll('▁', ' '));
          for (const [id, text] of texts.entries()) {
            expect(vocabulary.find(bytes(text), 0, bytes(text).length)).toBe(id);
            expect(vocabulary.bytes(id)).toEqual(bytes(text));
          }
          const other = bytes(`${texts.join('')}x`);
          expect(vocabulary.find(other, 0, other.length)).toBe(-1);
        },
      ),
    );
  });
});

describe('what a GGUF file says about its tokenizer', () => {
  const { file } = sentencePieceGolden('spaced');
  const withEntries = (base: typeof file, entries: readonly (readonly [string, GgufValue])[]): typeof file =>
    ggufFile([...base.metadata, ...entries.map(([name, value]) => [`tokenizer.ggml.${name}`, value] as const)]);
  const tokens = file.strings('tokenizer.ggml.tokens') ?? [];

  it('begins texts with bos where the model wants it or the caller', () => {
    const yes = createGgufTokenizer(withEntries(file, [['add_bos_token', bool(true)]]));
    const no = createGgufTokenizer(withEntries(file, [['add_bos_token', bool(false)]]));
    expect([yes.addBos, no.addBos]).toEqual([true, false]);
    const plain = no.encode('sea');
    expect(yes.encode('sea')).toEqual([1, ...plain]);
    expect(yes.encode('sea', { addBos: false })).toEqual(plain);
    expect(no.encode('sea', { addBos: true })).toEqual([1, ...plain]);
  });

  it('wants bos by default with SentencePiece and with llama-bpe, not with gpt-2', () => {
    const without = (base: typeof file): typeof file =>
      ggufFile([...base.metadata].filter(([name]) => name !== 'tokenizer.ggml.add_bos_token'));
    expect(createGgufTokenizer(without(file)).addBos).toBe(true);
    expect(createGgufTokenizer(without(byteLevelGolden('llama-bpe').file)).addBos).toBe(true);
    expect(createGgufTokenizer(without(byteLevelGolden('gpt-2').file)).addBos).toBe(false);
  });

  it('ends generations at eos, eot, eom and at tokens known to be ends', () => {
    const ends = createGgufTokenizer(
      withEntries(file, [
        ['eot_token_id', u32(300)],
        ['eom_token_id', u32(301)],
      ]),
    ).endOfGeneration;
    expect([...ends].sort((a, b) => a - b)).toEqual([2, tokens.indexOf('<|im_end|>'), 300, 301].sort((a, b) => a - b));
  });

  it('takes tokens known to be ends for control tokens, whatever the file says', () => {
    const end = tokens.indexOf('<|im_end|>');
    const types = [...(file.numbers('tokenizer.ggml.token_type') as Int32Array)].map((type, id) => (id === end ? 1 : type));
    const tokenizer = createGgufTokenizer(withEntries(file, [['token_type', integers(types)]]));
    expect(tokenizer.encode('<|im_end|>', { special: true, addBos: false })).toEqual([end]);
    expect(tokenizer.encode('<|im_end|>', { addBos: false })).not.toContain(end);
    expect(tokenizer.decode([end])).toBe('');
  });

  it('leaves out bytes that a byte-level vocabulary has no token for', () => {
    const base = byteLevelGolden('gpt-2').file;
    const missing = (base.strings('tokenizer.ggml.tokens') ?? []).map((token) => (token === 'q' ? 'unused q' : token));
    const merges = (base.strings('tokenizer.ggml.merges') ?? []).filter((merge) => !merge.includes('q'));
    const list = (values: readonly string[]): GgufValue => ({ type: 'array', value: { elementType: 'string', values } });
    const tokenizer = createGgufTokenizer(
      withEntries(base, [
        ['tokens', list(missing)],
        ['merges', list(merges)],
      ]),
    );
    expect(tokenizer.decode(tokenizer.encode('aqb'))).toBe('ab');
  });

  it('counts the memory of its tables', () => {
    expect(createGgufTokenizer(file).byteLength).toBeGreaterThan(20 * tokens.length);
  });

  it('is read without a pre-tokenizer as llama.cpp reads it', () => {
    const base = byteLevelGolden('gpt-2').file;
    const without = ggufFile([...base.metadata].filter(([name]) => name !== 'tokenizer.ggml.pre'));
    const named = withEntries(base, [['pre', string('default')]]);
    expect(createGgufTokenizer(without).encode('a1234 $x')).toEqual(createGgufTokenizer(named).encode('a1234 $x'));
  });
});

describe('what tokenizer_config.json and the post-processor say', () => {
  const { json } = hubGolden('spaced');
  const processed = {
    ...(json as Record<string, unknown>),
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [],
      special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
    },
  };

  it('takes bos and eos from the configuration', () => {
    const config = { bos_token: { content: '<s>' }, eos_token: '<|im_end|>', add_bos_token: true };
    const tokenizer = createHubTokenizer({ tokenizerJson: json, tokenizerConfig: config });
    const end = tokenizer.specialTokens.get('<|im_end|>');
    expect([tokenizer.bos, tokenizer.eos, tokenizer.addBos]).toEqual([1, end, true]);
    expect(tokenizer.endOfGeneration).toContain(end);
    expect(tokenizer.endOfGeneration).toContain(tokenizer.specialTokens.get('</s>'));
    expect(tokenizer.encode('sea')[0]).toBe(1);
  });

  it('takes bos from a template processor, unless the configuration says not to add it', () => {
    const tokenizer = createHubTokenizer({ tokenizerJson: processed });
    expect([tokenizer.bos, tokenizer.addBos]).toEqual([1, true]);
    const config = { bos_token: '<s>', add_bos_token: false };
    expect(createHubTokenizer({ tokenizerJson: processed, tokenizerConfig: config }).addBos).toBe(false);
  });

  it('has no bos where nothing names one', () => {
    const tokenizer = createHubTokenizer({ tokenizerJson: json });
    expect([tokenizer.bos, tokenizer.eos, tokenizer.addBos]).toEqual([undefined, undefined, false]);
  });
});
