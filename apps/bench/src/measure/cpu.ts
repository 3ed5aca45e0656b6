import { cpuPaths } from '@filigree/backend-native';
import { cpus } from 'node:os';

/** The CPU path that the native backend takes, the threads and the processor, as records name them. */
export function cpuName(threads: number): string {
  const path = process.env['FILIGREE_CPU'] || cpuPaths().at(-1);
  return `${path ?? 'scalar'}, ${threads} threads, ${cpus().at(0)?.model.trim() ?? 'unknown processor'}`;
}
