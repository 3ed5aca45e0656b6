import { Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { BrokenPipeError, OutputError } from '../src/errors.js';
import { Output } from '../src/output.js';

const failing = (code: string): Writable =>
  new Writable({
    write(_chunk, _encoding, done) {
      done(Object.assign(new Error(`write ${code}`), { code }));
    },
  });

describe('Output', () => {
  it('waits for a slow reader', async () => {
    let release = (): void => undefined;
    const slow = new Writable({
      highWaterMark: 1,
      write(_chunk, _encoding, done) {
        release = done;
      },
    });
    const out = new Output(slow, () => undefined);
    let written = false;
    const writing = out.write('text').then(() => (written = true));
    await new Promise(setImmediate);
    expect(written).toBe(false);
    release();
    await writing;
    expect(written).toBe(true);
  });

  it('says that nobody reads any more, to the writer and to who produces', async () => {
    let broken = 0;
    const out = new Output(failing('EPIPE'), () => broken++);
    await out.write('a').catch(() => undefined);
    await new Promise(setImmediate);
    await expect(out.write('b')).rejects.toBeInstanceOf(BrokenPipeError);
    expect(broken).toBeGreaterThan(0);
    await out.finish();
  });

  it('other failures are errors that say why', async () => {
    const out = new Output(failing('ENOSPC'), () => undefined);
    await out.write('a').catch(() => undefined);
    await out.finish();
    await new Promise(setImmediate);
    expect(out.failure).toBeInstanceOf(OutputError);
    expect(out.failure?.message).toContain('ENOSPC');
  });
});
