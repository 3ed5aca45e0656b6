import { NonFiniteLogitsError, Sampler, StopStrings, type SamplingOptions } from '@filigree/transformer';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

function frequencies(logits: readonly number[], options: SamplingOptions, draws = 20_000): number[] {
  const sampler = new Sampler({ seed: 1, ...options });
  const counts = logits.map(() => 0);
  for (let draw = 0; draw < draws; draw++) counts[sampler.draw(Float32Array.from(logits))]++;
  return counts.map((count) => count / draws);
}

const logits = [Math.log(0.5), Math.log(0.3), Math.log(0.15), Math.log(0.05)];

describe('Sampler', () => {
  it('takes the most likely token, the first of equals, at temperature 0', () => {
    expect(new Sampler().draw(Float32Array.of(1, 3, 3, 2))).toBe(1);
  });

  it('draws with the probabilities of the softmax', () => {
    const found = frequencies(logits, { temperature: 1 });
    [0.5, 0.3, 0.15, 0.05].forEach((probability, id) => {
      expect(Math.abs(found[id] - probability)).toBeLessThan(0.02);
    });
  });

  it('sharpens below and flattens above temperature 1', () => {
    const squared = [0.25, 0.09, 0.0225, 0.0025].map((weight) => weight / 0.365);
    frequencies(logits, { temperature: 0.5 }).forEach((found, id) => {
      expect(Math.abs(found - squared[id])).toBeLessThan(0.02);
    });
  });

  it('keeps k tokens under top-k', () => {
    expect(frequencies(logits, { temperature: 1, topK: 2 }).slice(2)).toEqual([0, 0]);
  });

  it('keeps the smallest set that reaches top-p', () => {
    expect(frequencies(logits, { temperature: 1, topP: 0.5 })).toEqual([1, 0, 0, 0]);
    expect(frequencies(logits, { temperature: 1, topP: 0.79 }).slice(2)).toEqual([0, 0]);
    expect(frequencies(logits, { temperature: 1, topP: 0.81 })[2]).toBeGreaterThan(0);
  });

  it('drops tokens far below the best under min-p', () => {
    const found = frequencies(logits, { temperature: 1, minP: 0.31 });
    expect(found[2]).toBe(0);
    expect(found[1]).toBeGreaterThan(0.3);
  });

  it('rejects NaN among the logits, and logits without a finite one', () => {
    expect(() => new Sampler().draw(Float32Array.of(1, Number.NaN))).toThrow(NonFiniteLogitsError);
    expect(() => new Sampler({ temperature: 1 }).draw(Float32Array.of(-Infinity, -Infinity))).toThrow(NonFiniteLogitsError);
  });
});

describe('StopStrings', () => {
  it('gives the text before the first stop string, however it is cut into pieces', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 30 });
    const stop = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 1, maxLength: 3 });
    fc.assert(
      fc.property(letters, fc.array(stop, { maxLength: 3 }), fc.array(fc.nat(30)), (text, stops, cuts) => {
        const pieces = new StopStrings(stops);
        const places = [0, ...cuts.map((cut) => Math.min(cut, text.length)).sort((a, b) => a - b), text.length];
        let out = '';
        for (let index = 1; index < places.length; index++) out += pieces.push(text.slice(places[index - 1], places[index]));
        out += pieces.end();
        // The stop string that is complete first ends the text.
        const ends = stops.map((one) => [text.indexOf(one), one.length] as const).filter(([at]) => at >= 0);
        expect(pieces.found).toBe(ends.length > 0);
        if (ends.length === 0) expect(out).toBe(text);
        else expect(ends.some(([at]) => out === text.slice(0, at))).toBe(true);
      }),
    );
  });
});
