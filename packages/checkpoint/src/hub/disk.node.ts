import { FiligreeError } from '@filigree/core-tensor';

/** Names a failure of the file system: `disk-full` or `file-system`; undefined for errors of other kinds. */
export function diskFailure(error: unknown): { kind: 'disk-full' | 'file-system'; code: string } | undefined {
  if (error instanceof FiligreeError || !(error instanceof Error) || !('code' in error) || typeof error.code !== 'string')
    return undefined;
  if (error.code === 'ENOSPC' || error.code === 'EDQUOT') return { kind: 'disk-full', code: error.code };
  return 'syscall' in error ? { kind: 'file-system', code: error.code } : undefined;
}
