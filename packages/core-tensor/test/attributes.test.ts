import { flattenAttributes, OptionError, resolveAttributes, type AttributeSpecs } from '@filigree/core-tensor';
import { describe, expect, it } from 'vitest';

const specs = {
  eps: { type: 'number', default: 1e-5 },
  keepDims: { type: 'boolean', default: false },
  mode: { type: 'enum', values: ['set', 'add'], default: 'add' },
  sizes: { type: 'numbers', default: [1, 2] },
} as const satisfies AttributeSpecs;

const required = { k: { type: 'number' } } as const satisfies AttributeSpecs;

describe('resolving attributes', () => {
  it('fills every default', () => {
    expect(resolveAttributes('op', specs, {})).toEqual({ eps: 1e-5, keepDims: false, mode: 'add', sizes: [1, 2] });
  });

  it('takes what is given over the default, also 0 and false', () => {
    expect(resolveAttributes('op', specs, { eps: 0, keepDims: false, mode: 'set', sizes: [] })).toEqual({
      eps: 0,
      keepDims: false,
      mode: 'set',
      sizes: [],
    });
  });

  it('treats undefined as not given', () => {
    expect(resolveAttributes('op', specs, { eps: undefined })['eps']).toBe(1e-5);
  });

  it('names an attribute that does not exist, and those that do', () => {
    expect(() => resolveAttributes('core/op', specs, { epsilon: 1 })).toThrow(
      /core\/op: unknown attribute 'epsilon'.*eps, keepDims, mode, sizes/,
    );
    expect(() => resolveAttributes('core/op', {}, { k: 1 })).toThrow(/it takes none/);
  });

  it('does not take names from the prototype of objects', () => {
    expect(() => resolveAttributes('op', specs, { toString: 1 })).toThrow(OptionError);
  });

  it('names a missing attribute', () => {
    expect(() => resolveAttributes('op', required, {})).toThrow(/op: attribute 'k' is missing/);
  });

  it.each([
    ['eps', 'large'],
    ['eps', true],
    ['keepDims', 1],
    ['mode', 'multiply'],
    ['mode', 0],
    ['sizes', 3],
    ['sizes', 'all'],
  ])('refuses %s: %j', (name, value) => {
    expect(() => resolveAttributes('op', specs, { [name]: value })).toThrow(OptionError);
  });

  it('refuses a list with anything but numbers in it', () => {
    expect(() => resolveAttributes('op', specs, { sizes: [1, 'two'] as unknown as number[] })).toThrow(OptionError);
  });
});

describe('flattening attributes', () => {
  it('writes numbers, flags, indices of names and lists with their length, in declared order', () => {
    const attributes = { sizes: [7, 8, 9], mode: 'add', keepDims: true, eps: 0.5 };
    expect(flattenAttributes(specs, attributes)).toEqual([0.5, 1, 1, 3, 7, 8, 9]);
  });

  it('writes an empty list as its length', () => {
    expect(flattenAttributes(specs, { eps: 1, keepDims: false, mode: 'set', sizes: [] })).toEqual([1, 0, 0, 0]);
  });
});
