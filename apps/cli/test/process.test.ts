import { useSoftwareGpu } from '@filigree/testing';
import type { ChildProcess } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ModelFolder } from './support/models.js';
import { bundleCli, ended, runProcess, start } from './support/run.js';

const folder = new ModelFolder();
/** So much that no test waits for its end. */
const long = ['--context', '1000000', '--max-tokens', '900000', '--ignore-eos'];
const endless = ['--prompt', 'the', ...long];
let model: string;

beforeAll(async () => {
  await bundleCli();
  model = await folder.model('tiny.gguf', { context: 2 ** 20 });
});

afterAll(() => {
  folder.remove();
});

/** Resolves at the first output on a stream that matches. */
function seen(child: ChildProcess, stream: 'stdout' | 'stderr', pattern = /./): Promise<void> {
  let text = '';
  return new Promise((resolve) => {
    child[stream]?.on('data', (chunk: Buffer | string) => {
      text += String(chunk);
      if (pattern.test(text)) resolve();
    });
  });
}

describe('Ctrl-C', () => {
  it('stops generating: what there was is printed, statistics too, and the code is 130', async () => {
    const child = start(['generate', '--model', model, ...endless]);
    const end = ended(child);
    await seen(child, 'stdout');
    child.kill('SIGINT');
    const { code, stdout, stderr } = await end;
    expect(code).toBe(130);
    expect(stdout).toMatch(/.\n$/s);
    expect(stderr).toMatch(/^prompt 3 tokens in .* answer \d+ tokens/);
  });

  it('with --json prints the object of the part, with reason "aborted"', async () => {
    // Nothing is printed before the end, so that the right moment is a guess. Too early, while loading, nothing is printed at all; still
    // earlier, Node has not come to the program.
    for (let wait = 1000; ; wait *= 2) {
      const child = start(['generate', '--model', model, ...endless, '--json']);
      const end = ended(child);
      await new Promise((resolve) => setTimeout(resolve, wait));
      child.kill('SIGINT');
      const { code, stdout } = await end;
      if (stdout === '' && wait < 20_000) continue;
      expect(code).toBe(130);
      const { reason, text, tokens } = JSON.parse(stdout) as { reason: string; text: string; tokens: number[] };
      expect(reason).toBe('aborted');
      expect(text).not.toBe('');
      expect(tokens.length).toBeGreaterThan(0);
      return;
    }
  });

  it('during the prompt ends it as well', async () => {
    const child = start(['generate', '--model', model, '--backend', 'reference', '--context', '10000']);
    const end = ended(child);
    child.stdin?.end('the time of the year '.repeat(500));
    // The line about the long prompt comes while it is being read.
    await seen(child, 'stderr', /read the prompt/);
    child.kill('SIGINT');
    const { code, stderr } = await end;
    expect(code).toBe(130);
    expect(stderr).toMatch(/answer 0 tokens/);
  });

  it('ends the wait for a prompt on standard input', async () => {
    // Killed at once, before Node has come to the program, it ends without a code.
    for (let wait = 500; ; wait *= 2) {
      const child = start(['generate', '--model', model]);
      const end = ended(child);
      await new Promise((resolve) => setTimeout(resolve, wait));
      child.kill('SIGINT');
      const { code, stdout } = await end;
      if (code === null && wait < 20_000) continue;
      expect({ code, stdout }).toEqual({ code: 130, stdout: '' });
      return;
    }
  });

  it('stops the portable backend too, which computes on the thread that listens', async () => {
    const child = start([
      'generate',
      '--model',
      model,
      '--backend',
      'reference',
      '--prompt',
      'the',
      '--ignore-eos',
      '--max-tokens',
      '8000',
    ]);
    const end = ended(child);
    await seen(child, 'stdout');
    child.kill('SIGINT');
    expect((await end).code).toBe(130);
  });

  it('SIGTERM ends with 143', async () => {
    const child = start(['generate', '--model', model, ...endless]);
    const end = ended(child);
    await seen(child, 'stdout');
    child.kill('SIGTERM');
    expect((await end).code).toBe(143);
  });
});

describe('Ctrl-C in chat', () => {
  it('stops the answer; a second one leaves', async () => {
    const child = start(['chat', '--model', model, ...long]);
    const end = ended(child);
    child.stdin?.write('hello\n');
    await seen(child, 'stdout');
    const stopped = seen(child, 'stderr', /answer \d+ tokens/);
    child.kill('SIGINT');
    await stopped;
    // It lives: another message is answered.
    const again = seen(child, 'stdout');
    child.stdin?.write('hello again\n');
    await again;
    const stoppedAgain = seen(child, 'stderr', /answer \d+ tokens/);
    child.kill('SIGINT');
    await stoppedAgain;
    child.kill('SIGINT');
    expect((await end).code).toBe(130);
  });

  it('leaves at once when nothing is being answered', async () => {
    const child = start(['chat', '--model', model, '--max-tokens', '2']);
    const end = ended(child);
    child.stdin?.write('hello\n');
    await seen(child, 'stderr', /answer/);
    child.kill('SIGINT');
    expect((await end).code).toBe(130);
  });
});

describe('a closed pipe', () => {
  it('ends the program quietly', async () => {
    const child = start(['generate', '--model', model, ...endless]);
    const end = ended(child);
    await seen(child, 'stdout');
    child.stdout?.destroy();
    const { code, stderr } = await end;
    expect({ code, stderr }).toEqual({ code: 141, stderr: '' });
  });
});

describe('--backend webgpu', () => {
  it('gives the text of the native one', async () => {
    useSoftwareGpu();
    const args = ['generate', '--model', model, '--prompt', 'the', '--max-tokens', '6', '--ignore-eos'];
    const native = await runProcess([...args, '--backend', 'native']);
    expect(await runProcess([...args, '--backend', 'webgpu', '--no-stats'])).toMatchObject({ code: 0, stdout: native.stdout });
  });
});

describe('without the native addon', () => {
  it('one line says so and how much slower it is, and the text comes all the same', async () => {
    const args = ['generate', '--model', model, '--prompt', 'the', '--max-tokens', '2', '--ignore-eos', '--no-stats'];
    const native = await runProcess(args);
    const portable = await runProcess(args, {
      env: { FILIGREE_NATIVE_ADDON: '/absent.node', VK_ICD_FILENAMES: '/absent.json' },
    });
    expect(portable).toMatchObject({ code: 0, stdout: native.stdout });
    expect(native.stderr).toBe('');
    expect(portable.stderr).toMatch(/^No native addon for [^\n]*slower\.\n$/);
  });

  it('--backend native says what is missing', async () => {
    const args = ['generate', '--model', model, '--prompt', 'the', '--backend', 'native'];
    const { code, stderr } = await runProcess(args, { env: { FILIGREE_NATIVE_ADDON: '/absent.node' } });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^filigree: BACKEND_UNAVAILABLE: /);
  });
});

describe('a process', () => {
  it('ends by itself when the work is done', async () => {
    const { code, stdout } = await runProcess([
      'generate',
      '--model',
      model,
      '--prompt',
      'the',
      '--max-tokens',
      '3',
      '--ignore-eos',
    ]);
    expect(code).toBe(0);
    expect(stdout).not.toBe('');
  });

  it('starts without loading models or GPUs: --help', async () => {
    expect(await runProcess(['--help'])).toMatchObject({ code: 0, stderr: '' });
  });
});
