import { describe, expect, it } from 'vitest';
import { klDivergence } from '../src/quality/divergence.js';
import { amount, bytes, rate, seconds, significant } from '../src/format/numbers.js';
import { printable, printableLines, shortened } from '../src/format/printable.js';
import { pairs, table } from '../src/format/table.js';

describe('numbers', () => {
  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.00 KB'],
    [98_362_432, '98.4 MB'],
    [999_499, '999 KB'],
    [999_500, '1.00 MB'],
    [2 ** 53, '9007 TB'],
  ])('bytes(%d) is %s', (count, text) => {
    expect(bytes(count)).toBe(text);
  });

  it.each([
    [12, '12'],
    [134_515_008, '135 M'],
    [35_136, '35.1 k'],
    [7_000_000_000, '7.00 B'],
  ])('amount(%d) is %s', (count, text) => {
    expect(amount(count)).toBe(text);
  });

  it('three significant digits, never an exponent', () => {
    expect([0, 0.001234, 1.5, 12.34, 123.4, 1234.5, 1e-7].map(significant)).toEqual([
      '0',
      '0.00123',
      '1.50',
      '12.3',
      '123',
      '1235',
      '0.000000100',
    ]);
  });

  it('time and rate', () => {
    expect([seconds(12.3), seconds(1500), rate(10, 2000), rate(0, 10), rate(10, 0)]).toEqual([
      '12 ms',
      '1.50 s',
      '5.00',
      '–',
      '–',
    ]);
  });
});

describe('text', () => {
  it('control characters and direction overrides are escaped, other scripts stay', () => {
    expect(printable('a\u001B[31m\n\u202Eé漢\u009B')).toBe('a\\u001b[31m\\n\\u202eé漢\\u009b');
  });

  it('of several lines keeps its line ends', () => {
    expect(printableLines('a\tb\nc\r\u001B]0;x\u0007')).toBe('a\tb\nc\\r\\u001b]0;x\\u0007');
  });

  it('is cut between characters', () => {
    expect(shortened('😀😀😀', 3)).toBe('😀😀😀');
    expect(shortened('😀😀😀', 2)).toBe('😀…');
  });

  it('tables align, wide characters among them, and have no trailing spaces', () => {
    const text = table(
      ['name', { title: 'size', right: true }, 'note'],
      [
        ['漢字', '1', ''],
        ['a', '100', 'x'],
      ],
    );
    expect(text.split('\n')).toEqual(['name  size  note', '漢字     1', 'a      100  x']);
  });

  it('pairs leave out what has no value', () => {
    expect(
      pairs([
        ['a', '1'],
        ['long', undefined],
        ['bb', '2'],
      ]),
    ).toBe('a   1\nbb  2');
  });
});

describe('klDivergence', () => {
  const logitsOf = (...probabilities: number[]): Float32Array => Float32Array.from(probabilities, Math.log);

  it('is zero between equal distributions, whatever is added to the logits', () => {
    const p = Float32Array.of(1, 2, 3);
    expect(
      klDivergence(
        p,
        p.map((value) => value + 50),
      ),
    ).toBeCloseTo(0, 6);
  });

  it('is Σ p ln(p/q)', () => {
    const expected = 0.5 * Math.log(0.5 / 0.25) + 0.5 * Math.log(0.5 / 0.75);
    expect(klDivergence(logitsOf(0.5, 0.5), logitsOf(0.25, 0.75))).toBeCloseTo(expected, 6);
  });
});
