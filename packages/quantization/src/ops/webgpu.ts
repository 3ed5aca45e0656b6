import {
  composedShader,
  cut,
  groupsFor,
  seededTensor,
  uniform,
  type Piece,
  type ShaderVariant,
  type TensorMeta,
  type WebGpuKernel,
  type WebGpuLimits,
} from '@filigree/core-tensor';
import finishPlain from '@filigree/wgsl/quantization/finish-plain.wgsl';
import finishSubgroups from '@filigree/wgsl/quantization/finish-subgroups.wgsl';
import dequantizeFloats from '@filigree/wgsl/quantization/dequantize-floats.wgsl';
import dequantizeGroups from '@filigree/wgsl/quantization/dequantize-groups.wgsl';
import dequantize from '@filigree/wgsl/quantization/dequantize-rows.wgsl';
import fives from '@filigree/wgsl/quantization/groups/fives.wgsl';
import floats from '@filigree/wgsl/quantization/floats.wgsl';
import iq4nl from '@filigree/wgsl/quantization/groups/iq4-nl.wgsl';
import iq4xs from '@filigree/wgsl/quantization/groups/iq4-xs.wgsl';
import levels from '@filigree/wgsl/quantization/groups/levels.wgsl';
import mxfp4 from '@filigree/wgsl/quantization/groups/mxfp4.wgsl';
import nvfp4 from '@filigree/wgsl/quantization/groups/nvfp4.wgsl';
import pairs from '@filigree/wgsl/quantization/groups/pairs.wgsl';
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
import multiplyBlocks from '@filigree/wgsl/quantization/matmul-blocks.wgsl';
import multiplyFloats from '@filigree/wgsl/quantization/matmul-floats.wgsl';
import words from '@filigree/wgsl/quantization/words.wgsl';
import { activationGroup } from '../activations.js';
import { seededBlocks } from '../cases.js';
import { ggufLayout, ggufLayoutById } from '../gguf/types.js';

type Io = Readonly<Record<string, TensorMeta | undefined>>;

/** How 32 weights of a type are decoded. */
const groups: Readonly<Record<string, string>> = {
  Q4_0: q40,
  Q4_1: q41,
  Q5_0: `${q50}\n${fives}`,
  Q5_1: `${q51}\n${fives}`,
  Q8_0: q80,
  Q4_K: `${q4k}\n${superPairs}`,
  Q5_K: `${q5k}\n${superPairs}`,
  Q6_K: q6k,
  Q1_0: q10,
  Q2_0: q20,
  Q2_K: `${q2k}\n${pairs}`,
  Q3_K: `${q3k}\n${pairs}`,
  IQ4_NL: `${iq4nl}\n${levels}`,
  IQ4_XS: `${iq4xs}\n${levels}`,
  MXFP4: `${mxfp4}\n${levels}`,
  NVFP4: `${nvfp4}\n${levels}`,
  TQ1_0: tq10,
  TQ2_0: `${tq20}\n${pairs}`,
};

/** Rows of weights that a workgroup of the matmul covers: 64 invocations over the LANES of finish-*.wgsl. */
function rowsPerGroup({ subgroups }: ShaderVariant): number {
  return subgroups ? 16 : 8;
}

/** Bytes of the activations of one group in scratch: eight vectors of codes and one of scale and sums. */
const scratchBytes = 9 * 16;

/** Tokens that a workgroup works on: weights are decoded once for all of them. Sums that wait at a barrier are dear on software devices. */
function tokensPerGroup(tokens: number, { subgroups }: ShaderVariant): number {
  return tokens === 1 ? 1 : tokens <= 4 ? 4 : subgroups ? 16 : 8;
}

/** Pieces of the rows of `name` that fit into a binding; rows of any number of bytes, so four of them are whole words. */
function weightPieces(name: string, rows: number, rowBytes: number, limits: WebGpuLimits): Piece[] {
  return cut(rows, { [name]: rowBytes }, limits, 4);
}

export const dequantizeRowsKernel: WebGpuKernel = {
  shader: (_, __, { type }) =>
    composedShader(`quantization/dequantize-rows ${Number(type)}`, () => {
      const { name, elements } = ggufLayoutById(Number(type));
      const decoder = elements > 1 ? [groups[name], dequantizeGroups] : [floats, dequantizeFloats];
      return [words, dequantize.replace('/* decoder */', decoder.join('\n'))].join('\n');
    }),
  plan({ blocks: table, ids, y }, { type }, limits) {
    if (!table || !ids || !y) return [];
    const [rows, rowBytes] = table.shape;
    const unit = ggufLayoutById(Number(type)).elements === 1 ? 1 : activationGroup;
    const unitsPerRow = y.shape[1] / unit;
    const items = cut(ids.shape[0], { ids: 4, y: 4 * y.shape[1] }, limits);
    return weightPieces('blocks', rows, rowBytes, limits).flatMap((weights) =>
      items.map((item) => ({
        workgroups: groupsFor(item.count * unitsPerRow),
        uniforms: [
          ...[item.count * unitsPerRow, unitsPerRow, rowBytes, Number(type), unit],
          ...[weights.start, weights.count, rows],
        ].map(uniform.u32),
        ranges: { ...weights.ranges, ...item.ranges },
      })),
    );
  },
};

/** Groups of a row of x, or 0 for types without blocks, which take x as it is. */
function groupsOf(x: TensorMeta | undefined, type: number): number {
  return ggufLayoutById(type).elements === 1 ? 0 : (x?.shape[1] ?? 0) / activationGroup;
}

/** Tokens in pieces whose part of every argument, and of the scratch, fits into a binding. */
function tokenPieces({ x, residual, y }: Io, groupCount: number, limits: WebGpuLimits): Piece[] {
  if (!x || !y) return [];
  const rowBytes = 4 * y.shape[1];
  const perToken = { x: 4 * x.shape[1], y: rowBytes, ...(residual ? { residual: rowBytes } : {}) };
  return cut(x.shape[0], groupCount > 0 ? { ...perToken, scratch: groupCount * scratchBytes } : perToken, limits);
}

/** The module for the arguments that are there: absent optional ones have no binding. */
function matmulShader(io: Io, typeId: number, tokens: number, subgroups: boolean): string {
  const { name, elements } = ggufLayoutById(typeId);
  const bound = ['x', 'weights', 'bias', 'residual'].filter((argument) => io[argument] !== undefined);
  const all = [...bound, 'y', ...(elements > 1 ? ['scratch'] : [])];
  const types: Readonly<Record<string, string>> = { weights: 'u32', scratch: 'vec4f' };
  const bindings = all.map((argument, index) => {
    const access = index < bound.length ? 'read' : 'read_write';
    return `@group(0) @binding(${index}) var<storage, ${access}> ${argument}: array<${types[argument] ?? 'f32'}>;`;
  });
  const offset = (argument: string): string => `p.offsets[${all.indexOf(argument) >> 2}][${all.indexOf(argument) & 3}]`;
  const bias = io['bias'] ? ` + bias[${offset('bias')} + row]` : '';
  const residual = io['residual'] ? ` + residual[${offset('residual')} + token * p.out_features + row]` : '';
  const result = `fn write_result(token: u32, row: u32, sum: f32) {
  y[${offset('y')} + token * p.out_features + row] = sum${bias}${residual};
}`;
  const block = `@group(0) @binding(${all.length}) var<uniform> p: Parameters;`;
  return [
    subgroups ? 'enable subgroups;' : '',
    subgroups ? finishSubgroups : finishPlain,
    words,
    elements > 1 ? groups[name] : floats,
    elements > 1 ? multiplyBlocks : multiplyFloats,
  ]
    .join('\n')
    .replace('/* bindings */', [...bindings, block, result].join('\n'))
    .replaceAll('OFFSET_WORDS', String(Math.ceil(all.length / 4)))
    .replaceAll('PARTIALS', `${64 * tokens}u`)
    .replaceAll('TOKENS', `${tokens}u`)
    .replaceAll('X_OFFSET', offset('x'))
    .replaceAll('WEIGHTS_OFFSET', offset('weights'));
}

export const matmulKernel: WebGpuKernel = {
  shader(variant, io, { type }) {
    const { subgroups } = variant;
    const given = `${io['bias'] ? 'bias' : ''} ${io['residual'] ? 'residual' : ''}`;
    const tokens = tokensPerGroup(io['x']?.shape[0] ?? 1, variant);
    return composedShader(`quantization/matmul ${Number(type)} ${tokens} ${subgroups} ${given}`, () =>
      matmulShader(io, Number(type), tokens, subgroups),
    );
  },
  variants: ['subgroups'],
  selfTest: () => ({
    inputs: { x: seededTensor(1, [5, 64]), weights: seededBlocks(2, ggufLayout('Q4_0').id, 21, 64) },
    attributes: { type: ggufLayout('Q4_0').id, outFeatures: 21, inFeatures: 64, layout: 'file', activations: 'q8-32' },
  }),
  scratch(io, { type }, limits) {
    const groupCount = groupsOf(io['x'], Number(type));
    return Math.max(0, ...tokenPieces(io, groupCount, limits).map(({ count }) => count * groupCount * scratchBytes));
  },
  plan(io, { type, outFeatures, activations }, limits, variant) {
    const { x, weights } = io;
    if (!x || !weights || x.shape[0] === 0 || outFeatures === 0) return [];
    const [rows, rowBytes] = weights.shape;
    const groupCount = groupsOf(x, Number(type));
    return tokenPieces(io, groupCount, limits).flatMap((some) => {
      const scratch = { scratch: { byteOffset: 0, byteLength: some.count * groupCount * scratchBytes } };
      const dispatch = (entryPoint: string, workgroups: number, piece: Piece) => ({
        entryPoint,
        workgroups: [workgroups] as const,
        uniforms: [
          ...[some.count, Number(outFeatures), groupCount === 0 ? x.shape[1] : groupCount, rowBytes],
          ...[groupCount === 0 ? Number(type) : activations === 'q8-32' ? 1 : 0, piece.start, piece.count],
        ].map(uniform.u32),
        ranges: { ...piece.ranges, ...some.ranges, ...(groupCount === 0 ? {} : scratch) },
      });
      const pieces = weightPieces('weights', rows, rowBytes, limits);
      const tokenGroups = Math.ceil(some.count / tokensPerGroup(x.shape[0], variant));
      const products = pieces.map((piece) =>
        dispatch('multiply', Math.ceil(piece.count / rowsPerGroup(variant)) * tokenGroups, piece),
      );
      if (groupCount === 0) return products;
      return [dispatch('prepare', groupsFor(some.count * groupCount)[0], pieces[0]), ...products];
    });
  },
};
