import { SinkWriteError } from '@filigree/checkpoint';
import { OptionError } from '@filigree/core-tensor';
import { open, rm, type FileHandle } from 'node:fs/promises';
import type { KvTier } from './tier/kv-tier.js';

/**
 * Pages in one file, which is made anew and removed on `close()`: a place for what does not fit into memory, not for what is to last. Slots have the size of the
 * first one that is written.
 *
 * @throws SinkWriteError when the file is there already or cannot be made
 */
export async function fileTier(path: string): Promise<KvTier> {
  let file: FileHandle;
  try {
    file = await open(path, 'wx+', 0o600);
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
    throw new SinkWriteError(`${path}: a file for pages cannot be made (${code})`, { cause });
  }
  let slotBytes = 0;
  const sizes = new Map<number, number>();
  return {
    name: path,
    async write(slot, bytes) {
      slotBytes ||= bytes.length;
      if (bytes.length > slotBytes) throw new OptionError(`${path}: ${bytes.length} bytes do not fit a slot of ${slotBytes}`);
      for (let done = 0; done < bytes.length;)
        done += (await file.write(bytes, done, bytes.length - done, slot * slotBytes + done)).bytesWritten;
      sizes.set(slot, bytes.length);
    },
    async read(slot) {
      const bytes = new Uint8Array(sizes.get(slot) ?? 0);
      let done = 0;
      while (done < bytes.length) {
        const { bytesRead } = await file.read(bytes, done, bytes.length - done, slot * slotBytes + done);
        if (bytesRead === 0) break;
        done += bytesRead;
      }
      return bytes.subarray(0, done);
    },
    free(slot) {
      sizes.delete(slot);
    },
    async close() {
      sizes.clear();
      await file.close();
      await rm(path, { force: true });
    },
  };
}
