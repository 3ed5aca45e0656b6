import type * as FastCheck from 'fast-check';
import type { AttributeInput, Attributes, AttributeSpecs, AttributeValue } from './attributes.js';
import type { Backend, RunOptions } from './backend.js';
import type { DType, NumberArray } from './dtype.js';
import { OptionError } from './errors.js';
import type { Shape } from './shape.js';
import type { Tensor } from './tensor.js';
import type { WebGpuKernel } from './webgpu-kernel.js';

/** Shape and dtype of an argument or result. */
export interface TensorMeta {
  readonly shape: Shape;
  readonly dtype: DType;
}

/** What reference kernels see: numbers on the host. f16 and bf16 are widened to f32 and rounded back when written. */
export interface HostTensor extends TensorMeta {
  readonly data: NumberArray;
}

/** One generated input of the conformance suite. */
export interface OpCase {
  readonly inputs: Readonly<Record<string, HostTensor | undefined>>;
  readonly attributes: Readonly<Record<string, AttributeValue>>;
}

/** Largest accepted difference |a − b| ≤ absolute + relative·|b|. */
export interface Tolerance {
  readonly absolute: number;
  readonly relative: number;
}

export type Tolerances = Readonly<Record<string, Tolerance>>;

/** Maps declared input names to values; a name that ends in `?` is optional. */
export type InputsOf<I extends readonly string[], T> = {
  readonly [K in I[number] as K extends `${string}?` ? never : K]: T;
} & { readonly [K in I[number] as K extends `${infer N}?` ? N : never]?: T | undefined };
export type OutputsOf<O extends readonly string[], T> = { readonly [K in O[number]]: T };

/** Vector-Jacobian product: gradients of the inputs from gradients of the outputs, in terms of other ops. */
export type Gradient<I extends readonly string[], O extends readonly string[], A extends AttributeSpecs> = (context: {
  readonly inputs: InputsOf<I, Tensor>;
  readonly outputs: OutputsOf<O, Tensor>;
  readonly gradients: OutputsOf<O, Tensor | undefined>;
  readonly attributes: Attributes<A>;
}) => Partial<Record<string, Tensor>>;

export interface OpDefinition<I extends readonly string[], O extends readonly string[], A extends AttributeSpecs> {
  /** `package/op`, the name in errors, profiles and the conformance suite. */
  readonly name: string;
  /** Argument names in binding order; `name?` may be left out. */
  readonly inputs: I;
  readonly outputs: O;
  /** Attributes in the order in which they travel to the addon. */
  readonly attributes: A;
  /** Arguments that the op writes in place (pages of a cache); bumps their version. */
  readonly mutates?: readonly string[];
  /** Attributes a recording may change between replays. */
  readonly dynamic?: readonly (keyof A & string)[];
  /** Validates and returns the outputs' shapes and dtypes. Throws ShapeError, DTypeError or OptionError naming the argument. */
  infer(inputs: InputsOf<I, TensorMeta>, attributes: Attributes<A>): OutputsOf<O, TensorMeta>;
  /** The definition of the op: plain loops, float64 accumulation. Outputs arrive zero-filled; mutated inputs are written in place. */
  reference(io: InputsOf<I, HostTensor> & OutputsOf<O, HostTensor>, attributes: Attributes<A>): void;
  /** Name in the addon's op table. */
  readonly native?: string;
  readonly webgpu?: WebGpuKernel;
  /** Why the op has no WebGPU kernel on purpose; the conformance suite demands a kernel or this. */
  readonly nativeOnly?: string;
  readonly gradient?: Gradient<I, O, A>;
  /** Bytes of workspace the kernels may use. */
  scratch?(inputs: InputsOf<I, TensorMeta>, attributes: Attributes<A>): number;
  /** By output name, or `default`. Without it: exact for integers, 1e-5 for f32, 2e-3 for f16, 2e-2 for bf16, 1e-10 for f64. */
  readonly tolerance?: Tolerances | ((attributes: Attributes<A>) => Tolerances);
  /** Generates valid inputs: the conformance suite compares every backend with `reference` on them. */
  readonly cases?: (fc: typeof FastCheck) => FastCheck.Arbitrary<OpCase>;
}

/** An op with its argument types forgotten; what backends handle. */
export interface AnyOp {
  readonly name: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: AttributeSpecs;
  readonly mutates: readonly string[];
  readonly dynamic: readonly string[];
  readonly native?: string | undefined;
  readonly webgpu?: WebGpuKernel | undefined;
  readonly nativeOnly?: string | undefined;
  readonly tolerance?: Tolerances | ((attributes: Readonly<Record<string, AttributeValue>>) => Tolerances) | undefined;
  readonly cases?: ((fc: typeof FastCheck) => FastCheck.Arbitrary<OpCase>) | undefined;
  readonly infer: (
    inputs: Readonly<Record<string, TensorMeta | undefined>>,
    attributes: Readonly<Record<string, AttributeValue>>,
  ) => Readonly<Record<string, TensorMeta>>;
  readonly reference: (
    io: Readonly<Record<string, HostTensor | undefined>>,
    attributes: Readonly<Record<string, AttributeValue>>,
  ) => void;
}

/** Calling an op validates, allocates the outputs and queues the work; it returns at once. */
export interface Op<I extends readonly string[], O extends readonly string[], A extends AttributeSpecs> extends AnyOp {
  (inputs: InputsOf<I, Tensor>, attributes: AttributeInput<A>, options?: RunOptions): OutputsOf<O, Tensor>;
}

/**
 * Makes an op from its contract. Mark every use with `/* @__PURE__ *\/`, so that bundlers drop ops (and their shaders) that an app
 * does not import.
 */
export function defineOp<const I extends readonly string[], const O extends readonly string[], const A extends AttributeSpecs>(
  definition: OpDefinition<I, O, A>,
): Op<I, O, A> {
  const call = (inputs: InputsOf<I, Tensor>, attributes: AttributeInput<A>, options?: RunOptions): OutputsOf<O, Tensor> => {
    const backend = backendOf(definition.name, inputs as Readonly<Record<string, Tensor | undefined>>);
    return backend.run(
      op,
      inputs as Readonly<Record<string, Tensor | undefined>>,
      attributes as Readonly<Record<string, AttributeValue>>,
      options,
    ) as OutputsOf<O, Tensor>;
  };
  // `name` of a function is not writable, so it is defined rather than assigned.
  const { name, ...rest } = definition;
  Object.defineProperty(call, 'name', { value: name });
  const op = Object.assign(call, { mutates: [], dynamic: [], ...rest }) as unknown as Op<I, O, A>;
  return op;
}

/** The tolerance that an op states for an output of a call; undefined: the one of its dtype. */
export function statedTolerance(
  op: AnyOp,
  output: string,
  attributes: Readonly<Record<string, AttributeValue>>,
): Tolerance | undefined {
  const stated = typeof op.tolerance === 'function' ? op.tolerance(attributes) : op.tolerance;
  return stated?.[output] ?? stated?.['default'];
}

/** True for values made by {@link defineOp}. */
export function isOp(value: unknown): value is AnyOp {
  return typeof value === 'function' && 'infer' in value && 'reference' in value && 'attributes' in value;
}

/** Every call of an op asks for its names: they are made once per list. */
const namesOf = new WeakMap<readonly string[], readonly string[]>();

/** Argument names without the `?` of optional ones. */
export function inputNames(op: AnyOp): readonly string[] {
  let names = namesOf.get(op.inputs);
  if (!names) {
    names = op.inputs.map((name) => (name.endsWith('?') ? name.slice(0, -1) : name));
    namesOf.set(op.inputs, names);
  }
  return names;
}

export function isOptionalInput(op: AnyOp, index: number): boolean {
  return op.inputs[index].endsWith('?');
}

/** The text both sides of the addon hash: `core_rms_norm(x,weight)->(y)[eps]`; mutated arguments carry `!`, optional ones `?`. */
export function opSignature(op: AnyOp): string {
  const inputs = op.inputs.map((name) => (op.mutates.includes(name) ? `${name}!` : name));
  return `${op.native ?? op.name}(${inputs.join(',')})->(${op.outputs.join(',')})[${Object.keys(op.attributes).join(',')}]`;
}

/** 32-bit FNV-1a of {@link opSignature}, as hexadecimal; the addon exports the same for each op it has. */
export function layoutHash(signature: string): string {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(signature)) {
    hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  }
  return hash.toString(16).padStart(8, '0');
}

function backendOf(op: string, inputs: Readonly<Record<string, Tensor | undefined>>): Backend {
  for (const tensor of Object.values(inputs)) if (tensor) return tensor.backend;
  throw new OptionError(`${op}: no input tensor was given, so there is no backend to run on`);
}
