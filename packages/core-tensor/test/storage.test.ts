import { createReferenceBackend, DisposedError, Storage } from '@filigree/core-tensor';
import { describe, expect, it } from 'vitest';

function fresh(): { storage: Storage; live: () => number } {
  const backend = createReferenceBackend();
  return { storage: new Storage(backend, backend.allocate(8), 8), live: () => backend.memory().liveBytes };
}

describe('Storage', () => {
  it('gives the buffer back with its last reference', () => {
    const { storage, live } = fresh();
    storage.retain().release();
    expect(storage.alive).toBe(true);
    expect(live()).toBe(8);
    storage.release();
    expect(storage.alive).toBe(false);
    expect(live()).toBe(0);
  });

  it('gives the buffer back once, however often it is released', () => {
    const { storage, live } = fresh();
    storage.release();
    storage.release();
    expect(live()).toBe(0);
    expect(storage.alive).toBe(false);
  });

  it('cannot be brought back', () => {
    const { storage } = fresh();
    storage.release();
    expect(() => storage.retain()).toThrow(DisposedError);
  });
});
