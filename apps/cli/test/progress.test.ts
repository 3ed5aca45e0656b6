import { Writable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Progress } from '../src/progress.js';

class Screen extends Writable {
  text = '';
  readonly columns = 80;

  constructor(readonly isTTY: boolean) {
    super();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.text += chunk.toString('utf8');
    done();
  }

  // What a terminal offers to a bar.
  cursorTo(): void {}
  clearLine(): void {}
  moveCursor(): void {}
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] });
});

afterEach(() => {
  vi.useRealTimers();
});

/** Half of the work, then `milliseconds`, then three quarters. */
function work(screen: Screen, milliseconds: number): Progress {
  const progress = new Progress(screen);
  progress.update('download x', 50_000, 100_000);
  vi.advanceTimersByTime(milliseconds);
  progress.update('download x', 75_000, 100_000);
  return progress;
}

describe('progress', () => {
  it('of quick work is not shown', () => {
    const screen = new Screen(true);
    work(screen, 900).stop();
    vi.advanceTimersByTime(5000);
    expect(screen.text).toBe('');
  });

  it('on a terminal is a bar once a second has passed', () => {
    const screen = new Screen(true);
    const progress = work(screen, 1100);
    expect(screen.text).toContain('download x █');
    expect(screen.text).toContain('50.0 KB of 100 KB');
    progress.stop();
  });

  it('elsewhere is one line, once', () => {
    const screen = new Screen(false);
    const progress = work(screen, 1100);
    progress.update('download x', 100_000, 100_000);
    progress.stop();
    expect(screen.text).toBe('download x (100 KB) …\n');
  });

  it('shows up even when the work reports nothing in between', () => {
    const screen = new Screen(false);
    const progress = new Progress(screen);
    progress.update('load', 0, undefined);
    vi.advanceTimersByTime(1500);
    progress.stop();
    expect(screen.text).toBe('load …\n');
  });

  it('of the next piece of work starts anew', () => {
    const screen = new Screen(false);
    const progress = work(screen, 1100);
    progress.update('verify x', 0, 10, 'tokens');
    vi.advanceTimersByTime(1100);
    progress.stop();
    expect(screen.text).toBe('download x (100 KB) …\nverify x (10 tokens) …\n');
  });
});
