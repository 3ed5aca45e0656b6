import { cpuPaths } from '@filigree/backend-native';
import { cpus } from 'node:os';

/** The CPU path that the native backend takes: its widest, unless the environment holds it to a lower one. */
export function cpuPath(): string {
  return process.env['FILIGREE_CPU'] || (cpuPaths().at(-1) ?? 'scalar');
}

/** The CPU path, the threads and the processor, as records name them. */
export function cpuName(threads: number): string {
  return `${cpuPath()}, ${threads} threads, ${cpus().at(0)?.model.trim() ?? 'unknown processor'}`;
}
