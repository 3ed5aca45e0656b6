import { OptionError } from '@filigree/core-tensor';
import { describe, expect, it } from 'vitest';
import { attentionMethod, attentionMethods, denseAttention } from '../src/index.js';

describe('catalogue', () => {
  it('names every method once', () => {
    const ids = attentionMethods.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it.each(attentionMethods.map((method) => [method.id, method] as const))('%s is made of its defaults', (_id, method) => {
    expect(['pattern', 'selector', 'executor']).toContain(method.create().kind);
    expect(method.create(method.options).kind).toBe(method.create().kind);
  });

  it.each(attentionMethods.map((method) => [method.id, method] as const))(
    '%s refuses an option that it has not',
    (id, method) => {
      expect(() => method.create({ unheardOf: 1 })).toThrow(new RegExp(`^${id}: there is no option "unheardOf"`));
    },
  );

  it.each(attentionMethods.map((method) => [method.id, method] as const))(
    '%s refuses options of another type',
    (_id, method) => {
      for (const [name, value] of Object.entries(method.options)) {
        const wrong = typeof value === 'string' ? 1 : 'x';
        expect(() => method.create({ [name]: wrong })).toThrow(OptionError);
      }
    },
  );

  it.each(attentionMethods.map((method) => [method.id, method] as const))('%s refuses numbers that are none', (_id, method) => {
    for (const [name, value] of Object.entries(method.options)) {
      if (typeof value === 'number') expect(() => method.create({ [name]: NaN }), name).toThrow(OptionError);
    }
  });

  it('finds methods by id, and dense', () => {
    expect(attentionMethod('dense')).toBe(denseAttention);
    for (const method of attentionMethods) expect(attentionMethod(method.id)).toBe(method);
    expect(() => attentionMethod('sparse')).toThrow(/there is no method "sparse"; there are dense, streaming-llm/);
  });
});
