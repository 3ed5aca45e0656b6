import { fromArray, Random, scope, type Backend, type Tensor } from '@filigree/core-tensor';
import { median } from '../measure/median.js';

/** One kernel on one shape. */
export interface KernelTime {
  /** Shapes that are shown on one scale. */
  readonly group: string;
  readonly work: string;
  readonly milliseconds: number;
  /** Bytes it must move from memory. */
  readonly bytes: number;
  /** Multiplications and additions it must do. */
  readonly operations: number;
  /** Which ceiling stands over it. */
  readonly bound: 'read' | 'f32' | 'int8';
}

/** Median milliseconds of one call of `work` among `calls`, recorded together and replayed, as a model's step is: JavaScript has no share in it. */
export async function timeCalls(
  backend: Backend,
  rounds: number,
  calls: number,
  work: (call: number) => void,
): Promise<number> {
  const recording = backend.record(() => {
    scope(() => {
      for (let call = 0; call < calls; call++) work(call);
    });
  });
  const once = async (): Promise<number> => {
    const started = performance.now();
    recording.replay();
    await backend.sync();
    return (performance.now() - started) / calls;
  };
  await once();
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) times.push(await once());
  recording.dispose();
  return median(times);
}

/** Seeded values in ±½. */
export function randomTensor(backend: Backend, shape: readonly number[], seed: number): Tensor {
  const random = new Random(seed);
  const size = shape.reduce((product, dimension) => product * dimension, 1);
  return fromArray(
    backend,
    Float32Array.from({ length: size }, () => random.nextFloat() - 0.5),
    shape,
  );
}
