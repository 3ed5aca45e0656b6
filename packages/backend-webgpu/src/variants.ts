import {
  isFloat,
  type AnyOp,
  type Backend,
  fromArray,
  type HostTensor,
  inputNames,
  numberArray,
  type OpCase,
  type ShaderVariant,
  sizeOf,
  statedTolerance,
  type Tensor,
  type WebGpuKernel,
} from '@filigree/core-tensor';

export const plainVariant: ShaderVariant = { f16: false, dot4: false, subgroups: false };

const parts = ['f16', 'dot4', 'subgroups'] as const satisfies readonly (keyof ShaderVariant)[];

/** `plain`, or its parts: `f16`, `dot4+subgroups`, … */
export function variantName(variant: ShaderVariant): string {
  return parts.filter((part) => variant[part]).join('+') || 'plain';
}

/** A variant that gave a wrong result on this device and is not used. */
export interface DisabledVariant {
  readonly op: string;
  readonly variant: string;
  readonly reason: string;
}

/** Variants a kernel has and the device can run, most special first; the plain one is not listed. */
export function candidates(kernel: WebGpuKernel, features: ShaderVariant): ShaderVariant[] {
  const usable = parts.filter((part) => features[part] && kernel.variants?.includes(part));
  const found: ShaderVariant[] = [];
  // As binary numbers whose highest bit is the last part: with all parts first, subgroups before the others alone.
  for (let set = 2 ** usable.length - 1; set > 0; set--)
    found.push({ ...plainVariant, ...Object.fromEntries(usable.map((part, bit) => [part, ((set >> bit) & 1) === 1])) });
  return found;
}

/** Runs the kernel's self-test with whatever variant `run` forces; returns what is wrong, or undefined. */
export async function selfTest(
  op: AnyOp,
  { inputs, attributes }: OpCase,
  backend: Backend,
  run: (tensors: Readonly<Record<string, Tensor>>) => Record<string, Tensor>,
): Promise<string | undefined> {
  const expected = expectedOf(op, { inputs, attributes });
  const tensors: Record<string, Tensor> = {};
  let outputs: Record<string, Tensor> = {};
  try {
    for (const name of inputNames(op)) {
      const host = inputs[name];
      if (host) tensors[name] = fromArray(backend, host.data, host.shape, host.dtype);
    }
    outputs = run(tensors);
    for (const [name, host] of Object.entries(expected)) {
      const values = await (outputs[name] ?? tensors[name]).readNumbers();
      const wrong = firstWrong(op, name, attributes, values, host);
      if (wrong !== undefined) return `${name} ${wrong}`;
    }
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  } finally {
    for (const tensor of [...Object.values(tensors), ...Object.values(outputs)]) tensor.dispose();
  }
}

/** Outputs and mutated inputs as the op's definition gives them. */
function expectedOf(op: AnyOp, { inputs, attributes }: OpCase): Record<string, HostTensor> {
  const io: Record<string, HostTensor> = {};
  for (const [name, host] of Object.entries(inputs)) if (host) io[name] = { ...host, data: host.data.slice() };
  const metas = op.infer(inputs, attributes);
  for (const name of op.outputs) {
    const { shape, dtype } = metas[name];
    io[name] = { shape, dtype, data: numberArray(dtype, sizeOf(shape)) };
  }
  op.reference(io, attributes);
  return Object.fromEntries([...op.outputs, ...op.mutates].map((name) => [name, io[name]]));
}

function firstWrong(
  op: AnyOp,
  name: string,
  attributes: OpCase['attributes'],
  actual: ArrayLike<number>,
  expected: HostTensor,
): string | undefined {
  const stated = statedTolerance(op, name, attributes);
  const { absolute, relative } =
    stated ?? (isFloat(expected.dtype) ? { absolute: 1e-4, relative: 1e-4 } : { absolute: 0, relative: 0 });
  for (let index = 0; index < expected.data.length; index++) {
    const [a, b] = [actual[index], expected.data[index]];
    if (!(Math.abs(a - b) <= absolute + relative * Math.abs(b))) return `element ${index} is ${a}, expected ${b}`;
  }
  return undefined;
}
