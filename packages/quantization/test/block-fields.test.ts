import { f16ToNumber, numberToF16, Random } from '@filigree/core-tensor';
import {
  blockFields,
  blockFormula,
  blockFormulas,
  decodeRow,
  floatFormats,
  formulaFunctions,
  formulaTables,
  ggufLayouts,
  weightLayout,
  weightTypes,
  type BlockField,
} from '@filigree/quantization';
import { describe, expect, it } from 'vitest';
import { blockEvaluator } from '../../../scripts/formats/evaluate-block.mjs';

/** Scales and offsets of a block, which all weights of it grow with. */
const factors = (type: string) => blockFields(type).filter(({ dtype }) => dtype === 'f16' || dtype === 'f32');

/** A block of random bytes whose factors are finite and small enough to double, and whose unsigned scales have no sign bit. */
function randomBlock(type: string, seed: number): Uint8Array {
  const random = new Random(seed);
  const block = Uint8Array.from({ length: weightLayout(type).bytes }, () => random.nextInt(256));
  for (const field of factors(type)) setFactor(block, field, random.nextNormal());
  for (const { offset, bytes, dtype } of blockFields(type))
    if (dtype === 'ue4m3') for (let at = offset; at < offset + bytes; at++) block[at] &= 0x7f;
  return block;
}

function setFactor(block: Uint8Array, { offset, dtype }: BlockField, value: number): void {
  const view = new DataView(block.buffer);
  if (dtype === 'f16') view.setUint16(offset, numberToF16(value), true);
  else view.setFloat32(offset, value, true);
}

function factorOf(block: Uint8Array, { offset, dtype }: BlockField): number {
  const view = new DataView(block.buffer);
  return dtype === 'f16' ? f16ToNumber(view.getUint16(offset, true)) : view.getFloat32(offset, true);
}

function decoded(type: string, block: Uint8Array): number[] {
  const weights = new Float64Array(weightLayout(type).elements);
  decodeRow(type, block, 0, weights.length, weights);
  // −0 is as good as 0.
  return Array.from(weights, (weight) => weight + 0);
}

it('every type whose weights can be decoded has its fields and formulas described', () => {
  expect(Object.keys(blockFormulas).sort()).toEqual([...ggufLayouts.keys()].sort());
});

describe.each(weightTypes)('%s', (type) => {
  it('fields lie one behind the other and fill the block', () => {
    const ends = blockFields(type).map(({ offset, bytes }) => offset + bytes);
    expect(blockFields(type).map(({ offset }) => offset)).toEqual([0, ...ends.slice(0, -1)]);
    expect(ends.at(-1)).toBe(weightLayout(type).bytes);
  });

  it('says what each field holds', () => {
    expect(Object.keys(blockFormula(type).meanings)).toEqual(blockFields(type).map(({ name }) => name));
  });

  it('the written formulas give what the decoder gives', () => {
    const { elements } = weightLayout(type);
    const description = { elements, fields: blockFields(type), formula: blockFormula(type) };
    const known = { floats: floatFormats, functions: formulaFunctions, tables: formulaTables };
    const evaluate = blockEvaluator({ ...description, ...known });
    for (let seed = 1; seed <= 20; seed++) {
      const block = randomBlock(type, seed);
      expect(evaluate(block).weights.map((weight) => weight + 0)).toEqual(decoded(type, block));
    }
  });

  it('weights are as large as the factors of the block say', () => {
    for (let seed = 1; seed <= 5; seed++) {
      const block = randomBlock(type, seed);
      const before = decoded(type, block);
      for (const field of factors(type)) setFactor(block, field, 2 * factorOf(block, field));
      const times = factors(type).length > 0 ? 2 : 1;
      expect(decoded(type, block)).toEqual(before.map((weight) => times * weight));
    }
  });

  it('every byte of the block matters', () => {
    const block = new Uint8Array(weightLayout(type).bytes);
    // Scales of 1 or near it, none of which cancels another.
    for (const [index, field] of factors(type).entries()) setFactor(block, field, 1 + 0.25 * index);
    for (const { offset, bytes, dtype } of blockFields(type))
      if (dtype === 'e8m0' || dtype === 'ue4m3') block.fill(0x38, offset, offset + bytes);
    const base = randomBlock(type, 7).map((byte, index) => (block[index] === 0 ? byte : block[index]));
    const weights = decoded(type, base);
    const silent = Array.from(base.keys()).filter((at) => {
      const changed = base.map((byte, index) => (index === at ? byte ^ 0x55 : byte));
      return decoded(type, changed).every((weight, e) => Object.is(weight, weights[e]));
    });
    expect(silent).toEqual([]);
  });
});
