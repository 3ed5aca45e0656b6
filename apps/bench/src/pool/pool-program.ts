import { join } from 'node:path';
import { repositoryRoot } from '../measure/paths.js';
import { runProgram } from '../measure/run-program.js';

/** One figure of a pool, as kernels/native/pool-bench prints it. */
export interface PoolFigure {
  readonly work: string;
  readonly unit: 'µs' | 'tokens/s';
  readonly value: number;
  /** What a token reads; 0 where nothing is read. */
  readonly bytes: number;
}

export type PoolName = 'filigree' | 'rayon';

/** Builds the program that measures pools, unless it is built; runs it for one pool in a process of its own. Needs cargo. */
export async function poolProgram(): Promise<(pool: PoolName, threads: number) => Promise<PoolFigure[]>> {
  const crates = join(repositoryRoot, 'kernels/native');
  const manifest = ['--manifest-path', join(crates, 'Cargo.toml')];
  await runProgram('cargo', ['build', '--release', '--locked', '--quiet', ...manifest, '-p', 'filigree-pool-bench']);
  const target = process.env['CARGO_TARGET_DIR'] ?? join(crates, 'target');
  const program = join(target, 'release/filigree-pool-bench');
  return async (pool, threads) => JSON.parse(await runProgram(program, [pool, String(threads)])) as PoolFigure[];
}
