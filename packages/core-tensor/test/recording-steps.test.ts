import { createNativeBackend } from '@filigree/backend-native';
import { createWebGpuBackend } from '@filigree/backend-webgpu';
import {
  add,
  createReferenceBackend,
  fromArray,
  narrow,
  scope,
  sub,
  writeSlice,
  type Backend,
  type Tensor,
} from '@filigree/core-tensor';
import { useSoftwareGpu } from '@filigree/testing';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

/** What a step does with the values it has, the two inputs at first; each is [2, 2]. */
type Instruction =
  | { readonly kind: 'add' | 'sub'; readonly a: number; readonly b: number }
  | { readonly kind: 'read' | 'write'; readonly buffer: number; readonly row: number; readonly a: number }
  | { readonly kind: 'write-input'; readonly input: number; readonly a: number };

/** Which rows of which buffer an input is. */
interface Place {
  readonly buffer: number;
  readonly row: number;
}

interface Case {
  readonly instructions: readonly Instruction[];
  readonly rounds: readonly { readonly a: Place; readonly b: Place; readonly wait: boolean }[];
}

const rows = 6;
const buffers = 4;

const index = fc.nat(9);
const row = fc.nat(rows - 2);
const instruction: fc.Arbitrary<Instruction> = fc.oneof(
  fc.record({ kind: fc.constantFrom('add' as const, 'sub' as const), a: index, b: index }),
  fc.record({ kind: fc.constant('read' as const), buffer: fc.nat(1), row, a: index }),
  fc.record({ kind: fc.constant('write' as const), buffer: fc.nat(1), row, a: index }),
  fc.record({ kind: fc.constant('write-input' as const), input: fc.nat(1), a: index }),
);
// The first two buffers are also what the step reads and writes itself.
const place: fc.Arbitrary<Place> = fc.record({
  buffer: fc.oneof({ weight: 3, arbitrary: fc.constantFrom(2, 3) }, { weight: 1, arbitrary: fc.constantFrom(0, 1) }),
  row,
});
const cases: fc.Arbitrary<Case> = fc.record({
  instructions: fc.array(instruction, { minLength: 1, maxLength: 6 }),
  rounds: fc.array(fc.record({ a: place, b: place, wait: fc.boolean() }), { minLength: 3, maxLength: 7 }),
});

/** What every round returns, and the buffers at the end. */
async function run(backend: Backend, { instructions, rounds }: Case, recorded: boolean): Promise<number[][]> {
  const held = Array.from({ length: buffers }, (_, at) =>
    fromArray(
      backend,
      Array.from({ length: 2 * rows }, (_, element) => 100 * at + element),
      [rows, 2],
    ),
  );
  const step = (a: Tensor, b: Tensor): Tensor[] =>
    scope(() => {
      const inputs = [a, b];
      const values = [a, b];
      const made: Tensor[] = [];
      const push = (value: Tensor): void => {
        values.push(value);
        made.push(value);
      };
      const value = (at: number): Tensor => values[at % values.length];
      for (const instruction of instructions) {
        if (instruction.kind === 'add') push(add(value(instruction.a), value(instruction.b)));
        else if (instruction.kind === 'sub') push(sub(value(instruction.a), value(instruction.b)));
        else if (instruction.kind === 'read')
          push(add(narrow(held[instruction.buffer], instruction.row, 2), value(instruction.a)));
        else {
          // Not from what is written: an op that reads and writes the same bytes has no order.
          const source = add(value(instruction.a), value(instruction.a));
          if ('input' in instruction) writeSlice(inputs[instruction.input], narrow(source, 0, 1), { axis: 0, start: 1 });
          else if (instruction.kind === 'write')
            writeSlice(held[instruction.buffer], source, { axis: 0, start: instruction.row });
        }
      }
      return made.slice(-2);
    });
  const recording = recorded ? backend.record(step) : { replay: step, dispose: () => undefined };
  const results: Tensor[][] = [];
  for (const { a, b, wait } of rounds) {
    const inputs = [a, b].map(({ buffer, row }) => narrow(held[buffer], row, 2)) as [Tensor, Tensor];
    results.push(recording.replay(...inputs));
    for (const input of inputs) input.dispose();
    if (wait) await backend.sync();
  }
  recording.dispose();
  const all = [...results.flat(), ...held];
  const read = await Promise.all(all.map(async (tensor) => Array.from(await tensor.readNumbers())));
  for (const tensor of all) tensor.dispose();
  return read;
}

const backends: [string, () => Backend | Promise<Backend>][] = [
  ['native', () => createNativeBackend({ threads: 2, fallback: 'error' })],
  [
    'webgpu',
    () => {
      useSoftwareGpu();
      return createWebGpuBackend({ fallback: 'error' });
    },
  ],
];

describe.each(backends)('recordings on the %s backend', (_, make) => {
  let backend: Backend;
  const reference = createReferenceBackend();

  beforeAll(async () => {
    backend = await make();
  });

  afterAll(() => {
    backend.dispose();
  });

  it('do what calling the step does, whatever it is and whatever its inputs are', async () => {
    await fc.assert(
      fc.asyncProperty(cases, async (generated) => {
        const found = await run(backend, generated, true);
        expect(found).toEqual(await run(reference, generated, false));
        await backend.sync();
        expect(backend.memory()).toMatchObject({ liveBytes: 0, buffers: 0 });
      }),
      { numRuns: 300, seed: 7 },
    );
  });
});
