import { cut, type Piece, type WebGpuLimits } from '@filigree/core-tensor';
import byteCodes from '@filigree/wgsl/quantization/groups/byte-codes.wgsl';
import e4m3 from '@filigree/wgsl/quantization/groups/e4m3.wgsl';
import e5m2 from '@filigree/wgsl/quantization/groups/e5m2.wgsl';
import fives from '@filigree/wgsl/quantization/groups/fives.wgsl';
import fp4 from '@filigree/wgsl/quantization/groups/fp4.wgsl';
import groupedCodes from '@filigree/wgsl/quantization/groups/grouped-codes.wgsl';
import groupedFloats from '@filigree/wgsl/quantization/groups/grouped-floats.wgsl';
import int2 from '@filigree/wgsl/quantization/groups/int2.wgsl';
import int3 from '@filigree/wgsl/quantization/groups/int3.wgsl';
import int4 from '@filigree/wgsl/quantization/groups/int4.wgsl';
import int8 from '@filigree/wgsl/quantization/groups/int8.wgsl';
import iq4nl from '@filigree/wgsl/quantization/groups/iq4-nl.wgsl';
import iq4xs from '@filigree/wgsl/quantization/groups/iq4-xs.wgsl';
import levels from '@filigree/wgsl/quantization/groups/levels.wgsl';
import mxfp4 from '@filigree/wgsl/quantization/groups/mxfp4.wgsl';
import nf4 from '@filigree/wgsl/quantization/groups/nf4.wgsl';
import nibbleCodes from '@filigree/wgsl/quantization/groups/nibble-codes.wgsl';
import nvfp4 from '@filigree/wgsl/quantization/groups/nvfp4.wgsl';
import pairs from '@filigree/wgsl/quantization/groups/pairs.wgsl';
import pairsOfBytes from '@filigree/wgsl/quantization/groups/pairs-of-bytes.wgsl';
import q10 from '@filigree/wgsl/quantization/groups/q1-0.wgsl';
import q20 from '@filigree/wgsl/quantization/groups/q2-0.wgsl';
import q2k from '@filigree/wgsl/quantization/groups/q2-k.wgsl';
import q3k from '@filigree/wgsl/quantization/groups/q3-k.wgsl';
import q40 from '@filigree/wgsl/quantization/groups/q4-0.wgsl';
import q41 from '@filigree/wgsl/quantization/groups/q4-1.wgsl';
import q4k from '@filigree/wgsl/quantization/groups/q4-k.wgsl';
import q50 from '@filigree/wgsl/quantization/groups/q5-0.wgsl';
import q51 from '@filigree/wgsl/quantization/groups/q5-1.wgsl';
import q5k from '@filigree/wgsl/quantization/groups/q5-k.wgsl';
import q6k from '@filigree/wgsl/quantization/groups/q6-k.wgsl';
import q80 from '@filigree/wgsl/quantization/groups/q8-0.wgsl';
import superPairs from '@filigree/wgsl/quantization/groups/super-pairs.wgsl';
import tq10 from '@filigree/wgsl/quantization/groups/tq1-0.wgsl';
import tq20 from '@filigree/wgsl/quantization/groups/tq2-0.wgsl';
import floats from '@filigree/wgsl/quantization/floats.wgsl';
import { groupedType, type GroupedKind } from '../grouped/types.js';

/** How 32 weights of a GGUF type are decoded. */
const ggufDecoders: Readonly<Record<string, string>> = /* @__PURE__ */ (() => ({
  Q4_0: q40,
  Q4_1: q41,
  Q5_0: `${q50}\n${fives}`,
  Q5_1: `${q51}\n${fives}`,
  Q8_0: q80,
  Q4_K: `${q4k}\n${superPairs}`,
  Q5_K: `${q5k}\n${superPairs}`,
  Q6_K: q6k,
  Q1_0: q10,
  Q2_0: `${q20}\n${pairsOfBytes}`,
  Q2_K: `${q2k}\n${pairs}`,
  Q3_K: `${q3k}\n${pairs}`,
  IQ4_NL: `${iq4nl}\n${levels}`,
  IQ4_XS: `${iq4xs}\n${levels}`,
  MXFP4: `${mxfp4}\n${levels}`,
  NVFP4: `${nvfp4}\n${levels}`,
  TQ1_0: tq10,
  TQ2_0: `${tq20}\n${pairs}`,
}))();

/** How the codes, or the levels, of a grouped type are found. */
const groupedDecoders: Readonly<Record<GroupedKind, string>> = /* @__PURE__ */ (() => ({
  INT2: `${int2}\n${pairsOfBytes}\n${groupedCodes}`,
  INT3: `${int3}\n${pairsOfBytes}\n${groupedCodes}`,
  INT4: `${int4}\n${groupedCodes}`,
  INT8: `${int8}\n${groupedCodes}`,
  NF4: `${nf4}\n${nibbleCodes}\n${groupedFloats}`,
  FP4: `${fp4}\n${nibbleCodes}\n${groupedFloats}`,
  E4M3: `${e4m3}\n${byteCodes}\n${groupedFloats}`,
  E5M2: `${e5m2}\n${byteCodes}\n${groupedFloats}`,
}))();

/** WGSL that decodes weights of the type: 32 at a time to codes, or one by one where x is taken as it is. */
export function weightDecoder(type: string): string {
  const grouped = groupedType(type);
  if (grouped) return `const GROUP = ${grouped.elements}u;\n${groupedDecoders[grouped.kind]}`;
  return Object.hasOwn(ggufDecoders, type) ? ggufDecoders[type] : floats;
}

/** Pieces of the rows of `name` that fit into a binding; rows of any number of bytes, so four of them are whole words. */
export function weightPieces(name: string, rows: number, rowBytes: number, limits: WebGpuLimits): Piece[] {
  return cut(rows, { [name]: rowBytes }, limits, 4);
}
