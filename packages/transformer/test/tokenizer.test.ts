import { fullTier } from '@filigree/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createGgufTokenizer } from '../src/tokenizer/gguf-tokenizer.js';
import { createHubTokenizer } from '../src/tokenizer/hub-tokenizer.js';
import type { Tokenizer } from '../src/tokenizer/tokenizer.js';
import { byteLevelGolden, goldenTexts, hubGolden, sentencePieceGolden } from './support/tokenizer-goldens.js';

// Seeds are fixed in the short tier.
fc.configureGlobal(fullTier ? { numRuns: 1000 } : { seed: 1 });

const byteLevelNames = ['gpt-2', 'smollm', 'llama-bpe', 'qwen2'] as const;
const fallbackNames = ['spaced', 'prefixed'] as const;

const tokenizers: readonly (readonly [string, Tokenizer])[] = [
  ...byteLevelNames.map((name) => [`GGUF ${name}`, createGgufTokenizer(byteLevelGolden(name).file)] as const),
  ...fallbackNames.map((name) => [`GGUF ${name}`, createGgufTokenizer(sentencePieceGolden(name).file)] as const),
  ...[...byteLevelNames, ...fallbackNames].map(
    (name) => [`tokenizer.json ${name}`, createHubTokenizer({ tokenizerJson: hubGolden(name).json })] as const,
  ),
];
const everyByte = tokenizers.filter(([name]) => byteLevelNames.some((known) => name.endsWith(known)));

describe('ids are those of the tokenizers library', () => {
  it.each(byteLevelNames)('from GGUF metadata with the pre-tokenizer %s', (name) => {
    const { file, ids } = byteLevelGolden(name);
    const tokenizer = createGgufTokenizer(file);
    for (const [index, text] of goldenTexts.entries()) {
      expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(ids.plain[index]);
      expect(tokenizer.encode(text, { special: true }), JSON.stringify(text)).toEqual(ids.special[index]);
    }
  });

  it.each([...byteLevelNames, ...fallbackNames, 'unigram'])('from tokenizer.json of %s', (name) => {
    const { json, ids } = hubGolden(name);
    const tokenizer = createHubTokenizer({ tokenizerJson: json });
    for (const [index, text] of goldenTexts.entries()) {
      expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(ids.plain[index]);
      expect(tokenizer.encode(text, { special: true }), JSON.stringify(text)).toEqual(ids.special[index]);
    }
  });
});

describe('ids are those of SentencePiece', () => {
  it.each(fallbackNames)('%s', (name) => {
    const { file, ids } = sentencePieceGolden(name);
    const tokenizer = createGgufTokenizer(file);
    for (const [index, text] of goldenTexts.entries())
      expect(tokenizer.encode(text, { addBos: false }), JSON.stringify(text)).toEqual(ids[index]);
  });
});

/** Any text: of all planes, with lone surrogates, runs and texts of special tokens. */
const anyText = fc
  .array(
    fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.string({ unit: 'grapheme' }),
      fc.string({ unit: fc.constantFrom(' ', '\n', 'a', "'", '1', '.') }),
      fc.constantFrom(
        '\ud83d',
        '\ude00',
        '<|im_start|>',
        '<|im_end|>',
        '<tool>',
        '  ',
        '\n\n',
        '▁',
        '<0x41>',
        ' the',
        '\ufeff',
      ),
    ),
    { maxLength: 12 },
  )
  .map((parts) => parts.join(''));

/** Lone surrogates are no characters. */
const wellFormed = (text: string): string =>
  new TextDecoder('utf-8', { ignoreBOM: true }).decode(new TextEncoder().encode(text));

describe.each(tokenizers)('%s', (_, tokenizer) => {
  const { vocabularySize } = tokenizer;

  it('gives the parts of a stream that join to the decoded whole', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(vocabularySize - 1), { maxLength: 40 }), (tokens) => {
        const stream = tokenizer.stream();
        const parts = tokens.map((token) => stream.push(token));
        const joined = parts.join('') + stream.end();
        const decoded = tokenizer.decode(tokens);
        // A tokenizer that begins texts with a space takes it away from whole texts only: a stream goes on with a text.
        const begun = joined.length > decoded.length ? joined.slice(1) : joined;
        expect(begun).toBe(decoded);
        expect(joined.length - decoded.length).toBeLessThanOrEqual(1);
        expect(joined === decoded || joined.startsWith(' ')).toBe(true);
      }),
    );
  });

  it('never splits a character of a stream', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        const stream = tokenizer.stream();
        const whole = wellFormed(text).replaceAll('▁', ' ');
        for (const token of tokenizer.encode(text, { addBos: false })) {
          const part = stream.push(token);
          expect(part.includes('\ufffd') && !whole.includes('\ufffd')).toBe(false);
          expect(part).toBe(wellFormed(part));
        }
      }),
    );
  });

  it('never makes a control token of plain text', () => {
    const control = new Set(tokenizer.specialTokens.values());
    fc.assert(
      fc.property(anyText, (text) => {
        const tokens = tokenizer.encode(text, { addBos: false });
        expect(tokens.filter((token) => control.has(token))).toEqual([]);
      }),
    );
  });

  it('parses and shows control tokens where asked to', () => {
    const [[text, id]] = [...tokenizer.specialTokens].filter(([name]) => name === '<|im_start|>');
    expect(tokenizer.encode(text, { special: true, addBos: false })).toEqual([id]);
    expect(tokenizer.decode([id])).toBe('');
    expect(tokenizer.decode([id], { special: true })).toBe('<|im_start|>');
    expect(tokenizer.stream().push(id)).toBe('');
  });

  it('says which token id is none', () => {
    for (const token of [-1, vocabularySize, 0.5, NaN]) {
      expect(() => tokenizer.decode([token])).toThrow(`expected token ids of 0 to ${vocabularySize - 1}, got ${token}`);
      expect(() => tokenizer.stream().push(token)).toThrow(/expected token ids/);
    }
  });

  it('encodes long texts without a space', () => {
    for (const text of ['a', 'abcdefgh', '漢字', ' ', '\n', '.', '1', '😀']) {
      const long = text.repeat((fullTier ? 1_000_000 : 100_000) / text.length);
      expect(tokenizer.decode(tokenizer.encode(long, { addBos: false }))).toBe(long);
    }
  });
});

describe.each(everyByte)('%s', (_, tokenizer) => {
  it('decodes what it encoded', () => {
    fc.assert(
      fc.property(anyText, fc.boolean(), (text, special) => {
        const tokens = tokenizer.encode(text, { addBos: false, special });
        expect(tokenizer.decode(tokens, { special: true })).toBe(wellFormed(text));
      }),
    );
  });
});

it.each(fallbackNames)('decodes what SentencePiece encoded (%s)', (name) => {
  const tokenizer = createGgufTokenizer(sentencePieceGolden(name).file);
  fc.assert(
    fc.property(anyText, (text) => {
      // A prefix comes before every plain run, and decoding knows of the first only.
      const plain = text.replaceAll(/▁|<tool>/g, '');
      expect(tokenizer.decode(tokenizer.encode(plain, { addBos: false }))).toBe(wellFormed(plain));
    }),
  );
});
