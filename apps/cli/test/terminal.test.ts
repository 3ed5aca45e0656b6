import { spawn, type ChildProcess } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ModelFolder } from './support/models.js';
import { bundleCli, ended, nativeAddon } from './support/run.js';

const folder = new ModelFolder();
let model: string;
let program: string;

beforeAll(async () => {
  program = await bundleCli();
  model = await folder.model('tiny.gguf', { context: 2 ** 20 });
});

afterAll(() => {
  folder.remove();
});

/** The program at a terminal; what it prints and what it says come out together. `script` makes the terminal. */
class TerminalProcess {
  readonly #child: ChildProcess;
  readonly ended: ReturnType<typeof ended>;
  #screen = '';
  #seen = 0;
  readonly #waiting = new Set<() => void>();

  constructor(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    const command = [process.execPath, program, ...args].map((word) => `'${word.replaceAll("'", String.raw`'\''`)}'`).join(' ');
    const mac = process.platform === 'darwin';
    const script = mac ? ['-q', '/dev/null', '/bin/sh', '-c', command] : ['-qefc', command, '/dev/null'];
    this.#child = spawn('script', script, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, TERM: 'xterm', FILIGREE_NATIVE_ADDON: nativeAddon, ...env },
    });
    this.ended = ended(this.#child);
    this.#child.stdout?.on('data', (text: string) => {
      this.#screen += text;
      for (const check of this.#waiting) check();
    });
  }

  type(text: string): void {
    this.#child.stdin?.write(text);
  }

  /** Resolves when `pattern` has come up after what earlier calls saw. */
  async sees(pattern: RegExp): Promise<void> {
    await new Promise<void>((resolve) => {
      const check = (): void => {
        const match = pattern.exec(this.#screen.slice(this.#seen));
        if (!match) return;
        this.#seen += match.index + match[0].length;
        this.#waiting.delete(check);
        resolve();
      };
      this.#waiting.add(check);
      check();
    });
  }
}

describe('chat at a terminal', () => {
  it('prompts, answers, and leaves with /exit', async () => {
    const terminal = new TerminalProcess(['chat', '--model', model, '--max-tokens', '3', '--ignore-eos']);
    await terminal.sees(/> /);
    terminal.type('/help\r');
    await terminal.sees(/\/clear/);
    await terminal.sees(/> /);
    terminal.type('hello\r');
    await terminal.sees(/answer \d+ tokens/);
    await terminal.sees(/> /);
    terminal.type('/exit\r');
    expect((await terminal.ended).code).toBe(0);
  });

  it('answers lines pasted at once, one after the other', async () => {
    const terminal = new TerminalProcess(['chat', '--model', model, '--max-tokens', '3', '--ignore-eos']);
    await terminal.sees(/> /);
    terminal.type('one\rtwo\r');
    await terminal.sees(/answer \d+ tokens/);
    await terminal.sees(/answer \d+ tokens/);
    // Before the prompt the terminal itself would take the key, and hand on something else.
    await terminal.sees(/> /);
    terminal.type('\u0004');
    expect((await terminal.ended).code).toBe(0);
  });

  it('Ctrl-C stops an answer, then warns, then leaves', async () => {
    const terminal = new TerminalProcess([
      ...['chat', '--model', model, '--context', '1000000', '--max-tokens', '900000', '--ignore-eos'],
    ]);
    await terminal.sees(/> /);
    terminal.type('hello\r');
    // The echo of the line, then an answer.
    await terminal.sees(/hello\r+\n[^]/);
    terminal.type('\u0003');
    await terminal.sees(/answer \d+ tokens/);
    await terminal.sees(/> /);
    terminal.type('/clear\r');
    await terminal.sees(/forgotten/);
    await terminal.sees(/> /);
    terminal.type('\u0003');
    await terminal.sees(/Ctrl-C again leaves/);
    await terminal.sees(/> /);
    terminal.type('\u0003');
    expect((await terminal.ended).code).toBe(130);
  });

  it('a message that does not fit is reported, and the conversation goes on', async () => {
    const terminal = new TerminalProcess(['chat', '--model', model, '--max-tokens', '3', '--ignore-eos', '--context', '64']);
    await terminal.sees(/> /);
    terminal.type(`${'x '.repeat(100)}\r`);
    await terminal.sees(/CONTEXT_LENGTH/);
    await terminal.sees(/> /);
    terminal.type('hello\r');
    await terminal.sees(/answer \d+ tokens/);
    // Before the prompt the terminal itself would take the key, and hand on something else.
    await terminal.sees(/> /);
    terminal.type('\u0004');
    expect((await terminal.ended).code).toBe(0);
  });
});

describe('colour at a terminal', () => {
  it('is bold titles, and none with NO_COLOR', async () => {
    const plain = await new TerminalProcess(['methods'], { NO_COLOR: '1' }).ended;
    const bold = await new TerminalProcess(['methods'], { NO_COLOR: '' }).ended;
    expect(bold.stdout).toContain('\u001B[1mmethod\u001B[22m');
    expect(plain.stdout).not.toContain('\u001B[');
    expect(plain.stdout).toContain('streaming-llm');
  });
});
