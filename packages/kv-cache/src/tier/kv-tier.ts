/**
 * Where pages go that do not fit the pool: slots of bytes, numbered from 0 without gaps that stay. It lives as long as its process; nothing in it is
 * trusted, readers check what they get.
 */
export interface KvTier {
  readonly name: string;
  write(slot: number, bytes: Uint8Array): Promise<void>;
  /** What was written last. */
  read(slot: number): Promise<Uint8Array>;
  /** The slot is free; whoever owns it may use it again. */
  free(slot: number): void;
  close(): Promise<void>;
}

/** Pages in the memory of the host, for pools on a device. */
export function memoryTier(): KvTier {
  const slots = new Map<number, Uint8Array>();
  return {
    name: 'memory',
    write(slot, bytes) {
      slots.set(slot, bytes.slice());
      return Promise.resolve();
    },
    read: (slot) => Promise.resolve(slots.get(slot)?.slice() ?? new Uint8Array(0)),
    free(slot) {
      slots.delete(slot);
    },
    close() {
      slots.clear();
      return Promise.resolve();
    },
  };
}
