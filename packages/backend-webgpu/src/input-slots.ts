import type { Tensor } from '@filigree/core-tensor';
import type { PooledBuffer } from './buffer-pool.js';
import type { CopyCommand } from './commands.js';
import { bufferOf } from './gpu-buffer.js';
import type { StepInput } from './recorded-step.js';

/** Inputs of a step that lay in one buffer. */
export interface InputSlot {
  readonly buffer: PooledBuffer;
  /** Indices of the inputs. */
  readonly members: readonly number[];
  /** True: replays get the same buffer each time, and it is bound. False: what is given is copied into a buffer of the recording. */
  readonly bound: boolean;
  /** Bytes of the buffer that the inputs lie in, from a place on where bindings may start. */
  readonly start: number;
  readonly bytes: number;
}

/** What a shader that copies bytes may bind behind the last one. */
const slack = 8;

/** Inputs by the buffer they lay in; those that came from the same place again are bound. `moving`: indices of inputs that are known to change. */
export function inputSlots(
  inputs: readonly StepInput[],
  given: readonly Tensor[],
  moving: ReadonlySet<number>,
  alignment: number,
): InputSlot[] {
  const byBuffer = new Map<PooledBuffer, number[]>();
  for (const [index, { buffer }] of inputs.entries()) {
    const members = byBuffer.get(buffer);
    if (members) members.push(index);
    else byBuffer.set(buffer, [index]);
  }
  return [...byBuffer].map(([buffer, members]) => {
    const first = Math.min(...members.map((index) => inputs[index].byteOffset));
    const end = Math.max(...members.map((index) => inputs[index].byteOffset + inputs[index].bytes));
    const start = first - (first % alignment);
    const stays = (index: number): boolean =>
      !moving.has(index) &&
      given[index].storage === inputs[index].storage &&
      given[index].byteOffset === inputs[index].byteOffset;
    return { buffer, members, bound: members.every(stays), start, bytes: end - start + slack };
  });
}

/** Whether what is given lies where a bound slot expects it. */
export function isInPlace({ buffer, members }: InputSlot, inputs: readonly StepInput[], given: readonly Tensor[]): boolean {
  return members.every(
    (index) => bufferOf(given[index].storage) === buffer && given[index].byteOffset === inputs[index].byteOffset,
  );
}

/** Whether copies of whole words move an input. */
export function isOnWords(input: StepInput, given: Tensor): boolean {
  return input.bytes === 0 || (input.byteOffset % 4 === 0 && given.byteOffset % 4 === 0);
}

/** The copies that bring what is given into the recording's buffer of a slot. */
export function copiesInto(
  to: PooledBuffer,
  { members, start }: InputSlot,
  inputs: readonly StepInput[],
  given: readonly Tensor[],
): CopyCommand[] {
  return members
    .filter((index) => inputs[index].bytes > 0)
    .map((index) => ({
      kind: 'copy',
      from: bufferOf(given[index].storage),
      fromOffset: given[index].byteOffset,
      to,
      toOffset: inputs[index].byteOffset - start,
      bytes: Math.ceil(inputs[index].bytes / 4) * 4,
    }));
}
