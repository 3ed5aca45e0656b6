import {
  composedShader,
  cut,
  groupsFor,
  seededTensor,
  uniform,
  type AttributeValue,
  type OpCase,
  type Piece,
  type ShaderVariant,
  type TensorMeta,
  type WebGpuKernel,
  type WebGpuLimits,
} from '@filigree/core-tensor';
import activations from '@filigree/wgsl/quantization/activations.wgsl';
import finishPartials from '@filigree/wgsl/quantization/finish-partials.wgsl';
import finishPlain from '@filigree/wgsl/quantization/finish-plain.wgsl';
import finishSubgroups from '@filigree/wgsl/quantization/finish-subgroups.wgsl';
import halvesDot4 from '@filigree/wgsl/quantization/halves-dot4.wgsl';
import halvesFloats from '@filigree/wgsl/quantization/halves-floats.wgsl';
import multiplyBlocks from '@filigree/wgsl/quantization/matmul-blocks.wgsl';
import multiplyFloats from '@filigree/wgsl/quantization/matmul-floats.wgsl';
import multiplyTiles from '@filigree/wgsl/quantization/matmul-tiles.wgsl';
import multiplyVector from '@filigree/wgsl/quantization/matvec-blocks.wgsl';
import words from '@filigree/wgsl/quantization/words.wgsl';
import { activationGroup, type ActivationMode } from '../activations.js';
import { seededBlocks } from '../cases.js';
import { takesFloats, weightLayout, weightLayoutById } from '../gguf/types.js';
import { weightDecoder, weightPieces } from './webgpu-decoders.js';

type Io = Readonly<Record<string, TensorMeta | undefined>>;

/** Tokens from which on a tile of {@link tileSize} tokens is worth its barriers; fewer are multiplied in registers. */
const tiledFrom = 17;
/** Rows and tokens of a tile of matmul-tiles.wgsl. */
const tileSize = 32;
/** Invocations of a workgroup. */
const groupSize = 64;

/** How a call is computed. */
interface Form {
  readonly type: number;
  /** Weights and activations go through workgroup memory. */
  readonly tiled: boolean;
  /** Invocations that share `rows` rows of weights and `tokens` tokens; of a tile, all of them. */
  readonly lanes: number;
  readonly rows: number;
  readonly tokens: number;
  /** Inputs come in groups of {@link activationGroup}; floats, which have no blocks, are taken one by one. */
  readonly grouped: boolean;
  /** Activations are codes in words, and dots are those of four signed bytes. */
  readonly dot4: boolean;
  readonly subgroups: boolean;
}

function formOf(io: Io, attributes: Readonly<Record<string, AttributeValue>>, variant: ShaderVariant): Form {
  const type = Number(attributes['type']);
  const tokens = io['x']?.shape[0] ?? 1;
  const grouped = !takesFloats(weightLayoutById(type).name);
  const tiled = grouped && tokens >= tiledFrom;
  const width = io['x']?.shape[1] ?? 0;
  const dot4 = variant.dot4 && grouped && attributes['activations'] === 'q8-32';
  if (tiled) return { type, tiled, lanes: groupSize, rows: tileSize, tokens: tileSize, grouped, dot4, subgroups: false };
  return {
    type,
    tiled,
    lanes: lanesFor(grouped ? width / activationGroup : width),
    rows: grouped && tokens === 1 ? 4 : 1,
    tokens: tokens === 1 ? 1 : tokens <= 4 ? 4 : 8,
    grouped,
    dot4,
    subgroups: variant.subgroups,
  };
}

/**
 * Invocations that share a row of `count` groups or elements: as many as still take two each, so that at most a third idles at the end. Not a
 * matter of the tokens, so that a row's sums are added in the same order for any number of them.
 */
function lanesFor(count: number): number {
  return Math.min(groupSize, Math.max(4, 2 ** Math.floor(Math.log2(Math.max(1, count / 2)))));
}

/** Bytes of the activations of one group in scratch: codes in words or as f32, then scale and sums. */
function scratchBytes({ dot4 }: Form): number {
  return (dot4 ? activationGroup : 4 * activationGroup) + 16;
}

/** Groups of a row of x, or 0 for types without blocks. */
function groupsOf(io: Io, { grouped }: Form): number {
  return grouped ? (io['x']?.shape[1] ?? 0) / activationGroup : 0;
}

/** Tokens in pieces whose part of every argument, and of the scratch, fits into a binding. */
function tokenPieces(io: Io, form: Form, limits: WebGpuLimits): Piece[] {
  const { x, residual, y } = io;
  if (!x || !y) return [];
  const rowBytes = 4 * y.shape[1];
  const perToken = { x: 4 * x.shape[1], y: rowBytes, ...(residual ? { residual: rowBytes } : {}) };
  const scratch = groupsOf(io, form) * scratchBytes(form);
  return cut(x.shape[0], scratch > 0 ? { ...perToken, scratch } : perToken, limits);
}

/** The module for the arguments that are there: absent optional ones have no binding. */
function composed(io: Io, form: Form): string {
  const { type, tiled, lanes, rows, tokens, grouped, dot4, subgroups } = form;
  const bound = ['x', 'weights', 'bias', 'residual'].filter((argument) => io[argument] !== undefined);
  const all = [...bound, 'y', ...(grouped ? ['scratch'] : [])];
  const elements: Readonly<Record<string, string>> = { weights: 'u32', scratch: 'Activations' };
  const bindings = all.map((argument, index) => {
    const access = index < bound.length ? 'read' : 'read_write';
    return `@group(0) @binding(${index}) var<storage, ${access}> ${argument}: array<${elements[argument] ?? 'f32'}>;`;
  });
  const offset = (argument: string): string => `p.offsets[${all.indexOf(argument) >> 2}][${all.indexOf(argument) & 3}]`;
  const bias = io['bias'] ? ` + bias[${offset('bias')} + row]` : '';
  const residual = io['residual'] ? ` + residual[${offset('residual')} + token * p.out_features + row]` : '';
  const result = `fn write_result(token: u32, row: u32, sum: f32) {
  y[${offset('y')} + token * p.out_features + row] = sum${bias}${residual};
}`;
  const block = `@group(0) @binding(${all.length}) var<uniform> p: Parameters;`;
  const decoder = weightDecoder(weightLayoutById(type).name);
  const multiply = tiled ? multiplyTiles : tokens === 1 ? multiplyVector : multiplyBlocks;
  const source = grouped ? [decoder, dot4 ? halvesDot4 : halvesFloats, activations, multiply] : [decoder, multiplyFloats];
  return [
    subgroups ? 'enable subgroups;' : '',
    dot4 ? 'requires packed_4x8_integer_dot_product;' : '',
    ...(tiled ? [] : [finishPartials, subgroups ? finishSubgroups : finishPlain]),
    words,
    ...source,
  ]
    .join('\n')
    .replace('/* bindings */', [...bindings, block, result].join('\n'))
    .replaceAll('OFFSET_WORDS', String(Math.ceil(all.length / 4)))
    .replaceAll('PARTIALS', `${groupSize * rows * tokens}u`)
    .replaceAll('LANES', `${lanes}u`)
    .replaceAll('ROWS', `${rows}u`)
    .replaceAll('SUMS', `${rows * tokens}u`)
    .replaceAll('TOKENS', `${tokens}u`)
    .replaceAll('X_OFFSET', offset('x'))
    .replaceAll('WEIGHTS_OFFSET', offset('weights'));
}

export const matmulKernel: WebGpuKernel = {
  shader(variant, io, attributes) {
    const form = formOf(io, attributes, variant);
    const given = `${io['bias'] ? 'bias' : ''} ${io['residual'] ? 'residual' : ''}`;
    return composedShader(`quantization/matmul ${given} ${Object.values(form).join(' ')}`, () => composed(io, form));
  },
  variants: ['dot4', 'subgroups'],
  selfTest: () => [selfTestCase('Q4_0', 1, 4096), selfTestCase('Q4_0', 5, 64), selfTestCase('Q5_1', tiledFrom, 64)],
  scratch(io, attributes, limits, variant) {
    const form = formOf(io, attributes, variant);
    const bytes = groupsOf(io, form) * scratchBytes(form);
    return Math.max(0, ...tokenPieces(io, form, limits).map(({ count }) => count * bytes));
  },
  plan(io, attributes, limits, variant) {
    const { x, weights } = io;
    const { type, activations: mode } = attributes;
    const outFeatures = Number(attributes['outFeatures']);
    if (!x || !weights || x.shape[0] === 0 || outFeatures === 0) return [];
    const form = formOf(io, attributes, variant);
    const [rows, rowBytes] = weights.shape;
    const groupCount = groupsOf(io, form);
    const about = form.grouped ? [groupCount, rowBytes, mode === 'q8-32' ? 1 : 0] : [x.shape[1], rowBytes, Number(type)];
    return tokenPieces(io, form, limits).flatMap((some) => {
      const scratch = { scratch: { byteOffset: 0, byteLength: some.count * groupCount * scratchBytes(form) } };
      const dispatch = (entryPoint: string, workgroups: number, piece: Piece) => ({
        entryPoint,
        workgroups: [workgroups] as const,
        uniforms: [some.count, outFeatures, ...about, piece.start, piece.count].map(uniform.u32),
        ranges: { ...piece.ranges, ...some.ranges, ...(form.grouped ? scratch : {}) },
      });
      const pieces = weightPieces('weights', rows, rowBytes, limits);
      const rowsHere = form.tiled ? form.rows : (groupSize / form.lanes) * form.rows;
      const tokenGroups = Math.ceil(some.count / form.tokens);
      const products = pieces.map((piece) => dispatch('multiply', Math.ceil(piece.count / rowsHere) * tokenGroups, piece));
      if (!form.grouped) return products;
      return [dispatch('prepare', groupsFor(some.count * groupCount)[0], pieces[0]), ...products];
    });
  },
};

function selfTestCase(type: string, tokens: number, inFeatures: number): OpCase {
  const { id } = weightLayout(type);
  const activations: ActivationMode = 'q8-32';
  return {
    inputs: { x: seededTensor(1, [tokens, inFeatures]), weights: seededBlocks(2, id, 21, inFeatures) },
    attributes: { type: id, outFeatures: 21, inFeatures, layout: 'file', activations },
  };
}
