import type { BenchRecord } from './record.js';

export interface SuiteOptions {
  readonly threads: number;
  /** Rounds of which medians are taken. */
  readonly rounds: number;
  /** Ids of the models to measure; all of them when empty. */
  readonly models: readonly string[];
  /** Contexts to measure at; those of the suite when empty. */
  readonly contexts: readonly number[];
  /** Weight types to measure; all of them when empty. */
  readonly types: readonly string[];
  /** Folder of llama.cpp's programs; built when absent. */
  readonly llamaBin: string | undefined;
  /** Says what is being done, on stderr. */
  readonly progress: (message: string) => void;
}

/** A set of measurements that `bench <id>` runs. */
export interface Suite {
  readonly id: string;
  readonly title: string;
  run(options: SuiteOptions): Promise<BenchRecord[]>;
}
