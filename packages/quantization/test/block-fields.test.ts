import { f16ToNumber, numberToF16, Random } from '@filigree/core-tensor';
import {
  blockFields,
  blockFormulas,
  decodeRow,
  floatFormats,
  formulaFunctions,
  formulaTables,
  ggufLayout,
  ggufLayouts,
  type BlockType,
} from '@filigree/quantization';
import { describe, expect, it } from 'vitest';
import { blockEvaluator } from '../../../scripts/formats/evaluate-block.mjs';

const types = [...ggufLayouts.keys()] as BlockType[];
const halves = (type: string) => blockFields(type).filter(({ dtype }) => dtype === 'f16');

/** A block of random bytes whose half-precision fields are finite and small enough to double, and whose unsigned scales have no sign bit. */
function randomBlock(type: string, seed: number): Uint8Array {
  const random = new Random(seed);
  const block = Uint8Array.from({ length: ggufLayout(type).bytes }, () => random.nextInt(256));
  for (const { offset } of halves(type)) setHalf(block, offset, random.nextNormal());
  for (const { offset, bytes, dtype } of blockFields(type))
    if (dtype === 'ue4m3')
      block.set(
        block.subarray(offset, offset + bytes).map((byte) => byte & 0x7f),
        offset,
      );
  return block;
}

function setHalf(block: Uint8Array, at: number, value: number): void {
  new DataView(block.buffer).setUint16(at, numberToF16(value), true);
}

function decoded(type: string, block: Uint8Array): number[] {
  const weights = new Float64Array(ggufLayout(type).elements);
  decodeRow(type, block, 0, weights.length, weights);
  // −0 is as good as 0.
  return Array.from(weights, (weight) => weight + 0);
}

it('every type whose weights can be decoded has its fields and formulas described', () => {
  expect(Object.keys(blockFormulas).sort()).toEqual([...types].sort());
});

describe.each(types)('%s', (type) => {
  it('fields lie one behind the other and fill the block', () => {
    const ends = blockFields(type).map(({ offset, bytes }) => offset + bytes);
    expect(blockFields(type).map(({ offset }) => offset)).toEqual([0, ...ends.slice(0, -1)]);
    expect(ends.at(-1)).toBe(ggufLayout(type).bytes);
  });

  it('says what each field holds', () => {
    expect(Object.keys(blockFormulas[type].meanings)).toEqual(blockFields(type).map(({ name }) => name));
  });

  it('the written formulas give what the decoder gives', () => {
    const { elements } = ggufLayout(type);
    const description = { elements, fields: blockFields(type), formula: blockFormulas[type] };
    const known = { floats: floatFormats, functions: formulaFunctions, tables: formulaTables };
    const evaluate = blockEvaluator({ ...description, ...known });
    for (let seed = 1; seed <= 20; seed++) {
      const block = randomBlock(type, seed);
      expect(evaluate(block).weights.map((weight) => weight + 0)).toEqual(decoded(type, block));
    }
  });

  it('weights are as large as the half-precision fields say', () => {
    for (let seed = 1; seed <= 5; seed++) {
      const block = randomBlock(type, seed);
      const before = decoded(type, block);
      const view = new DataView(block.buffer);
      for (const { offset } of halves(type)) setHalf(block, offset, 2 * f16ToNumber(view.getUint16(offset, true)));
      const factor = halves(type).length > 0 ? 2 : 1;
      expect(decoded(type, block)).toEqual(before.map((weight) => factor * weight));
    }
  });

  it('every byte of the block matters', () => {
    const block = new Uint8Array(ggufLayout(type).bytes);
    // Scales of 1 or near it, none of which cancels another.
    for (const [index, { offset }] of halves(type).entries()) setHalf(block, offset, 1 + 0.25 * index);
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
