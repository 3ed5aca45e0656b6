import type { Tensor } from '@filigree/core-tensor';
import { appendOp, codedAttention, type CodedCache } from '@filigree/kv-cache';
import { attention, mergeAttention } from '@filigree/sparse-attention';
import type { SequenceKv, StepKv } from './sequence-kv.js';

/** Old entries as codes, which attention reads as they are, newer ones as rows: two parts of one softmax. */
export class CodedKv implements SequenceKv {
  #shapes = '';

  constructor(private readonly cache: CodedCache) {}

  get end(): number {
    return this.cache.length();
  }

  get shapes(): string {
    return this.#shapes;
  }

  reserve(count: number): readonly Tensor[] {
    const { positions, slots, rawLengths, codedLengths, rawTable, codedTable } = this.cache.reserve(count);
    this.#shapes = `${rawTable.shape[1]} ${codedTable.shape[1]}`;
    return [positions, slots, rawLengths, codedLengths, rawTable, codedTable];
  }

  step([positions, slots, rawLengths, codedLengths, rawTable, codedTable]: readonly Tensor[]): StepKv {
    const { raw, coded, codec } = this.cache;
    return {
      positions,
      layer: (index) => {
        const [k, v] = [raw.keys[index], raw.values[index]];
        return {
          append: (newK, newV) => {
            appendOp({ keyPages: k, valuePages: v, k: newK, v: newV, slots }, {});
          },
          attend: (q, { scale, softcap, precision }) => {
            const view = { k: coded.keys[index], v: coded.values[index], table: codedTable, lengths: codedLengths };
            const sizes = { codec, pageSize: raw.pageSize, vDim: raw.layers[index].vDim };
            const old = codedAttention(q, { ...view, ...sizes }, { scale, softcap });
            const options = { scale, softcap, precision, table: rawTable, lengths: rawLengths };
            const recent = attention(q, k, v, { ...options, queryLayout: 'blhd' });
            return mergeAttention([old, recent], { queryLayout: 'blhd' }).o;
          },
        };
      },
    };
  }

  visible(): undefined {
    return undefined;
  }
}
