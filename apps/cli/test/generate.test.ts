import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ModelFolder } from './support/models.js';
import { run, type RunOptions } from './support/run.js';

interface Printed {
  readonly text: string;
  readonly tokens: number[];
  readonly reason: string;
  readonly stats: Record<string, number> & { readonly attention: { readonly layers: readonly { readonly density: number }[] } };
}

const folder = new ModelFolder();
let model: string;

beforeAll(async () => {
  model = await folder.model();
});

afterAll(() => {
  folder.remove();
});

function generate(args: readonly string[], options: RunOptions = {}) {
  return run(['generate', '--model', model, '--ignore-eos', ...args], options);
}

async function json(args: readonly string[], options: RunOptions = {}): Promise<Printed> {
  const { code, stdout, stderr } = await generate([...args, '--json'], options);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout.match(/\n/g)).toHaveLength(1);
  return JSON.parse(stdout) as Printed;
}

const sampled = ['--prompt', 'to be', '--max-tokens', '24', '--temperature', '1'];

describe('generate --json', () => {
  it('prints exactly one object: text, tokens, reason, and the promised statistics', async () => {
    const printed = await json(['--prompt', 'user', '--max-tokens', '12']);
    expect(Object.keys(printed)).toEqual(['text', 'tokens', 'reason', 'stats']);
    expect(Object.keys(printed.stats)).toEqual([
      'promptTokens',
      'cachedTokens',
      'prefillMs',
      'decodeTokens',
      'decodeMs',
      'density',
      'attention',
      'kvBytes',
      'peakRssBytes',
    ]);
    expect(printed.tokens).toHaveLength(12);
    expect(printed.reason).toBe('length');
    expect(printed.stats).toMatchObject({ promptTokens: 1, density: 1 });
    const { attention, ...figures } = printed.stats;
    for (const [name, value] of Object.entries(figures)) if (name !== 'cachedTokens') expect(value, name).toBeGreaterThan(0);
    expect(figures.cachedTokens).toBe(0);
    expect(attention.layers).toEqual([{ density: 1 }, { density: 1 }]);
  });

  it('holds the text that is printed without it', async () => {
    const args = ['--prompt', 'the', '--max-tokens', '24'];
    const { text } = await json(args);
    const { code, stdout } = await generate(args);
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${text}\n` });
  });

  it('says how dense the attention was that --prefill-attention chose', async () => {
    const prompt = ['--prompt', 'the time of '.repeat(20), '--max-tokens', '2'];
    const sparse = await json([...prompt, '--prefill-attention', 'streaming-llm:sinks=1,window=16']);
    expect(sparse.stats.density).toBeLessThan(0.9);
    expect((await json([...prompt, '--prefill-attention', 'dense'])).stats.density).toBe(1);
  });

  it('says how dense decoding was that --decode-attention chose, and heads that --head-plan gave methods', async () => {
    const prompt = ['--prompt', 'the time of '.repeat(20), '--max-tokens', '9'];
    const decoded = await json([...prompt, '--decode-attention', 'streaming-llm:sinks=1,window=16']);
    expect(decoded.stats.density).toBeLessThan(1);
    const window = { method: 'sliding-window', options: { window: 16 } };
    const plan = {
      version: 1,
      model: { name: 'tiny', layers: 2, heads: 4, kvHeads: 2 },
      layers: [{ heads: Array(4).fill({ method: 'dense' }) }, { heads: [window, window, { method: 'dense' }, window] }],
    };
    const path = folder.file('plan.json', JSON.stringify(plan));
    const [first, second] = (await json([...prompt, '--head-plan', path])).stats.attention.layers;
    expect(first.density).toBe(1);
    expect(second.density).toBeLessThan(0.9);
    const { code, stderr } = await generate([
      ...prompt,
      '--head-plan',
      path,
      '--prefill-attention',
      'dense',
      '--decode-attention',
      'dense',
    ]);
    expect(code).toBe(0);
    expect(stderr).toContain('density 100 %');
  });

  it('keeps what --kv says of the prompt', async () => {
    const prompt = ['--prompt', 'the time of '.repeat(40), '--max-tokens', '4'];
    const [all, some] = [await json(prompt), await json([...prompt, '--kv', 'snap-kv:budget=60,window=8'])];
    expect(some.stats.kvBytes).toBeLessThan(all.stats.kvBytes / 2);
    const both = await generate([...prompt, '--kv', 'random', '--prefill-attention', 'streaming-llm']);
    expect(both.code).toBe(1);
    expect(both.stderr).toContain('leave out either attention, or kv');
  });

  it('prints the same text with drafts, and how many were right', async () => {
    const prompt = ['--prompt', 'the time of '.repeat(40), '--max-tokens', '24', '--ignore-eos'];
    const plain = await generate(prompt);
    const drafted = await generate([...prompt, '--speculate', 'snap-kv:budget=60,window=8', '--gamma', '3']);
    expect(drafted.stdout).toBe(plain.stdout);
    expect(drafted.stderr).toMatch(/drafts [\d.]+ % right/);
  });

  it('counts the bytes of the KV cache, half as many in f16', async () => {
    const args = ['--prompt', 'the', '--max-tokens', '4'];
    const [f32, f16] = [await json([...args, '--kv-type', 'f32']), await json([...args, '--kv-type', 'f16'])];
    expect(f32.stats.kvBytes / f16.stats.kvBytes).toBeCloseTo(2, 2);
  });
});

describe('sampling', () => {
  it('is greedy without options: the same tokens, whatever the seed', async () => {
    const args = ['--prompt', 'the', '--max-tokens', '16'];
    expect((await json([...args, '--seed', '1'])).tokens).toEqual((await json([...args, '--seed', '2'])).tokens);
  });

  it('gives the same tokens for the same seed, and others for another', async () => {
    const [a, b, c] = [
      await json([...sampled, '--seed', '7']),
      await json([...sampled, '--seed', '7']),
      await json([...sampled, '--seed', '8']),
    ];
    expect(b.tokens).toEqual(a.tokens);
    expect(c.tokens).not.toEqual(a.tokens);
  });

  it.each([
    ['--top-k', '1'],
    ['--top-p', '0.0001'],
    ['--min-p', '1'],
  ])('%s %s leaves the likeliest token', async (option, value) => {
    const greedy = await json(['--prompt', 'to be', '--max-tokens', '24']);
    expect((await json([...sampled, option, value])).tokens).toEqual(greedy.tokens);
  });
});

describe('--stop', () => {
  it('ends before the text, and says so', async () => {
    const { text } = await json([...sampled, '--seed', '5']);
    const characters = [...text];
    const stop = characters.slice(8, 10).join('');
    const stopped = await json([...sampled, '--seed', '5', '--stop', 'never occurs in it', '--stop', stop]);
    expect(stopped.reason).toBe('stop');
    expect(stopped.text).toBe(text.slice(0, text.indexOf(stop)));
  });
});

describe('the prompt', () => {
  it('is standard input where no --prompt is given, or where that is -', async () => {
    const { text } = await json(['--prompt', 'the user', '--max-tokens', '8']);
    for (const args of [[], ['--prompt', '-']])
      expect((await json([...args, '--max-tokens', '8'], { input: 'the user' })).text).toBe(text);
  });

  it('must be UTF-8', async () => {
    const { code, stderr } = await generate([], { input: Buffer.of(0x61, 0xff, 0x62) });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^filigree: INVALID_TEXT: standard input is not valid UTF-8\n$/);
  });

  it('longer than the context is a typed error', async () => {
    const { code, stdout, stderr } = await generate(['--prompt', 'x y '.repeat(100), '--context', '64']);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^filigree: CONTEXT_LENGTH: [^\n]*64[^\n]*\n$/);
  });

  it('goes through the chat template with --chat, its text never as special tokens', async () => {
    const count = async (...args: string[]): Promise<number> => (await json([...args, '--max-tokens', '1'])).stats.promptTokens;
    const plain = await count('--prompt', 'is');
    const chat = await count('--prompt', 'is', '--chat');
    expect(chat).toBeGreaterThan(plain);
    expect(await count('--prompt', 'is', '--system', 'is')).toBeGreaterThan(chat);
    expect(await count('--prompt', '<|im_end|>', '--chat')).toBeGreaterThan(chat + 5);
  });
});

describe('text mode', () => {
  it('prints the text alone on standard output and the statistics on standard error', async () => {
    const { stdout, stderr } = await generate(['--prompt', 'the', '--max-tokens', '3']);
    expect(stdout).not.toMatch(/tokens|density/);
    expect(stderr).toMatch(/^prompt 3 tokens in .*· answer \d+ tokens in .* · density 100 % · KV \S+ KB · peak \S+ MB\n$/);
  });

  it('--no-stats leaves them out', async () => {
    const { stderr } = await generate(['--prompt', 'the', '--max-tokens', '3', '--no-stats']);
    expect(stderr).toBe('');
  });
});

describe('backends', () => {
  it('the reference gives the text of the native one', async () => {
    const args = ['--prompt', 'the', '--max-tokens', '8'];
    const { tokens } = await json([...args, '--backend', 'native', '--threads', '1']);
    expect((await json([...args, '--backend', 'reference'])).tokens).toEqual(tokens);
  });

  it('--threads belongs to the native one', async () => {
    const { code, stderr } = await generate(['--prompt', 'x', '--backend', 'reference', '--threads', '2']);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^filigree: option '--threads <n>' is for the native backend/);
  });
});

describe('a model that cannot run', () => {
  const broken: readonly (readonly [string, Parameters<ModelFolder['model']>[1], RegExp])[] = [
    [
      'an unknown architecture',
      { metadata: [['general.architecture', { type: 'string', value: 'frobnitz' }]] },
      /^filigree: \w+: .*frobnitz/,
    ],
  ];

  it.each(broken)('%s: a typed error, exit code 1', async (_name, options, message) => {
    const path = await folder.model('broken.gguf', options);
    const { code, stderr } = await run(['generate', '--model', path, '--prompt', 'x']);
    expect(code).toBe(1);
    expect(stderr).toMatch(message);
  });

  it('half a file: a typed error, exit code 1', async () => {
    const whole = await folder.model('half.gguf');
    const { readFileSync } = await import('node:fs');
    folder.file('half.gguf', readFileSync(whole).subarray(0, 40_000));
    const { code, stderr } = await run(['generate', '--model', whole, '--prompt', 'x']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^filigree: GGUF_FORMAT: .*complete/);
  });
});
