import type { BindingRanges, UniformWord, WebGpuDispatch, WebGpuLimits } from './webgpu-kernel.js';

/** Words of a uniform block. */
export const uniform = {
  u32: (value: number): UniformWord => ({ type: 'u32', value }),
  i32: (value: number): UniformWord => ({ type: 'i32', value }),
  f32: (value: number): UniformWord => ({ type: 'f32', value }),
} as const;

/** Invocations per workgroup of the shaders that give one invocation to each element, word or row. */
export const invocationsPerGroup = 64;

/** Workgroups for one invocation per item. */
export function groupsFor(items: number): [number] {
  return [Math.ceil(items / invocationsPerGroup)];
}

/** Items `start … start + count` of a job, and what of each argument they touch. */
export interface Piece {
  readonly start: number;
  readonly count: number;
  readonly ranges: BindingRanges;
}

/**
 * Cuts `count` items into pieces whose part of every argument fits into one binding; item i of argument `name` is the bytes
 * `i · bytesPerItem[name] …`. Pieces but the last are multiples of `multiple` items, for dtypes whose elements share words.
 */
export function cut(
  count: number,
  bytesPerItem: Readonly<Record<string, number>>,
  limits: WebGpuLimits,
  multiple = 1,
): Piece[] {
  if (count === 0) return [];
  const most = itemsPerBinding(limits, Math.max(...Object.values(bytesPerItem)), multiple);
  if (count <= most) return [{ start: 0, count, ranges: {} }];
  const pieces: Piece[] = [];
  for (let start = 0; start < count; start += most) {
    const size = Math.min(most, count - start);
    const ranges = Object.entries(bytesPerItem).map(
      ([name, bytes]) => [name, { byteOffset: start * bytes, byteLength: size * bytes }] as const,
    );
    pieces.push({ start, count: size, ranges: Object.fromEntries(ranges) });
  }
  return pieces;
}

/** Items of `bytes` each that one binding holds, a multiple of `multiple`; at least that many, and the backend refuses what is too large. */
export function itemsPerBinding(limits: WebGpuLimits, bytes: number, multiple = 1): number {
  const fitting = Math.floor(limits.maxStorageBufferBindingSize / Math.max(1, bytes));
  return Math.max(1, Math.floor(fitting / multiple)) * multiple;
}

/** Elements that one 256-byte step of every dtype is a multiple of: pieces of that many start on words whatever the dtype. */
export const wordMultiple = 64;

/** One invocation per element; the first uniform is the count, `extra` follows. */
export function elementwiseDispatch(
  count: number,
  bytesPerElement: Readonly<Record<string, number>>,
  limits: WebGpuLimits,
  extra: readonly UniformWord[] = [],
): WebGpuDispatch[] {
  return cut(count, bytesPerElement, limits, wordMultiple).map((piece) => ({
    workgroups: groupsFor(piece.count),
    uniforms: [uniform.u32(piece.count), ...extra],
    ranges: piece.ranges,
  }));
}

/**
 * The elements [low, high) that an index of coordinates reaches while a row-major position runs through [start, end): exact at both ends of
 * the axes above the first one that varies, everything below it.
 */
export function reach(
  shape: readonly number[],
  strides: readonly number[],
  start: number,
  end: number,
): { readonly low: number; readonly high: number } {
  let [first, last] = [start, end - 1];
  const from: number[] = [];
  const to: number[] = [];
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    from[axis] = first % shape[axis];
    to[axis] = last % shape[axis];
    first = Math.floor(first / shape[axis]);
    last = Math.floor(last / shape[axis]);
  }
  let [low, high, varies] = [0, 0, false];
  for (let axis = 0; axis < shape.length; axis++) {
    const [a, b] = varies ? [0, shape[axis] - 1] : [from[axis], to[axis]];
    low += a * strides[axis];
    high += b * strides[axis];
    varies ||= a !== b;
  }
  return { low, high: high + 1 };
}

const composed = /* @__PURE__ */ new Map<string, string>();

/**
 * The shader text under `key`, composed once. A text made anew for every call would be hashed anew to find its pipeline, which costs more than
 * the rest of the call. Keys start with the op's name.
 */
export function composedShader(key: string, compose: () => string): string {
  const known = composed.get(key);
  if (known !== undefined) return known;
  const text = compose();
  composed.set(key, text);
  return text;
}
